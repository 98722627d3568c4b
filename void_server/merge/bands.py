"""One picture of two, band by band, at plate resolution.

What comes in: a corrected fill and a recovered background at the fill's size, their weights, and the background at the
plate's. What goes out: the picture, in code. It decides nothing.

Light and detail are weighted apart: `light` is the background's share of what the fill can show, `fine` its share of
what only the plate's resolution shows. Where the fill keeps the word on detail, it is sharpened.
"""

from __future__ import annotations

import dataclasses

from void_server.engine import Array
from void_server.merge.smoothing import enlarged, enlarged_soft


@dataclasses.dataclass(frozen=True)
class Layers:
    """Both sources of one frame at the fill's size: [h, w, 3], weights [h, w]."""

    fill: Array
    """Corrected."""
    detail: Array
    """What sharpening adds to it, or what it has of its own at plate resolution."""
    background: Array
    """As soft as the fill is."""
    light: Array
    fine: Array


def laid_together(
    layers: Layers, behind: Array, size: tuple[int, int], rows: slice, columns: slice
) -> tuple[Array, Array, Array]:
    """(picture [H, W, 3], weight of the background's light, of its detail [H, W]) on the part [rows, columns] of a crop
    of `size` (height, width) plate pixels. behind: [H, W, 3], the background on that part."""
    part = rows, columns
    light, fine = (enlarged_soft(w, size, *part) for w in (layers.light, layers.fine))
    hers = fine[..., None]
    soft = enlarged(layers.background, size, *part)
    fill = enlarged(layers.fill, size, *part)
    # fill + light (soft - fill) + fine (behind - soft) + (1 - fine) detail, in place: these are the largest arrays
    detail = layers.detail if layers.detail.shape[:2] == fill.shape[:2] else enlarged(layers.detail, size, *part)
    out = behind - soft
    out -= detail
    out *= hers
    out += detail
    soft -= fill
    soft *= light[..., None]
    out += soft
    out += fill
    return out, light, fine
