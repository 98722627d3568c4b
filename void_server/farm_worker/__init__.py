"""What a farm's worker runs around the main path: a task, the assembly of chunks, one warm daemon a session."""
