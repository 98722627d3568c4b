"""Arrays of single frames, kept in a fixed number of bytes.

What comes in: arrays, each with the window it covers, by key. What goes out: the same, as long as they fit. It does not
know what they show.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Hashable
from typing import Any

import numpy.typing as npt

from void_server.wire.shot import Window

Held = tuple[Window, npt.NDArray[Any]]


class FrameCache:
    """Forgets what was not asked for longest, once all takes more than `limit_bytes`. Safe to share between threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._held: collections.OrderedDict[Hashable, Held] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, window: Window | None = None) -> Held | None:
        """What is held under `key`, if it covers `window`."""
        with self._lock:
            found = self._held.get(key)
            if found is None or (window is not None and not found[0].contains(window)):
                return None
            self._held.move_to_end(key)
            return found

    def put(self, key: Hashable, held: Held) -> Held:
        """Keep `held` under `key`, in place of what was there; returns it."""
        with self._lock:
            if key in self._held:
                self._bytes -= self._held.pop(key)[1].nbytes
            self._held[key] = held
            self._bytes += held[1].nbytes
            while self._bytes > self._limit_bytes and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1][1].nbytes
        return held

    def clear(self) -> None:
        with self._lock:
            self._held.clear()
            self._bytes = 0
