"""Frames on disk: names, numbers, and other formats than EXR."""
