"""Shots with known answers, rendered by Blender: what the benchmark of removal is measured on."""
