"""Temporal background recovery on the CPU: the engine that is always there."""

from __future__ import annotations

from void_server.engine.propagate.propagate import Propagate

__all__ = ["Propagate"]
