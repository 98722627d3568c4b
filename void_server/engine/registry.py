"""Where engines are found, chosen and kept.

What comes in: an engine's name, or `auto`, and a device. What goes out: the engine. It knows no shot.

Third parties register an engine with an entry point in the group `void_server.engines`:

    [project.entry-points."void_server.engines"]
    mine = "my_package:MyEngine"
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Protocol, cast

from void_server.engine.contract import Availability, Engine, Needs
from void_server.wire.errors import EngineError, SettingsError

ENTRY_POINTS = "void_server.engines"


class EngineClass(Protocol):
    """The class of an engine. It may also have `available(device)`, a static method: whether it can run here."""

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> Needs: ...
    def __call__(self, device: str | None) -> Engine: ...


def _propagate() -> EngineClass:
    from void_server.engine.propagate import Propagate

    return Propagate


def _void() -> EngineClass:
    from void_server.engine.void import VoidEngine

    return VoidEngine


BUILT_IN: Mapping[str, Callable[[], EngineClass]] = {"propagate": _propagate, "void": _void}
"""Imported when they are asked for; mypy holds each class against the contract here."""


def names() -> list[str]:
    """Every engine that can be named: built in first, then those that other packages register."""
    found = [e.name for e in importlib.metadata.entry_points().select(group=ENTRY_POINTS)]
    return [*BUILT_IN, *sorted(set(found) - set(BUILT_IN))]


def find(name: str) -> EngineClass:
    """The class of an engine by its name, imported now. Raises SettingsError for an unknown one, EngineError for one
    that can't be imported."""
    if name in BUILT_IN:
        try:
            return BUILT_IN[name]()
        except ImportError as error:
            raise EngineError(
                f"Engine '{name}' can't be loaded: {error}.", "Install its extra: pip install 'void-server[void]'."
            ) from error
    for entry in importlib.metadata.entry_points().select(group=ENTRY_POINTS):
        if entry.name == name:
            try:
                return cast(EngineClass, entry.load())
            except Exception as error:
                raise EngineError(
                    f"Engine '{name}' ({entry.value}) can't be loaded: {error}.",
                    "Repair or remove the package that registers it.",
                ) from error
    raise SettingsError(f"There is no engine '{name}'.", f"Use auto or one of: {', '.join(names())}.")


def available(name: str, device: str | None) -> Availability:
    """Whether `name` can run on `device` here: asks the class's own `available(device)`, if it has one."""
    try:
        cls = find(name)
    except EngineError as error:
        return Availability(False, error.message)
    ask = getattr(cls, "available", None)
    answer = ask(device) if ask else Availability(True, "needs nothing but this machine")
    assert isinstance(answer, Availability)
    return answer


def choose(name: str, device: str | None) -> tuple[str, str]:
    """Turn `auto` into an engine: (name, why). `void` where its weights and a GPU are present, else `propagate`."""
    if name != "auto":
        return name, "asked for by name"
    answer = available("void", device)
    if answer.ok:
        return "void", answer.reason
    return "propagate", f"void can't run here: {answer.reason}"


def load(name: str, device: str | None) -> Engine:
    """An engine by name, ready to fill shots. Raises SettingsError or EngineError.

    Each engine is kept from shot to shot, so that a daemon, or a batch in one process, loads weights once. One that is
    asked for on another device takes the place of the one before. An engine that takes long to start has a method
    `prepare()`, which begins with that and returns at once: a shot is read, and its effects are found, before it is
    asked for a fill.
    """
    cls = find(name)
    kept = _kept.get(name)
    if kept is None or kept[0] is not cls or kept[1] != device:
        # The one before goes first: two sets of weights would not fit on one card.
        kept = None
        _kept.pop(name, None)
        kept = _kept[name] = (cls, device, cls(device))
    engine = kept[2]
    prepare = getattr(engine, "prepare", None)
    if prepare is not None:
        prepare()
    return engine


def release() -> None:
    """Let every kept engine give back what it holds of memory and devices. The next `load` starts afresh.

    An engine that keeps more between shots than Python frees with it has a method `release()`, which frees that.
    """
    for name in list(_kept):
        give_back = getattr(_kept.pop(name)[2], "release", None)
        if give_back is not None:
            give_back()


_kept: dict[str, tuple[EngineClass, str | None, Engine]] = {}
