"""Engines against the truth, against each other and against the released code."""
