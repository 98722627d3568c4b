"""Clips with known answers, made of real ones: as arrays, and as files."""
