"""Lays one frame over another: motion, its continuation into a hole, depth, and how frames vote."""
