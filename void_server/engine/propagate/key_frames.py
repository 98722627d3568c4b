"""Key frames: the few for which work is done that the frames between them share.

What comes in: which scene each index belongs to. What goes out: indices. It knows no pictures.

Keys lie KEY_STEP apart, counted from the middle of a scene, and its first and last frame stand in for keys beyond it.
Each rests on the next one towards the middle, so that what is invented on one agrees with the others.
"""

from __future__ import annotations

from collections.abc import Sequence

KEY_STEP = 12


class KeyFrames:
    """Of every scene of a shot. scenes: by index, as in `Camera`.

    >>> keys = KeyFrames([0] * 60)
    >>> keys.beside(33), keys.chain(50), keys.near(33)
    ([30, 42], [42, 30, 54], [18, 30, 42, 54])
    """

    def __init__(self, scenes: Sequence[int]) -> None:
        self._members: dict[int, list[int]] = {}
        for index, scene in enumerate(scenes):
            self._members.setdefault(scene, []).append(index)
        self._scenes = scenes

    def beside(self, index: int) -> list[int]:
        """The key before and the key after, or the frame itself where it is one."""
        low = self._low(index)
        return self._inside(index, [low] if low == index else [low, low + KEY_STEP])

    def near(self, index: int) -> list[int]:
        """Those beside it, and one more on either side."""
        low = self._low(index)
        return self._inside(index, range(low - KEY_STEP, low + 2 * KEY_STEP + (low != index), KEY_STEP))

    def chain(self, index: int) -> list[int]:
        """Those beside it, and all that these rest on."""
        found: list[int] = []
        for start in self.beside(index):
            key: int | None = start
            while key is not None:
                found.append(key)
                key = self.parent(key)
        return list(dict.fromkeys(found))

    def parent(self, key: int) -> int | None:
        """The key that this one rests on: the next towards the middle; None for the middle itself."""
        middle = self._middle(key)
        if key == middle:
            return None
        steps = -(-abs(key - middle) // KEY_STEP) - 1
        return middle + (1 if key > middle else -1) * steps * KEY_STEP

    def depth(self, key: int) -> int:
        """How many keys it rests on, one on the other."""
        parent = self.parent(key)
        return 0 if parent is None else 1 + self.depth(parent)

    def _middle(self, index: int) -> int:
        members = self._members[self._scenes[index]]
        return members[len(members) // 2]

    def _low(self, index: int) -> int:
        middle = self._middle(index)
        return middle + (index - middle) // KEY_STEP * KEY_STEP

    def _inside(self, index: int, keys: Sequence[int]) -> list[int]:
        members = self._members[self._scenes[index]]
        return sorted({min(max(k, members[0]), members[-1]) for k in keys})
