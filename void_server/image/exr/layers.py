"""Which channels of an EXR are the beauty, or the matte: by name, by view, by part, and never by a silent guess.

In: the headers of all parts and what the artist asked for. Out: a part, channel names, and notes on every choice that
was not the artist's. Touches no files; errors name the candidates.

Names follow the EXR rule: `layer.channel`, the layer may hold dots itself, the default layer and view have no prefix
("Storing Multi-View Images in OpenEXR Files" and "Technical Introduction to OpenEXR", openexr.com).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from void_server.image.exr.container import Container, PartHeader, decode_text
from void_server.wire.errors import PlateError

BEAUTY_NAMES = ("rgba", "rgb", "beauty", "combined", "main", "master", "color", "colour", "c")
"""What renderers and hosts call the finished picture (Nuke rgba, Blender Combined, Arnold RGBA, Houdini C)."""
MAX_VIEWS = 64
"""Views looked at; real files have two or three, a damaged one could claim any number."""
MATTE_NAMES = ("matte", "mask", "alpha", "a", "roto", "holdout", "affected")

_JOINED = re.compile(r"(.+?)[_:/ -](r|g|b|red|green|blue)", re.IGNORECASE)
"""A layer's channel without the dot that EXR asks for: `beauty_R`."""
_COMPONENTS = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2}
_ALPHAS = ("a", "alpha")


@dataclass(frozen=True)
class Beauty:
    """Three colour channels of one part. `layer` is their prefix, '' for plain R, G, B."""

    part: PartHeader
    layer: str
    rgb: tuple[str, str, str]
    notes: tuple[str, ...] = ()
    others: tuple[PartHeader, ...] = ()
    """The parts of green and blue, where each colour is in one of its own."""

    @property
    def label(self) -> str:
        """How an artist names it: the part in a file of several, the layer otherwise."""
        return ".".join(filter(None, (self.part.name, self.layer))) or "rgb"


@dataclass(frozen=True)
class MatteChoice:
    """One channel of one part."""

    part: PartHeader
    channel: str
    notes: tuple[str, ...] = ()


def find_beauties(container: Container) -> list[Beauty]:
    """Every complete R, G, B triple of the file, in file order. `red`, `r` and `R` are the same component.

    Only where no part has one: triples without the dot that EXR asks for, `beauty_R`, and one spread over three parts.
    """
    found = [beauty for part in container.parts for beauty in _triples(part, dotted=True)]
    if not found:
        found = [beauty for part in container.parts for beauty in _triples(part, dotted=False)]
    return found or _over_parts(container)


def _triples(part: PartHeader, *, dotted: bool) -> list[Beauty]:
    layers: dict[str, dict[int, str]] = {}
    # Upper case first, so that R wins where a layer holds both R and r.
    for name in sorted(channel.name for channel in part.channels):
        layer, slot = _component(name, dotted=dotted)
        if slot is not None:
            layers.setdefault(layer, {}).setdefault(slot, name)
    return [Beauty(part, layer, (slots[0], slots[1], slots[2])) for layer, slots in layers.items() if len(slots) == 3]


def _component(name: str, *, dotted: bool = True) -> tuple[str, int | None]:
    """(layer, 0 to 2 for red, green or blue) of a channel; None for any other channel."""
    layer, _, component = name.rpartition(".")
    if not dotted and (joined := _JOINED.fullmatch(name)):
        layer, component = joined[1], joined[2]
    return layer, _COMPONENTS.get(component.lower())


def _over_parts(container: Container) -> list[Beauty]:
    """The one picture whose red, green and blue are in parts of their own; none where more than one part has each."""
    places: dict[str, dict[int, list[tuple[PartHeader, str]]]] = {}
    for part in container.parts:
        for channel in part.channels:
            layer, slot = _component(channel.name)
            if slot is not None:
                places.setdefault(layer, {}).setdefault(slot, []).append((part, channel.name))
    found = []
    for layer, slots in places.items():
        if len(slots) == 3 and all(len(held) == 1 for held in slots.values()):
            red, green, blue = (slots[index][0] for index in range(3))
            parts = red[0], green[0], blue[0]
            where = ", ".join(part.name or str(part.index) for part in parts)
            note = f"beauty put together from the parts {where}"
            if len({(part.data_window, part.display_window) for part in parts}) == 1:
                found.append(Beauty(parts[0], layer, (red[1], green[1], blue[1]), (note,), parts[1:]))
    return found


def choose_beauty(path: Path, container: Container, layer: str | None) -> Beauty:
    """The beauty: `layer` as a layer, part or view, else R, G, B, else the one layer with a beauty's name.

    Raises PlateError with the candidates when nothing or more than one thing matches.
    """
    views = _views(container)
    found = find_beauties(container)
    if not found:
        raise _no_colour(path, container)
    if layer is not None:
        return _named(path, found, layer, views)
    plain = [beauty for beauty in found if not beauty.layer]
    named = [beauty for beauty in found if _split_view(beauty.layer, views)[0] in BEAUTY_NAMES]
    return _one(path, plain or named or found, found, views)


def _named(path: Path, found: list[Beauty], wanted: str, views: Sequence[str]) -> Beauty:
    lower = wanted.lower()
    # From the exact to the loose: a literal name always wins over a view or a spelling.
    tests: tuple[Callable[[Beauty], bool], ...] = (
        lambda beauty: beauty.layer == wanted,
        lambda beauty: beauty.part.name == wanted and not beauty.layer,
        lambda beauty: beauty.label == wanted,
        lambda beauty: beauty.part.name == wanted,
        lambda beauty: lower in (beauty.layer.lower(), beauty.part.name.lower()),
        lambda beauty: not beauty.layer and _view_of(beauty, views).lower() == lower,
        lambda beauty: lower in ("rgb", "rgba") and not beauty.layer,
        lambda beauty: _split_view(beauty.layer or beauty.part.name, views)[0] == lower,
    )
    for test in tests:
        matching = [beauty for beauty in found if test(beauty)]
        if len(matching) == 1:
            return matching[0]
        if matching:
            return _one(path, matching, matching, views)
    raise PlateError(f"{path} has no layer '{wanted}' with red, green and blue.", _candidates(found))


def _one(path: Path, group: list[Beauty], found: list[Beauty], views: Sequence[str]) -> Beauty:
    """The only one of a group, or its first view, with a note where there was a choice; else it is the artist's."""
    if len(group) > 1:
        named = [b for b in group if _split_view(b.layer or b.part.name, views)[0] in BEAUTY_NAMES]
        group = named or group
    chosen = group[0]
    bases = {_split_view(beauty.layer or beauty.part.name, views)[0] for beauty in group}
    seen = {_view_of(beauty, views) for beauty in group}
    if len(group) > 1 and (len(bases) > 1 or len(seen) < len(group)):
        raise PlateError(f"{path} holds {len(group)} pictures that could be the beauty.", _candidates(group))
    view = _view_of(chosen, views)
    others = [b.label for b in found if b is not chosen and view and _view_of(b, views) != view]
    note = f"beauty taken from {chosen.label}" + (f", view {view}" if view else "")
    if others:
        note += f"; left alone: {_listed(others)}"
    if chosen.others:
        return chosen
    in_another_part = not chosen.layer and len({beauty.part.index for beauty in found}) > 1
    return replace(chosen, notes=(note,) if chosen.layer or others or in_another_part else ())


def _candidates(found: Sequence[Beauty]) -> str:
    if not found:
        return "Give an EXR with red, green and blue channels."
    labels = list(dict.fromkeys(beauty.label for beauty in found))
    return f"Name one with --layer: {', '.join(labels[:24])}{' ...' if len(labels) > 24 else ''}."


def _no_colour(path: Path, container: Container) -> PlateError:
    names = [channel.name for part in container.parts for channel in part.channels]
    if any(name.rpartition(".")[2] in ("RY", "BY") for name in names):
        return PlateError(
            f"{path} stores luminance and chroma (Y, RY, BY).",
            "Convert it to RGB first, in Nuke: a Read and a Write node with channels rgb and ZIP compression.",
        )
    return PlateError(
        f"{path} has no red, green and blue; its channels are {_listed(names)}.",
        "Give the plate as RGB, in Nuke: a Write node with channels rgb.",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:24]) + (" ..." if len(names) > 24 else "")


def _views(container: Container) -> list[str]:
    """Names of all views, the default view first; at most `MAX_VIEWS`."""
    views: list[str] = []
    for part in container.parts:
        found = part.attributes.get("multiView")
        if found and found.type == "stringvector":
            at = 0
            while at + 4 <= len(found.value) and len(views) < MAX_VIEWS:
                size = int.from_bytes(found.value[at : at + 4], "little")
                views.append(decode_text(found.value[at + 4 : at + 4 + size]))
                at += 4 + size
        views.append(part.view)
    return [view for view in dict.fromkeys(views) if view][:MAX_VIEWS]


def _split_view(name: str, views: Sequence[str]) -> tuple[str, str]:
    """The last word of a layer's or part's name, lower case, and its view: `rgba_left`, `ViewLayer.Combined.left`."""
    for view in views:
        if name.lower().endswith(view.lower()):
            rest = name[: -len(view)]
            if not rest or rest[-1] in "._ ":
                return rest.rstrip("._ ").rpartition(".")[2].lower(), view
    return name.rpartition(".")[2].lower(), ""


def _view_of(beauty: Beauty, views: Sequence[str]) -> str:
    """Which eye: as the part says, else as the layer's name says, else the first, whose channels have no prefix."""
    default = views[0] if views and not beauty.layer else ""
    return beauty.part.view or _split_view(beauty.layer, views)[1] or default


def choose_matte(path: Path, container: Container, wanted: str | None) -> MatteChoice:
    """The matte: the channel (or one-channel layer or part) asked for, else alpha, else the only channel, else R.

    Raises PlateError with the candidates when nothing or more than one thing matches.
    """
    channels = [(part, channel.name) for part in container.parts for channel in part.channels]
    if wanted is not None:
        return _named_matte(path, channels, wanted)
    tests: tuple[Callable[[PartHeader, str], bool], ...] = (
        lambda part, name: name.lower() in _ALPHAS,
        lambda part, name: len(channels) == 1,
        lambda part, name: name.rpartition(".")[2].lower() in MATTE_NAMES and name.lower() not in _ALPHAS,
        lambda part, name: name.rpartition(".")[0].rpartition(".")[2].lower() in MATTE_NAMES,
        lambda part, name: name == "Y" and len(part.channels) == 1,
    )
    for rank, test in enumerate(tests):
        matching = [(part, name) for part, name in channels if test(part, name)]
        if matching and len({name for _, name in matching}) > 1 and rank >= 2:
            red = [(part, name) for part, name in matching if _COMPONENTS.get(name.rpartition(".")[2].lower()) == 0]
            matching = red if len(red) == 1 else matching
            if len(matching) > 1:
                raise _many_mattes(path, [name for _, name in matching])
        if matching:
            part, name = matching[0]
            notes = () if rank == 0 and len(matching) == 1 else (f"matte taken from {_where(part, name)}",)
            return MatteChoice(part, name, notes)
    plain = [beauty for beauty in find_beauties(container) if not beauty.layer and not beauty.others]
    if plain:
        part, name = plain[0].part, plain[0].rgb[0]
        return MatteChoice(part, name, (f"matte taken from {_where(part, name)}: no alpha",))
    raise _many_mattes(path, [name for _, name in channels])


def _named_matte(path: Path, channels: Sequence[tuple[PartHeader, str]], wanted: str) -> MatteChoice:
    tests: tuple[Callable[[PartHeader, str], bool], ...] = (
        lambda part, name: name == wanted,
        lambda part, name: f"{part.name}.{name}" == wanted,
        lambda part, name: wanted in (part.name, name.rpartition(".")[0]),
        lambda part, name: name.lower() == wanted.lower() or f"{part.name}.{name}".lower() == wanted.lower(),
    )
    for test in tests:
        matching = [(part, name) for part, name in channels if test(part, name)]
        if len(matching) == 1:
            return MatteChoice(*matching[0])
        if matching and len({name for _, name in matching}) == 1:
            part, name = matching[0]
            return MatteChoice(part, name, (f"matte taken from {_where(part, name)}, the first part that has it",))
        if matching:
            raise _many_mattes(path, [_where(part, name) for part, name in matching])
    listed = _listed([_where(part, name) for part, name in channels])
    raise PlateError(f"{path} has no channel '{wanted}'.", f"Name one with --matte-channel: {listed}.")


def _where(part: PartHeader, name: str) -> str:
    return f"{part.name}.{name}" if part.index or part.name else name


def _many_mattes(path: Path, names: Sequence[str]) -> PlateError:
    return PlateError(
        f"{path} holds several channels that could be the matte.", f"Name one with --matte-channel: {_listed(names)}."
    )
