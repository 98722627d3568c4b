"""Give a shadowed plate its light back: keep its own pixels and take only the level from the recovered background.

What comes in: a recovered background and the plate's own pixels on one crop, both in code, and where something only
changed the light. What goes out: the picture, and how far the plate's own pixels made it. It does not know donors.

A soft shadow divides light, which in code is an offset that varies slowly. The plate plus that offset keeps the
plate's own texture, to the pixel, and its own grain; a recovered background was resampled, and averaged. A reflection
or a hard edge differs from the background in detail as well. There the background stays as it is: the yardstick is
how much the two differ in detail around the hole, where the plate is known to show background.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.shot.contract import Array

Mask = npt.NDArray[np.bool_]

SIGMA_PX = 2.5
"""What varies faster than this is detail, not light (1.8 scores alike, 4 loses 0.2 dB)."""
FULL, NONE = 2.0, 6.0
"""Energy of differing detail, over that around the hole, up to which the plate is kept and from which it is not
(paste:car-shadow:camel effect: 34.1 dB without, 34.6 with 1.5 and 3, 34.8 with 2 and 6 or 3 and 6)."""
CLEARANCE_PX = 3
"""The plate this close to the object is not purely background under another light."""
LEAST_PIXELS = 200


def relit(code: Array, known: Mask, own: Array, shade: Mask, ring: Mask) -> tuple[Array, Array]:
    """(code float32 [h, w, 3], share [h, w] that the plate has in it). shade: affected and no object near; ring:
    unchanged plate around the hole where `code` is known as well."""
    shade, ring = shade & known, ring & known
    if not shade.any() or ring.sum() < LEAST_PIXELS:
        return code, np.zeros(shade.shape, np.float32)
    use = (shade | ring).astype(np.float32)
    difference = np.where(use[..., None] > 0, code - own, np.float32(0))
    slow = averaged(difference, use, SIGMA_PX)
    detail = averaged(((difference - slow) ** 2).mean(2), use, SIGMA_PX)
    return _kept(code, own, slow, shade, detail, ring)


def detailed(code: Array, own: Array, shade: Mask, ring: Mask) -> tuple[Array, Array]:
    """The same where `code` was invented in the shade: its detail is no yardstick, so the plate's own is kept as far as
    it is no livelier than around the hole (paste:car-shadow:camel effect: 34.3 dB with invented detail, 35.2 so)."""
    if not shade.any() or ring.sum() < LEAST_PIXELS:
        return code, np.zeros(shade.shape, np.float32)
    use = (shade | ring).astype(np.float32)
    slow = averaged(code - own, use, SIGMA_PX)
    detail = averaged(((own - averaged(own, use, SIGMA_PX)) ** 2).mean(2), use, SIGMA_PX)
    return _kept(code, own, slow, shade, detail, ring)


def _kept(code: Array, own: Array, slow: Array, shade: Mask, detail: Array, ring: Mask) -> tuple[Array, Array]:
    """The plate at the level of `code` where its detail is about as usual, `code` where it is far from that."""
    usual = max(float(np.median(detail[ring])), 1e-8)
    share = np.where(shade, np.clip((NONE - detail / usual) / (NONE - FULL), 0, 1), 0).astype(np.float32)
    return np.asarray(code + share[..., None] * (own + slow - code), np.float32), share


def averaged(field: Array, weight: Array, sigma: float) -> Array:
    """Gaussian mean of `field` over what has weight; 0 where nothing near has."""
    mass = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-4)
    used = field * (weight[..., None] if field.ndim == 3 else weight)
    total = cv2.GaussianBlur(used, (0, 0), sigma)
    return np.asarray(total / (mass[..., None] if field.ndim == 3 else mass), np.float32)
