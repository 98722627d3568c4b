"""`void-server check`: everything that will happen to a shot, without computing it.

What comes in: a shot's files and settings. What goes out: what is in the files, what is marked, which engine will work
for about how long and in how much memory, and every warning; or one error that lists every problem. It reads headers,
and a few masks; it writes nothing and loads no engine.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from void_server import engine as engines
from void_server.image import exr
from void_server.image.frames import sequence
from void_server.process import threads
from void_server.shot import check, mask_check, mask_reading
from void_server.shot.check import CheckedShot
from void_server.shot.mask_reading import RoleLook
from void_server.wire.report import ShotWarning
from void_server.wire.shot import ShotFiles, ShotSettings, spoken_role

FILL_S, FILL_S_MPX = 0.2, 0.36
FIND_S, FIND_S_MPX = 0.2, 0.5
"""Seconds a frame and seconds a megapixel of it, on MEASURED_CORES cores, to fill a hole of a tenth of the frame with
engine propagate, and to read the shot and find what the object did. Fitted to the measured 854x480 and
4096x2160; other holes, disks and processors differ by a factor of two either way."""
MEASURED_CORES = 2
MEMORY_GIB, MEMORY_GIB_MPX = 2.2, 0.12
"""Peak memory over 500 frames, measured at 960x506 and 4096x2160; it does not grow with the shot's length."""


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a check found. `fields` is for machines, `lines` for people."""

    fields: dict[str, Any]
    lines: list[str]
    warnings: tuple[ShotWarning, ...]


def foretell(files: ShotFiles, settings: ShotSettings, out: Path | None) -> Forecast:
    """Read a shot's headers and a few of its masks. Raises RequestErrors that list every problem."""
    checked = check.check_shot(files, settings)
    if out is not None:
        check.check_output(out, files)
    looks = mask_reading.look(checked)
    told = checked.warnings + tuple(mask_check.judge(checked, looks))
    engine, reason = engines.choose(settings.engine, settings.device)
    chooses = checked.settings.quality in engines.find(engine).needs.qualities
    seconds, memory_gib = _cost(checked, engine)
    fields: dict[str, Any] = {
        "frames": {"deliver": sequence.format_frames(checked.wanted), "read": sequence.format_frames(checked.frames)},
        "plate": _plate(checked),
        "masks": {found.role: _mask(checked, found) for found in looks},
        "references": sequence.format_frames(checked.references),
        "affected": _affected(checked),
        "engine": {"name": engine, "reason": reason},
        "quality": {"name": checked.settings.quality, "known": chooses},
        "seconds": seconds,
        "memory_gib": memory_gib,
        "out_bytes": sum(checked.plates[frame].path.stat().st_size for frame in checked.wanted),
        "warnings": [{"code": code, "message": message} for code, message in told],
    }
    return Forecast(fields, _lines(fields), told)


def _plate(checked: CheckedShot) -> dict[str, Any]:
    first = checked.plates[checked.frames[0]]
    display = first.display_window
    return {
        "first_file": str(first.path),
        "size": f"{display.width}x{display.height}",
        "canvas": f"{checked.canvas.width}x{checked.canvas.height}",
        "pixel_aspect": first.pixel_aspect,
        "channels": list(first.rgb or ()),
        "type": _types(first),
        "compression": first.compression,
        "space": {"name": checked.space.name, "source": checked.space.source},
        "kept": [info.name for info in first.channels if info.name not in (first.rgb or ())],
    }


def _types(header: exr.ImageHeader) -> str:
    return "/".join(sorted({info.dtype for info in header.channels if info.name in (header.rgb or ())}))


def _mask(checked: CheckedShot, found: RoleLook) -> dict[str, Any]:
    shares = list(found.shares.values())
    return {
        "frames": sequence.format_frames(checked.mattes[found.role]),
        "channel": found.header.matte_channel,
        "share": {"least": round(min(shares), 4), "most": round(max(shares), 4), "looked_at": len(shares)},
        "floor": round(found.floor, 4),
        "inverted": bool(found.role == "matte" and checked.settings.matte_invert),
    }


def _affected(checked: CheckedShot) -> str:
    if checked.files.affected:
        return "painted"
    return "found by the tool" if checked.settings.physics_prior else "none: the matte alone is filled"


def _cost(checked: CheckedShot, engine: str) -> tuple[float | None, float | None]:
    """(seconds, GiB) to expect; None for engines whose cost depends on a device that was not measured."""
    if engine != "propagate":
        return None, None
    mpx = checked.canvas.width * checked.canvas.height / 1e6
    seconds = (FILL_S + FILL_S_MPX * mpx) * len(checked.wanted)
    if checked.settings.physics_prior and not checked.files.affected:
        seconds += (FIND_S + FIND_S_MPX * mpx) * len(checked.frames)
    return round(seconds * MEASURED_CORES / max(1, threads())), round(MEMORY_GIB + MEMORY_GIB_MPX * mpx, 1)


def _lines(fields: dict[str, Any]) -> list[str]:
    plate, frames, engine = fields["plate"], fields["frames"], fields["engine"]
    rows = {
        "frames": f"deliver {frames['deliver']}; read {frames['read']}",
        "plate": f"{plate['size']}, {', '.join(plate['channels'])} ({plate['type']}, {plate['compression']}), "
        f"from {plate['first_file']}",
        "space": f"{plate['space']['name']} ({plate['space']['source']})",
    }
    if plate["canvas"] != plate["size"]:
        rows["canvas"] = f"{plate['canvas']}: the plate's data windows together"
    if plate["kept"]:
        rows["kept"] = f"{len(plate['kept'])} more channels, untouched: {', '.join(plate['kept'][:8])}"
    for role, mask in fields["masks"].items():
        share = mask["share"]
        rows[role.replace("_", "-")] = (
            f"frames {mask['frames']}, channel {mask['channel']}{', inverted' if mask['inverted'] else ''}: marks "
            f"{share['least']:.1%} to {share['most']:.1%} of the frame above {mask['floor']:.2g} "
            f"({share['looked_at']} frames looked at)"
        )
    if fields["references"]:
        rows["reference"] = f"frames {fields['references']}"
    if "affected" not in rows:
        rows["affected"] = fields["affected"]
    rows["engine"] = f"{engine['name']} ({engine['reason']})"
    quality = fields["quality"]
    if not quality["known"]:
        rows["quality"] = f"{engine['name']} knows one; {quality['name']} changes nothing"
    elif engine["name"] != "propagate":
        rows["quality"] = f"{quality['name']}: the engine says at which size and for how long before it starts"
    if fields["seconds"] is not None:
        rows["time"] = f"roughly {_spoken_time(fields['seconds'])} on {threads()} cores"
        rows["memory"] = f"up to about {fields['memory_gib']} GiB"
    rows["disk"] = f"clean frames take about {fields['out_bytes'] / 2**20:.1f} MiB, and AOVs beside them"
    return [f"{spoken_role(name):10} {text}" for name, text in rows.items()]


def _spoken_time(seconds: float) -> str:
    """
    >>> _spoken_time(4), _spoken_time(200), _spoken_time(9000)
    ('4 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
