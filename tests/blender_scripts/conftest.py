"""These files run inside Blender's Python only; `tests/test_blender.py` starts them and reports each claim."""

collect_ignore_glob = ["*"]
