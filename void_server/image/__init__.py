"""Pixels as a compositor means them: files, light, windows, mattes, grain. This room loads no model.

All arrays are [H, W, C] or [T, H, W, C], float32, y down, and say in their names whether they are light (`_lin`).
"""
