# SPDX-License-Identifier: GPL-3.0-or-later
"""From a strip and its settings to what is sent: files as they are, or frames that must be rendered first.

What comes in: a scene, a strip with its `void` settings. What goes out: a `Plan`, or one error that names everything
that is wrong. Frames are timeline frames in every role, so that trim, reverse, retime, strobe and hold are in the map
from frame to file and nowhere else. It renders nothing and opens no socket.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bpy

from void_server.wire.errors import SettingsError, VoidError
from void_server.wire.messages import LIMITS
from void_server.wire.shot import FrameRange, ShotSettings

from . import exr_file, pictures, timeline

SPACES = {
    "Linear Rec.709": "lin_rec709",
    "Linear Rec.2020": "lin_rec2020",
    "Linear DCI-P3 D65": "lin_p3d65",
    "ACEScg": "acescg",
    "ACES2065-1": "aces2065-1",
}
"""Blender's scene-linear spaces that the daemon knows. Files in any other space are rendered, which converts them."""


@dataclasses.dataclass(frozen=True)
class Rendering:
    """A role whose frames must be made first: of a strip, or of a mask."""

    role: str
    strip: str = ""
    mask: str = ""
    width: int = 0
    height: int = 0
    channel: int = 0
    invert: bool = False
    raw_alpha: bool = False
    forgetful: bool = False
    only: tuple[int, ...] | None = None
    """The frames to make; None is every frame of the plan."""
    files: Mapping[int, str] = dataclasses.field(default_factory=dict)
    """The strip's own EXR files: those of a matte are read and not rendered, and a plate keeps their windows."""

    def stage(self, scene: str, run: str, first: int, end: int) -> pictures.Stage | None:
        """What renders it; None where its files are read."""
        if self.files and self.role != "plate":
            return None
        if self.mask:
            return pictures.mask_stage(f"{run} {self.role}", self.mask, self.width, self.height, first, end)
        as_matte = self.role != "plate" and self.channel == 0
        mark = run if self.role == "plate" else ""
        return pictures.strip_stage(
            f"{run} {self.role}", scene, mark, self.strip,
            as_matte=as_matte, raw_alpha=self.raw_alpha, forgetful=self.forgetful,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything a run needs to know, in plain values, so that nothing of Blender's is held while time passes."""

    scene: str
    strip: str
    first: int
    end: int
    """What is delivered: first <= frame < end."""
    anchor: float
    space: str
    """Blender's name of the space the plate's frames are in."""
    output: str
    files: Mapping[str, Mapping[int, str]]
    renderings: tuple[Rendering, ...]
    settings: Mapping[str, Any]
    frames: tuple[int, ...] = ()
    """What is read: those delivered and, around them, those looked at for background."""
    partial: bool = False
    """Whether it is the preview range only, to be laid over what is there."""
    notes: tuple[str, ...] = ()
    """What the artist should know of it."""


def plan(scene: Any, strip: Any, deliver: str = "clean") -> Plan:
    """Look at a strip and its settings. Raises SettingsError with every problem and its remedy."""
    found = _Inputs(scene, strip)
    found.problems += _unfit(scene, strip)
    if found.partial and not found.problems and (effects := timeline.effects_on(scene, strip)):
        found.problems.append(f"'{effects[0].name}' shows it whole. Switch Preview Range Only off.")
    if not found.problems:
        found.look_at_plate()
        found.look_at_matte()
        for role, name in (("affected", strip.void.affected_strip), ("keep", strip.void.keep_strip)):
            if name:
                found.look_at_other(role, name)
        if not found.problems:
            found.look_around()
        if strip.void.reference_strip:
            found.look_at_reference(strip.void.reference_strip)
        found.look_at_frames()
    settings: dict[str, Any] = {}
    try:
        settings = _settings(strip.void, found, deliver)
    except VoidError as error:
        found.problems.append(str(error))
    if found.problems:
        raise SettingsError(f"Strip '{strip.name}': {' '.join(found.problems)}")
    output, notes = _output(scene, strip, found)
    return Plan(
        scene.name, strip.name, found.first, found.end, timeline.content_start(strip), found.space, output,
        found.files, tuple(found.renderings), settings, found.frames, found.partial, notes,
    )  # fmt: skip


def _output(scene: Any, strip: Any, found: _Inputs) -> tuple[str, tuple[str, ...]]:
    """Whether whole frames or a patch are laid, and what the artist should know of it."""
    if (asked := strip.void.output) == "AUTO":
        # Blender 5.2 rounds whatever lies under another strip (4e-5, measured), unless the sequencer works in a linear
        # space; whole EXR frames it shows to the bit. A rendered movie is scaled unlike the movie itself, so there a
        # patch is nearer: outside the hole it leaves the movie to Blender.
        asked = "FULL" if "plate" in found.files else "PATCH"
    if asked == "FULL":
        return "FULL", ()
    why = ""
    if found.neighbours:
        why = "under a patch, Blender 5 may show a neighbour of a retimed frame"
    elif effects := timeline.effects_on(scene, strip):
        why = f"'{effects[0].name}' takes one strip in place of this one"
    note = (f"Whole frames and no patch: {why}.",) if strip.void.output == "PATCH" else ()
    return ("FULL", note) if why else ("PATCH", ())


class _Inputs:
    """What the roles of a shot are made of, and everything that is wrong with them, gathered role by role."""

    def __init__(self, scene: Any, strip: Any) -> None:
        self.scene, self.strip, self.asked = scene, strip, strip.void
        self.first, self.end = timeline.left(strip), timeline.right(strip)
        self.partial = self.asked.only_preview_range
        self.space = ""
        self.files: dict[str, dict[int, str]] = {}
        self.renderings: list[Rendering] = []
        self.problems: list[str] = []
        self.neighbours = timeline.shows_neighbours(scene, strip)
        self.frames: tuple[int, ...] = ()
        if self.partial:
            self._shrink_to_preview_range()
        self._around: list[dict[int, str] | range] = []
        """For each role what it has around the frames to deliver: files, or frames that can be rendered."""

    def _shrink_to_preview_range(self) -> None:
        scene = self.scene
        first, end = max(self.first, scene.frame_preview_start), min(self.end, scene.frame_preview_end + 1)
        if not scene.use_preview_range:
            self.problems.append("There is no preview range. Set one (P), or switch Preview Range Only off.")
        elif first >= end:
            self.problems.append("The preview range does not touch it. Move the range, or switch it off.")
        else:
            self.first, self.end = first, end

    def look_at_plate(self) -> None:
        self.width, self.height = pictures.size_of(self.strip)
        lost = list(_lost_files("plate", self.strip, self.first, self.end))
        self.problems += lost
        if not lost and not (self.width and self.height):
            self.problems.append("Blender can't read its picture. Check the file and its path.")
        own_alpha = self.asked.matte_source == "ALPHA"
        if _sent_as_files(self.strip) and not own_alpha:
            self._take("plate", self.strip)
            self.space = self.strip.colorspace_settings.name
        else:
            self.space = timeline.working_space()
            files = self._whole_files(self.strip) if _is_exr(self.strip) and not lost else {}
            self._render("plate", self.strip, raw_alpha=own_alpha, files=files)

    def look_at_matte(self) -> None:
        asked = self.asked
        if asked.matte_source == "ALPHA":
            self._render("matte", self.strip, channel=3, invert=asked.invert)
        elif asked.matte_source == "STRIP":
            channel = 3 if asked.matte_channel == "A" else 0
            self.look_at_other("matte", asked.matte_strip, channel, invert=asked.invert)
        elif asked.mask is None:
            self.problems.append("No mask is chosen. Draw one in the Image or Clip editor and choose it in the panel.")
        else:
            size = {"width": self.width, "height": self.height}
            self._around.append(range(timeline.left(self.strip), timeline.right(self.strip)))
            self.renderings.append(Rendering("matte", mask=asked.mask.name, invert=asked.invert, **size))

    def look_at_other(self, role: str, name: str, channel: int = 0, *, invert: bool = False) -> None:
        """A role that another strip of this timeline fills."""
        other = timeline.strips_of(self.scene).get(name) if name else None
        wrong = list(_unfit_matte(role, name, other, self.strip))
        wrong = wrong or list(_lost_files(role, other, self.first, self.end))
        if wrong:
            self.problems += wrong
        elif _is_exr(other) and not invert:
            self._take(role, other)
        elif _is_exr(other):
            files = self._whole_files(other)
            names = exr_file.channels(Path(files[self.first]))
            if "A" in names and not {"R", "Y"} & set(names):
                channel = 3
            self._render(role, other, channel=channel, invert=invert, files=files)
        else:
            self._render(role, other, channel=channel, invert=invert)

    def look_around(self) -> None:
        """Choose frames around those to deliver, where every role has them: a frame without its matte would show the
        object as background."""
        context = self.asked.context
        wanted = set(range(self.first - context, self.end + context)) - set(range(self.first, self.end))
        for has in self._around:
            wanted &= set(has)
        if self.renderings:
            wanted = {frame for frame in wanted if frame >= 0}
        for role, has in zip(self.files, (has for has in self._around if isinstance(has, dict))):
            self.files[role] = dict(sorted({**self.files[role], **{frame: has[frame] for frame in wanted}}.items()))
        self.frames = tuple(sorted({*range(self.first, self.end), *wanted}))

    def look_at_reference(self, name: str) -> None:
        """Stills: each picture counts at the first frame that shows it."""
        other = timeline.strips_of(self.scene).get(name)
        frames = self.frames or tuple(range(self.first, self.end))
        if other is None or other.type not in timeline.KINDS or other == self.strip:
            self.problems.append(f"Strip '{name}' can't be the reference. Choose another image, movie or scene strip.")
            return
        inside = [frame for frame in frames if timeline.left(other) <= frame < timeline.right(other)]
        if not inside:
            self.problems.append(f"The reference '{name}' lies beside no frame of the strip. Move it there.")
            return
        if not _as_large(other, self.strip):
            has, needs = (f"{w}x{h}" for w, h in (_sizes(s)[-1] for s in (other, self.strip)))
            self.problems.append(f"The reference '{name}' is {has}; the strip is {needs}. Paint it at its own size.")
            return
        if other.type == "IMAGE":
            shown = shown_files(other, inside[0], inside[-1] + 1)
            firsts: dict[str, int] = {}
            for frame in inside:
                firsts.setdefault(shown[frame], frame)
            if _sent_as_files(other) and other.colorspace_settings.name == self.space:
                self.files["reference"] = {frame: path for path, frame in firsts.items()}
                return
            inside = sorted(firsts.values())
        self._render("reference", other, only=tuple(inside))

    def _take(self, role: str, strip: Any) -> None:
        """A role that EXR files fill as they are."""
        self.files[role] = shown_files(strip, self.first, self.end)
        self._around.append({**_hidden_files(strip), **self._whole_files(strip)})

    def _whole_files(self, strip: Any) -> dict[int, str]:
        return shown_files(strip, timeline.left(strip), timeline.right(strip))

    def _render(self, role: str, strip: Any, **more: Any) -> None:
        forgetful = timeline.shows_neighbours(self.scene, strip)
        if role != "reference":
            self._around.append(range(timeline.left(strip), timeline.right(strip)))
        self.renderings.append(Rendering(role, strip=strip.name, forgetful=forgetful, **more))

    def look_at_frames(self) -> None:
        if self.renderings and self.first < 0:
            self.problems.append(
                "Blender renders no frame before 0, and masks begin there. Move the strip to 0 or later."
            )
        most = LIMITS["files"].value // (len(self.files) + len(self.renderings) or 1)
        if len(self.frames) > most:
            self.problems.append(f"It has {len(self.frames)} frames. Cut it, or lower Context: {most} at most.")


def shown_files(strip: Any, first: int, end: int) -> dict[int, str]:
    """The file that an image strip shows at each timeline frame, as Blender itself maps it."""
    folder = Path(bpy.path.abspath(strip.directory, library=strip.id_data.library))
    return {frame: str(folder / strip.strip_elem_from_frame(frame).filename) for frame in range(first, end)}


def _hidden_files(strip: Any) -> dict[int, str]:
    """The files beyond an image strip's handles, by the timeline frame at which they would show.

    Only of a strip that shows one file a frame, forwards: of others nobody knows what would show.
    """
    first, end = timeline.left(strip), timeline.right(strip)
    names = [element.filename for element in strip.elements]
    shown = [Path(path).name for path in shown_files(strip, first, end).values()]
    if strip.use_reverse_frames or shown[0] not in names:
        return {}
    start = names.index(shown[0])
    if names[start : start + len(shown)] != shown:
        return {}
    folder = Path(bpy.path.abspath(strip.directory, library=strip.id_data.library))
    files = {first - start + index: str(folder / name) for index, name in enumerate(names)}
    return {frame: path for frame, path in files.items() if Path(path).is_file()}


def _lost_files(role: str, strip: Any, first: int, end: int) -> Iterator[str]:
    """Files of an image strip that are not on disk."""
    if strip.type == "IMAGE":
        lost = sorted({path for path in shown_files(strip, first, end).values() if not Path(path).is_file()})
        if lost:
            yield f"{len(lost)} files of the {role} are not there, first {lost[0]}. Bring them back, or trim the strip."


def _unfit(scene: Any, strip: Any) -> Iterator[str]:
    """Why nothing at all can be removed from this strip."""
    if strip.type not in timeline.KINDS:
        kind, made_from = strip.type.lower().replace("_", " "), timeline.inputs_of(strip)
        instead = " or ".join(f"'{own.name}'" for own in made_from) or "an image, movie or scene strip"
        yield f"A {kind} strip has no pictures of its own. Select {instead}."
    elif timeline.strips_of(scene).get(strip.name) != strip:
        yield "It lies inside a meta strip. Move it out (Ctrl Alt G), remove, and group it again."
    elif timeline.right(strip) <= timeline.left(strip):
        yield "It shows no frame. Make it longer."
    elif scene.render.use_multiview and getattr(strip, "use_multiview", False):
        yield "It is a stereo strip. Switch off its Use Multi-View, and remove from each eye's strip by itself."
    elif strip.type == "SCENE" and strip.scene is None:
        yield "It shows no scene. Choose one in the strip's own panel."
    elif strip.type == "SCENE" and strip.scene == scene:
        yield "It shows the scene it lies in. Choose another one in the strip's own panel."
    elif strip.type == "MOVIE" and not Path(bpy.path.abspath(strip.filepath, library=strip.id_data.library)).is_file():
        yield f"The movie {strip.filepath} is not there. Bring it back, or choose the file anew."


def _unfit_matte(role: str, name: str, other: Any, strip: Any) -> Iterator[str]:
    if not name:
        yield f"No {role} strip is chosen. Choose one under Matte."
    elif other is None:
        yield f"There is no strip '{name}' for the {role}. Choose one that lies beside this strip."
    elif other.type not in timeline.KINDS:
        yield f"Strip '{name}' can't be the {role}. Choose an image, movie or scene strip."
    elif other == strip:
        yield f"The strip can't be its own {role}. Choose another, or take its alpha."
    else:
        if timeline.left(other) > timeline.left(strip) or timeline.right(other) < timeline.right(strip):
            has, needs = (f"{timeline.left(s)}-{timeline.right(s) - 1}" for s in (other, strip))
            yield f"The {role} '{name}' covers frames {has}; the strip needs {needs}. Extend it, or trim the strip."
        if not _as_large(other, strip):
            has, needs = (f"{w}x{h}" for w, h in (_sizes(s)[-1] for s in (other, strip)))
            yield f"The {role} '{name}' is {has}; the strip is {needs}. Render the matte at the strip's own size."


def _sizes(strip: Any) -> list[tuple[int, int]]:
    """Sizes of the pictures that lie exactly over a strip's; the last is what it is said to be.

    An EXR file has two: Blender shows the data window, everyone else means the display window.
    """
    if _is_exr(strip):
        with contextlib.suppress(OSError, ValueError):
            first = shown_files(strip, timeline.left(strip), timeline.left(strip) + 1)[timeline.left(strip)]
            return [exr_file.size(box) for box in exr_file.windows(Path(first))]
    return [pictures.size_of(strip)]


def _as_large(other: Any, strip: Any) -> bool:
    """Whether a matte lies over a strip; unknown sizes are left to those who read the files.

    Data windows of two EXR files need not agree: a matte cropped to what it holds lies where its file says.
    """
    theirs, ours = _sizes(other), _sizes(strip)
    if not all(theirs[-1]) or not all(ours[-1]):
        return True
    return theirs[-1] == ours[-1] if len(theirs) == len(ours) or len(theirs) > 1 else theirs[-1] in ours


def _is_exr(strip: Any) -> bool:
    """Whether a strip shows EXR files."""
    if strip.type != "IMAGE" or not strip.elements:
        return False
    return all(e.filename.lower().endswith(".exr") for e in strip.elements)


def _sent_as_files(strip: Any) -> bool:
    """Whether the files themselves are what the sequencer shows, in a space that the daemon knows."""
    return _is_exr(strip) and strip.colorspace_settings.name in (*SPACES, "Non-Color", "scene_linear")


def _settings(asked: Any, found: _Inputs, deliver: str) -> dict[str, Any]:
    named = timeline.working_space() if found.space == "scene_linear" else found.space
    around = len(found.frames) > found.end - found.first
    return ShotSettings(
        frames=FrameRange(found.first, found.end - 1) if around else None,
        engine=asked.engine,
        physics_prior=asked.physics_prior,
        effects=asked.effects,
        quality=asked.quality,
        prompt=asked.prompt,
        # Non-Color says nothing; then the file's own tags do.
        colorspace=SPACES.get(named),
        matte_channel=asked.matte_channel if "matte" in found.files and asked.matte_channel != "AUTO" else None,
        grow_px=asked.grow_px,
        feather_px=asked.feather_px,
        seed=asked.seed,
        deliver=deliver,
    ).to_wire()
