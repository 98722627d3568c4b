"""Looks at a whole shot once, small: where the camera stood, what strays from its motion, who sees what."""
