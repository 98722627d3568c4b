"""Engines: fill the hole that an object leaves. The contract is public; the registry finds, chooses and keeps them."""

from void_server.engine.contract import Array, Availability, Colour, Engine, Fill, Needs, Shot
from void_server.engine.registry import available, choose, find, load, names, release

__all__ = [
    "Array",
    "Availability",
    "Colour",
    "Engine",
    "Fill",
    "Needs",
    "Shot",
    "available",
    "choose",
    "find",
    "load",
    "names",
    "release",
]
