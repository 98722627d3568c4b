"""These files run inside a windowed Blender's Python only; `tests/test_blender_window.py` starts them."""

collect_ignore_glob = ["*"]
