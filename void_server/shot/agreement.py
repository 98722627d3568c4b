"""Whether the frames of a shot agree: in format, in where their picture is, in colour, and matte with plate.

What comes in: headers by frame. What goes out: problems and warnings, which name the few that differ from the many. It
opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping

from void_server.image import colour_space, exr
from void_server.image.frames import sequence
from void_server.shot.problems import Problems
from void_server.wire.errors import ColourError, MatteError, RequestError, SequenceError, about
from void_server.wire.report import ShotWarning
from void_server.wire.shot import ShotSettings, Window, spoken_role


def same_over_the_shot(plates: Mapping[int, exr.ImageHeader], problems: Problems) -> None:
    """A shot has one format, one pixel aspect, one beauty. Where most frames agree, the others are named as odd."""
    formats = {f: f"{h.display_window.width}x{h.display_window.height} at {_corner(h)}" for f, h in plates.items()}
    odd = _odd_ones("Plate", "is", formats, problems, "Re-render the odd frames or split the shot.")
    aspects = {f: f"pixel aspect {round(h.pixel_aspect, 3):g}" for f, h in plates.items() if f not in odd}
    odd |= _odd_ones("Plate", "has", aspects, problems, "Re-render the odd frames or split the shot.")
    pictures = {f: f"its picture in {', '.join(h.rgb or ())}" for f, h in plates.items() if f not in odd}
    _odd_ones("Plate", "has", pictures, problems, "Name the layer with --layer, or split the shot.")


def _corner(header: exr.ImageHeader) -> str:
    return f"{header.display_window.x0},{header.display_window.y0}"


def one_channel(role: str, mattes: Mapping[int, exr.ImageHeader], problems: Problems) -> None:
    """A matte is in one channel over the whole shot: what is alpha on one frame must not be red on the next."""
    channels = {frame: f"its mask in channel {header.matte_channel}" for frame, header in mattes.items()}
    if len({text.lower() for text in channels.values()}) > 1:
        hint = "Name the channel with --matte-channel, or render the odd frames again."
        _odd_ones(spoken_role(role), "has", channels, problems, hint, MatteError)


def one_space(
    plates: Mapping[int, exr.ImageHeader],
    references: Mapping[int, exr.ImageHeader],
    settings: ShotSettings,
    problems: Problems,
) -> colour_space.PlateSpace | None:
    """The colour space of the whole shot; None where there is a problem with it."""
    spaces: dict[int, colour_space.PlateSpace] = {}
    try:
        for frame, header in plates.items():
            with about(frame=frame):
                spaces[frame] = _space_of(header, settings)
        tagged = {frame: _space_of(header, settings) for frame, header in references.items()}
    except ColourError as error:
        problems.add(error)
        return None
    if not spaces:
        return None
    hint = "Say with --colorspace which space all frames are in, or render the odd frames again."
    said = {frame: _spoken_space(space) for frame, space in spaces.items()}
    if _odd_ones("Plate", "is", said, problems, hint, ColourError):
        return None
    space = next(iter(spaces.values()))
    for frame, other in tagged.items():
        if not (other.warning or space.warning) and other.chromaticities != space.chromaticities:
            message = f"Reference frame {frame} is {_spoken_space(other)}; the plate is {_spoken_space(space)}."
            problems.add(ColourError(message, "Convert it to the plate's space, or give --colorspace.", frame=frame))
    return space


def _space_of(header: exr.ImageHeader, settings: ShotSettings) -> colour_space.PlateSpace:
    tags = header.chromaticities, header.aces_container, header.color_interop_id
    return colour_space.plate_space(settings.colorspace, *tags)


def _spoken_space(space: colour_space.PlateSpace) -> str:
    """Primaries in words: what two frames have in common or not, whatever their tags are called."""
    known = [name for name, primaries in colour_space.SPACES.items() if primaries == space.chromaticities]
    name = known[0] if known else " ".join(f"{value:.4g}" for value in space.chromaticities)
    return f"without colour tags ({name} is assumed)" if space.source == "assumed" else f"tagged {name}"


def _odd_ones(
    subject: str,
    verb: str,
    facts: Mapping[int, str],
    problems: Problems,
    hint: str,
    kind: type[RequestError] = SequenceError,
) -> set[int]:
    """Name the frames whose fact differs from what most frames have; returns them."""
    by_fact: dict[str, list[int]] = {}
    for frame, fact in sorted(facts.items()):
        by_fact.setdefault(fact, []).append(frame)
    if len(by_fact) < 2:
        return set()
    usual = max(by_fact, key=lambda fact: len(by_fact[fact]))
    for fact, frames in by_fact.items():
        if fact != usual:
            message = f"{subject} {_frames_that(frames, verb)} {fact}; {_frames_that(by_fact[usual], verb)} {usual}."
            problems.add(kind(message, hint, frame=frames[0]))
    return set(facts) - set(by_fact[usual])


def _frames_that(frames: list[int], verb: str) -> str:
    if len(frames) == 1:
        return f"frame {frames[0]} {verb}"
    return f"frames {sequence.format_frames(frames)} {'are' if verb == 'is' else 'have'}"


def mattes_meet_plates(
    mattes: Mapping[int, exr.ImageHeader],
    plates: Mapping[int, exr.ImageHeader],
    problems: Problems,
    warnings: list[ShotWarning],
) -> None:
    """Mattes are laid over plates in display coordinates; say so where their formats differ."""
    met, odd = False, []
    for frame, matte in mattes.items():
        plate = plates[frame]
        met = met or not matte.data_window.intersect(plate.data_window).empty
        if matte.display_window != plate.display_window:
            odd.append(frame)
    if mattes and not met:
        frame = min(mattes)
        box, plate_box = mattes[frame].data_window, plates[frame].data_window
        problems.add(
            MatteError(
                f"The matte never meets the plate: frame {frame} covers {_spoken(box)}; the plate, "
                f"{_spoken(plate_box)}.",
                "Render the matte in the plate's format.",
                frame=frame,
            )
        )
    elif odd:
        size, whole = mattes[odd[0]].display_window, plates[odd[0]].display_window
        message = (
            f"Matte format is {size.width}x{size.height} at {size.x0},{size.y0}, the plate's "
            f"{whole.width}x{whole.height} at {whole.x0},{whole.y0} (frame {odd[0]}); they are matched "
            "pixel for pixel in display coordinates."
        )
        warnings.append(ShotWarning("matte-format", message))


def _spoken(box: Window) -> str:
    return f"x {box.x0} to {box.x1 - 1}, y {box.y0} to {box.y1 - 1}"
