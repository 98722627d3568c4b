"""EXR files: read plates and mattes, and write the plate's own file back with only the changed samples replaced.

The functions are in `files`; the other modules are theirs alone.
"""

from void_server.image.exr.container import MAX_PIXELS, MAX_SIDE_PX, ChannelInfo
from void_server.image.exr.describe import describe
from void_server.image.exr.files import (
    ImageHeader,
    read_matte,
    read_matte_header,
    read_plate_header,
    read_rgb,
    write_aov,
    write_clean,
)
from void_server.image.exr.picture import write_picture

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE_PX",
    "ChannelInfo",
    "ImageHeader",
    "describe",
    "read_matte",
    "read_matte_header",
    "read_plate_header",
    "read_rgb",
    "write_aov",
    "write_clean",
    "write_picture",
]
