"""What a shot is made from: a kind and a seed. Everything else follows.

What comes in: words of a command line. What goes out: descriptions, with the reason why each kind is there. It runs on
the project's Python and on Blender's, and knows no renderer.

Scores are reported on PUBLISHED seeds alone. Whoever chooses a constant or trains a model takes any other seed: there
are thousands of relatives of every shot.
"""

from __future__ import annotations

import dataclasses
import json
import random
import zlib

PUBLISHED = range(9001, 9010)
"""Seeds of reported scores; the set that is rendered by default is the first of them."""

WHY = {
    "soft_shadow": "a walker's soft shadow on rough ground, handheld: what every removal starts with",
    "shaded_actor": "the shadow falls on somebody who stays: he has to get his light back, and nothing else",
    "crossing": "others cross behind and in front, with shadows of their own: none of it may go",
    "wet": "wet ground mirrors the walker in puddles and blurs him on the rest",
    "mirror": "a mirror shows the walker far from his matte",
    "stack": "boxes rest on the object: without it they fall",
    "hits": "the object knocks a wall of boxes down: without it the wall stands",
    "is_hit": "a ball bounces off the object: without it the ball rolls on",
    "lamp": "the object is the light: it goes dark around it",
    "ripples": "rings run over the water, far from what makes them",
    "glass": "light is bent through the object, and its shadow is bright",
    "thin": "a thin rod in fast motion: no pixel is fully covered",
    "far_shadow": "a balloon's shadow runs over the ground, nowhere near it",
    "footprints": "prints and scattered grains stay after the walker has gone on",
    "highlight": "a lamp of a hundred times white crosses behind the object",
    "haze_pan": "a fast pan through haze: everything is blurred and nothing is black",
    "slow": "it hardly moves: its ground is never seen",
    "flash": "the light flickers and a flash goes off: frames don't match each other",
    "hd": "the first kind at 1920x1080",
    "four_k": "a locked camera at 4096x2160",
}
SIZES = {"hd": (1920, 1080), "four_k": (4096, 2160)}
DEFAULT_SIZE, DEFAULT_FRAMES = (640, 360), 24
FRAMES = {"hd": 12, "four_k": 6}
"""The large ones show what size costs, and a frame of theirs takes as long as six or thirty of the others."""
SAMPLES = {"hd": 2, "four_k": 2, "glass": 8, "lamp": 8}
DEFAULT_SAMPLES = 4
FIRST = 1001


@dataclasses.dataclass(frozen=True)
class Description:
    """A shot, wholly: the same description gives the same bits on the same machine.

    samples: paths a pixel, before the denoiser.
    """

    kind: str
    seed: int
    width: int
    height: int
    frames: int
    samples: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}"

    def random(self, purpose: str) -> random.Random:
        """A stream of its own for every purpose, so that a new one changes none of the others."""
        return random.Random(zlib.crc32(f"{self.kind}/{self.seed}/{purpose}".encode()))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def describe(
    kind: str,
    seed: int = PUBLISHED[0],
    scale: float = 1.0,
    frames: int | None = None,
    samples: int | None = None,
) -> Description:
    """frames, samples: None takes the kind's own. Raises ValueError for a kind that isn't there.

    >>> describe("hd", scale=0.5).width
    960
    """
    if kind not in WHY:
        raise ValueError(f"No kind of shot is '{kind}'; there are {', '.join(WHY)}.")
    width, height = (max(16, 2 * round(side * scale / 2)) for side in SIZES.get(kind, DEFAULT_SIZE))
    frames = frames or FRAMES.get(kind, DEFAULT_FRAMES)
    return Description(kind, seed, width, height, frames, samples or SAMPLES.get(kind, DEFAULT_SAMPLES))
