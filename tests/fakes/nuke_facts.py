"""Names of knobs and counts of inputs of the native nodes that the gizmos use.

Source: a scan of Nuke 17.0v3 (github.com/kirkjr2/nuke-python-reference, data/nodes/*.json); those of the EXR writer
(datatype, compression), which appear with file_type, from scripts saved by Nuke.
"""

from __future__ import annotations

_MASKED = {"mix", "maskChannelInput", "maskChannelMask", "invert_mask", "inject", "fringe"}
_COMPUTED = {f"{k}{i}" for k in ("temp_name", "temp_expr", "channel", "expr") for i in range(4)} | _MASKED

KNOBS: dict[str, set[str]] = {
    "Input": {"number"},
    "Output": set(),
    "Copy": {f"{k}{i}" for k in ("from", "to") for i in range(4)} | {"channels", "bbox", "metainput"} | _MASKED,
    "Expression": _COMPUTED,
    "MergeExpression": _COMPUTED,
    "Dilate": {"channels", "size"} | _MASKED,
    "Blur": {"channels", "size", "filter", "quality", "crop"} | _MASKED,
    "Switch": {"which"},
    "Grade": {"white", "whitepoint", "black", "blackpoint", "multiply", "add", "gamma", "channels"} | _MASKED,
    "Merge2": {"operation", "output", "Achannels", "Bchannels", "bbox", "also_merge", "metainput"} | _MASKED,
    "Crop": {"box", "crop", "intersect", "preset", "reformat", "reset", "softness"},
    "StickyNote": set(),
    "Viewer": {"frame_range", "frame_range_lock"},
    "Assert": {"expression", "message"},
    "TimeWarp": {"lookup", "filter", "length", "time"},
    "Read": {
        "file", "file_type", "first", "last", "origfirst", "origlast", "origset", "before", "after", "frame",
        "frame_mode", "on_error", "raw", "colorspace", "premultiplied", "auto_alpha", "proxy", "reload",
        "localizationPolicy", "format",
    },
    "Write": {
        "file", "file_type", "channels", "raw", "views", "datatype", "compression", "create_directories", "first",
        "last", "use_limit", "frame", "frame_mode", "proxy", "colorspace", "on_error", "autocrop",
    },
}  # fmt: skip

INPUTS = {
    "Input": 0, "Read": 0, "Output": 1, "Copy": 3, "Expression": 2, "MergeExpression": 3, "Dilate": 2, "Blur": 2,
    "Switch": 10000, "Assert": 1, "TimeWarp": 1, "Grade": 2, "Merge2": 101, "Viewer": 10000,
    "StickyNote": 0,
}  # fmt: skip
