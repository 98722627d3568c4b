"""Give a fused picture the sharpness, the motion blur and the last fraction of a pixel that its target has.

What comes in: a fused picture that also covers the ring around a hole, and the target's own ring. What goes out: the
picture, filtered. It does not know donors.

Resampling and averaging blur; other frames were blurred along other motions. To second order, blur along a direction
adds a second derivative and a shift adds a first one (Taylor expansion of the convolution), so the filter that turns
the fused ring into the target's ring is found by least squares over derivatives, and holds inside the hole as well.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.engine import Array

Mask = npt.NDArray[np.bool_]

SIGMAS = (0.6, 1.4)
RIDGE = 0.03
"""Share of the derivatives' own energy added to the normal equations: on a flat ring nothing is changed."""
LEAST_PIXELS = 800
OUTLIER = 0.12
"""Ring pixels that differ by more (in code) show something else and have no say."""


def match(code: Array, known: Mask, target: Array, ring: Mask) -> Array:
    """Filter `code` [h, w, 3] so that it matches `target` on `ring`; only what is `known` is trusted in derivatives."""
    inner = cv2.erode(known.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1) > 0
    difference = target - code
    use = ring & inner & (np.abs(difference).max(2) < OUTLIER)
    if use.sum() < LEAST_PIXELS:
        return code
    terms = _terms(code)
    a = np.stack([t[use].ravel() for t in terms]).astype(np.float64)
    y = (difference[use] - np.median(difference[use], axis=0)).ravel().astype(np.float64)
    gram = a @ a.T
    weights = np.linalg.solve(gram + RIDGE * np.diag(np.diag(gram)) + 1e-9 * np.eye(len(gram)), a @ y)
    added = sum(np.float32(w) * t for w, t in zip(weights, terms))
    return np.where(inner[..., None], code + np.clip(added, -OUTLIER, OUTLIER), code).astype(np.float32)


def _terms(code: Array) -> list[Array]:
    out = []
    for sigma in SIGMAS:
        soft = cv2.GaussianBlur(code, (0, 0), sigma)
        for dx, dy in ((2, 0), (0, 2), (1, 1), (1, 0), (0, 1)):
            out.append(np.asarray(cv2.Sobel(soft, -1, dx, dy, ksize=3, scale=0.25), np.float32))
    return out
