"""From what a node looks like to what is sent, or to a list of everything that is wrong with it.

What comes in: `Asked`, plain values that `host` read off the node in one go. What goes out: a `Plan`, or `RefusedError`
with all problems at once. It reads no file and knows neither Nuke nor the wire.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

from void_nuke.colour import Colour
from void_server.wire.errors import SettingsError
from void_server.wire.shot import FrameRange, ShotSettings

ROLES = ("plate", "matte", "affected", "keep", "reference", "affected_add", "affected_sub")
"""The node's inputs, in the order of their numbers."""
REQUIRED = ("plate", "matte")
PICTURES = ("plate", "reference")
"""Roles of light; the others are mattes, of one channel."""
ON_OFFER = {"quality": "release", "effects": "sure"}
"""Settings that not every VOID has, and what one without them does."""
PREVIEW_HANDLES = 8
"""Frames on either side that a preview of one frame is made from: seconds, where a shot takes minutes."""
LEAST_REGION = 16
"""Least side of a region, in pixels."""
MOST_FRAMES = 2000
"""Longest shot of all roles together that the protocol's 10 000 files hold."""

UI_KNOBS = (
    "xpos", "ypos", "selected", "tile_color", "note_font", "note_font_size", "note_font_color", "label", "gl_color",
    "hide_input", "postage_stamp", "bookmark", "dope_sheet", "indicators", "icon", "panel", "lifetimeStart",
    "lifetimeEnd", "useLifetime", "cached", "name",
)  # fmt: skip
"""Knobs that change how a node looks and never what it renders."""

NOT_SENT = (
    "show", "result_mix", "wipe", "edge_trim", "edge_soften", "missing_result", "outside_result", "hold_frames",
    "grain", "layers", "server", "bake_on_farm",
)  # fmt: skip
"""Knobs of ours that act live, or say only where: they make no result stale."""

SENT = (
    "prompt", "engine", "physics_prior", "range_mode", "first", "last", "handles", "matte_channel", "affected_channel",
    "keep_channel", "affected_add_channel", "affected_sub_channel", "reference_frames", "quality", "effects",
    "matte_grow", "matte_feather", "colorspace", "shot_views", "seed", "bake_depth", "use_region", "region",
)  # fmt: skip
"""Knobs of ours that a result depends on."""


class RefusedError(Exception):
    """The shot can't be sent. `problems`: one line each, with its remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclasses.dataclass(frozen=True)
class ReadFacts:
    """A Read that feeds an input with nothing in between that changes pixels."""

    path_at: Callable[[int], str]
    """The file of a frame, as Nuke works it out."""
    first: int
    last: int
    raw: bool
    colorspace: str
    retimed: bool
    """Whether its `frame` knob moves frames."""
    has_alpha: bool


@dataclasses.dataclass(frozen=True)
class InputFacts:
    """What is connected to one input."""

    first: int
    last: int
    step: int = 1
    read: Optional[ReadFacts] = None  # noqa: UP045 - evaluated on Python 3.9 by those who ask for type hints


@dataclasses.dataclass(frozen=True)
class Asked:
    """A node as it stands when a button is pressed."""

    node: str
    script: str
    """Path of the script; empty while it has none."""
    base: str
    """Folder that results go to, perhaps not there yet."""
    inputs: Mapping[str, InputFacts]
    """By role; a role that is not connected is absent."""
    knobs: Mapping[str, Any]
    root_first: float
    root_last: float
    views: tuple[str, ...]
    colour: Colour = dataclasses.field(default_factory=lambda: Colour(False, "linear"))
    busy: bool = False
    non_commercial: bool = False
    """Whether this is Nuke Non-commercial, whose Python sees ten nodes."""
    varies: str = ""
    """Name of a node above that makes the picture depend on the script's variables, or nothing."""
    client_problem: str = ""
    """Why the wire client can't be imported here, or nothing."""
    viewed: Optional[tuple[float, float, float, float]] = None  # noqa: UP045
    """The viewer's region of interest while that is on: what a preview of a frame is made of, as `Plan.region`."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is to be done, decided."""

    frames: FrameRange
    """To deliver."""
    reads: FrameRange
    """To send, handles included."""
    reference: tuple[int, ...]
    """Frames of the reference to send; every other role is sent for `reads`."""
    views: tuple[str, ...]
    several_views: bool
    direct: Mapping[str, Mapping[int, str]]
    """Files that are sent as they are, by role and frame."""
    bake: tuple[str, ...]
    """Roles that must be rendered first."""
    half: bool
    region: Optional[tuple[float, float, float, float]]  # noqa: UP045
    """Part of the picture to send: x, y, right, top, in pixels from the lower left as Nuke counts; None is all."""
    settings: ShotSettings
    server: str
    bakes_there: bool = False
    """Whether what is to be rendered is rendered on the farm, so that Nuke stays free."""

    def frames_of(self, role: str) -> tuple[int, ...]:
        return self.reference if role == "reference" else tuple(self.reads)


def plan(asked: Asked, kind: str = "clean", only: FrameRange | None = None) -> Plan:
    """Decide what is sent. kind: one of `results.STEMS`. only: frames to deliver, instead of those that the node says.

    Raises RefusedError that lists every problem.
    """
    problems: list[str] = []
    if asked.busy:
        problems.append("A job of this node is under way. Wait for it, or press Cancel.")
    if asked.non_commercial:
        problems.append(
            "This is Nuke Non-commercial, which shows Python ten nodes of a script; VOID has to see more. "
            "Results made elsewhere show here. To make one, use another edition of Nuke."
        )
    if asked.client_problem:
        problems.append(asked.client_problem)
    if not asked.script:
        problems.append("This script has no name yet, so the result has no place. Save it first.")
    elif not _writable(Path(asked.base)):
        problems.append(f"{asked.base} can't be written to. Set result folder to where you may write.")
    problems += [f"Nothing is connected to {role}. Connect it." for role in REQUIRED if role not in asked.inputs]
    if asked.varies:
        problems.append(
            f"The picture depends on the script's variables ({asked.varies}), and a node holds one result. "
            "Put a VoidInpaint for each shot above what switches between them."
        )
    frames = _frames(asked, only, problems)
    views = _views(asked, problems)
    address = str(asked.knobs["server"]).strip() or os.environ.get("VOID_SERVER", "") or "tcp://127.0.0.1:5790"
    if not re.fullmatch(r"(tcp|ipc)://\S+|deadline10(:.*)?", address):
        problems.append(f"'{address}' is no address. Write tcp://host:5790 for a daemon, deadline10 for the farm.")
    handles = int(asked.knobs["handles"])
    if kind == "frame":
        handles = PREVIEW_HANDLES if handles < 0 else min(handles, PREVIEW_HANDLES)
    settings = _settings(asked, frames, handles, "affected" if kind == "affected" else "clean", problems)
    if problems or frames is None or settings is None:
        raise RefusedError(problems)
    plate = asked.inputs["plate"]
    reads = FrameRange(plate.first, plate.last)
    if handles >= 0:
        reads = FrameRange(max(plate.first, frames.first - handles), min(plate.last, frames.last + handles))
    reference = _reference(asked, reads, problems)
    region = _region(asked, kind, problems)
    if problems:
        raise RefusedError(problems)
    wanted = {role: reference if role == "reference" else tuple(reads) for role in ROLES if role in asked.inputs}
    direct = {role: _direct(role, asked, sent) for role, sent in wanted.items()}
    if region is not None:
        direct = {role: {} if role in PICTURES else files for role, files in direct.items()}
    return Plan(
        frames=frames,
        reads=reads,
        reference=reference,
        views=views,
        several_views=len(asked.views) > 1,
        direct={role: files for role, files in direct.items() if files},
        bake=tuple(role for role, files in direct.items() if not files),
        region=region,
        half=asked.knobs["bake_depth"] == "16 bit half",
        settings=settings,
        server=address,
        bakes_there=bool(asked.knobs["bake_on_farm"]) and address.startswith("deadline10"),
    )


def _writable(folder: Path) -> bool:
    """Whether a folder can be made or written to: its nearest one that is there says so."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def _frames(asked: Asked, only: FrameRange | None, problems: list[str]) -> FrameRange | None:
    """The frames to deliver, checked against the plate's; None once something is wrong with them."""
    plate = asked.inputs.get("plate")
    mode = asked.knobs["range_mode"]
    if only is not None:
        first, last = float(only.first), float(only.last)
    elif mode == "custom":
        first, last = asked.knobs["first"], asked.knobs["last"]
    elif mode == "global":
        first, last = asked.root_first, asked.root_last
    elif plate is not None:
        first, last = plate.first, plate.last
    else:
        return None
    before = len(problems)
    problems += [
        f"The {name} frame is {value:g}. Frames are whole numbers here: retime in front of the node instead."
        for name, value in (("first", first), ("last", last))
        if float(value) != int(value)
    ]
    if len(problems) > before:
        return None
    if last < first:
        problems.append(f"Frame range {int(first)}-{int(last)} runs backwards. Write the lower frame first.")
        return None
    found = FrameRange(int(first), int(last))
    if len(found) > MOST_FRAMES:
        problems.append(f"{len(found)} frames are more than {MOST_FRAMES}. Split the shot.")
    if plate is None:
        return found
    if plate.step != 1:
        problems.append(f"The plate comes in steps of {plate.step} frames. Every frame is needed to see what moves.")
    if found.first < plate.first or found.last > plate.last:
        problems.append(
            f"Frames {found} are asked for; the plate has {plate.first}-{plate.last}. "
            + ("Choose others." if only is not None else "Set frames to input, or to a range inside it.")
        )
    return found


def _views(asked: Asked, problems: list[str]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(str(asked.knobs["shot_views"]).replace(",", " ").split())) or asked.views
    unknown = [view for view in wanted if view not in asked.views]
    lacking = [view for view in asked.views if view not in wanted]
    if unknown:
        problems.append(f"This script has no view {', '.join(unknown)}. It has: {', '.join(asked.views)}.")
    elif lacking:
        problems.append(
            f"Views says {' '.join(wanted)}; the object would stay in {' '.join(lacking)}. Leave views blank for all."
        )
    return wanted


def _settings(
    asked: Asked, frames: FrameRange | None, handles: int, deliver: str, problems: list[str]
) -> ShotSettings | None:
    knobs = asked.knobs
    space = str(knobs["colorspace"]).strip() or asked.colour.space(asked.colour.working)
    if not space and asked.colour.managed:
        why = "" if asked.colour.config is not None else ", and its OCIO configuration was not found"
        problems.append(
            f"This script works in '{asked.colour.working}', which names no colour space that VOID knows{why}. "
            "Write the space into colorspace, as acescg or lin_rec709."
        )
    known = {field.name for field in dataclasses.fields(ShotSettings)}
    more: dict[str, Any] = {}
    for name, usual in ON_OFFER.items():
        if name in known:
            more[name] = str(knobs[name])
        elif knobs[name] != usual:
            problems.append(f"This VOID has no {name} {knobs[name]}. Set it to {usual}, or update void-server here.")
    try:
        return ShotSettings(
            **more,
            frames=frames,
            handles=None if handles < 0 else handles,
            engine=str(knobs["engine"]),
            physics_prior=bool(knobs["physics_prior"]) or deliver == "affected",
            prompt=str(knobs["prompt"]),
            colorspace=space or None,
            seed=int(knobs["seed"]),
            deliver=deliver,
            grow_px=float(knobs["matte_grow"]),
            feather_px=float(knobs["matte_feather"]),
        )
    except SettingsError as error:
        problems.append(f"{error.message} {error.hint}")
        return None


def _region(asked: Asked, kind: str, problems: list[str]) -> Optional[tuple[float, float, float, float]]:  # noqa: UP045
    viewed = asked.viewed if kind == "frame" else None
    if viewed is None and not asked.knobs["use_region"]:
        return None
    x, y, right, top = viewed or (float(number) for number in asked.knobs["region"])
    if right - x < LEAST_REGION or top - y < LEAST_REGION:
        whose = "The viewer's region" if viewed else "The region"
        problems.append(f"{whose} is {right - x:g} by {top - y:g} pixels. Draw it around object and effect.")
    return x, y, right, top


def _reference(asked: Asked, reads: FrameRange, problems: list[str]) -> tuple[int, ...]:
    """The frames at which the reference is trusted; none where nothing is connected."""
    source = asked.inputs.get("reference")
    if source is None:
        return ()
    found: set[int] = set()
    for part in str(asked.knobs["reference_frames"]).replace(",", " ").split():
        try:
            found.update(FrameRange.parse(part))
        except SettingsError as error:
            problems.append(f"reference frames: {error.message} {error.hint}")
            return ()
    if not found and source.read is None:
        problems.append(
            "The reference says not at which frames it shows the scene without the object. "
            "Go to such a frame and press add this frame."
        )
    if not found and source.read is not None:
        found.update(range(source.read.first, source.read.last + 1))
    outside = sorted(frame for frame in found if frame not in reads)
    if outside and len(outside) == len(found):
        problems.append(f"Reference frame {outside[0]} lies outside the frames that are sent, {reads}.")
    return tuple(sorted(found - set(outside)))


def _direct(role: str, asked: Asked, frames: tuple[int, ...]) -> dict[int, str]:
    """The files of a role that may be sent as they are; empty where it must be rendered.

    Only a Read whose pixels reach the node unchanged: EXR, values as they lie in the file, no retime, one view, every
    frame of its own; for a matte, alpha.
    """
    read = asked.inputs[role].read
    if read is None or read.retimed or len(asked.views) > 1:
        return {}
    if not frames or read.first > frames[0] or read.last < frames[-1]:
        return {}  # beyond its ends a Read holds, loops or goes black, and only Nuke knows what that looks like
    if role in PICTURES:
        if not read.raw and not asked.colour.keeps(read.colorspace):
            return {}
    elif not read.has_alpha or asked.knobs[f"{role}_channel"] not in ("rgba.alpha", "alpha"):
        return {}
    files = {frame: read.path_at(frame) for frame in frames}
    if any(not path.lower().endswith(".exr") for path in files.values()) or len(set(files.values())) != len(files):
        return {}
    return files


def fingerprint(knobs: Mapping[str, Any], inputs: str) -> str:
    """Two marks, "settings-inputs", that change when a result would.

    inputs: what `inputs_mark` gave; it is kept apart because it asks Nuke to write out everything upstream.
    """
    text = "".join(f"{name}={knobs[name]!r}\n" for name in SENT)
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}-{inputs}"


def inputs_mark(upstream: Mapping[str, str]) -> str:
    """16 hex digits that change when a node above an input does. upstream: by role, all their knobs as in a script."""
    digest = hashlib.sha256()
    for role in ROLES:
        lines = [line for line in upstream.get(role, "").splitlines() if _matters(line)]
        digest.update(f"{role}:{len(lines)}\n".encode() + "\n".join(lines).encode())
    return digest.hexdigest()[:16]


def changed(made_of: str, knobs: Mapping[str, Any], inputs: str) -> bool:
    """Whether a result is stale. made_of: its fingerprint. inputs: the mark of now, or nothing where none was taken.

    A fingerprint of an older version, in another form, says nothing: such a result is taken as it is.
    """
    settings, _, before = made_of.partition("-")
    if not before:
        return False
    return fingerprint(knobs, "").partition("-")[0] != settings or (bool(inputs) and inputs != before)


def _matters(line: str) -> bool:
    word = line.split(None, 1)
    return bool(word) and word[0] not in UI_KNOBS
