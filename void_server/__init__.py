"""VOID for compositors: remove an object, and what it did to the scene, from a scene-linear EXR plate.

This file holds the version and imports nothing, so that every host can load it. What other programs may import is
listed in docs/development.md, with how long it stays: the wire, the engine contract, one function of `pipeline`.
"""

__version__ = "0.2.0"
