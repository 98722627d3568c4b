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

from void_server.shot.contract import Array

Mask = npt.NDArray[np.bool_]

SIGMAS = (0.6, 1.4)
RIDGE = 0.03
"""Share of the derivatives' own energy added to the normal equations: on a flat ring nothing is changed."""
DERIVATIVES = np.stack(
    [np.outer(*cv2.getDerivKernels(dx, dy, 3)[::-1]) * 0.25 for dx, dy in ((2, 0), (0, 2), (1, 1), (1, 0), (0, 1))]
)
"""float64 [5, 3, 3]: Sobel's, along x and y twice, across, and once."""
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
    wanted = difference[use]
    wanted -= np.median(wanted, axis=0)
    del difference
    softened = [cv2.GaussianBlur(code, (0, 0), sigma) for sigma in SIGMAS]
    # One derivative of the whole crop at a time: a 4K crop takes tens of megabytes for each.
    slopes = np.stack(
        [cv2.filter2D(soft, -1, kernel)[use].ravel() for soft in softened for kernel in DERIVATIVES]
    ).astype(np.float64)
    gram = slopes @ slopes.T
    ridge = RIDGE * np.diag(np.diag(gram)) + 1e-9 * np.eye(len(gram))
    weights = np.linalg.solve(gram + ridge, slopes @ wanted.ravel().astype(np.float64))
    added = np.zeros_like(code)
    for soft, own in zip(softened, weights.reshape(len(SIGMAS), -1)):
        # A sum of filters of one picture is one filter.
        added += cv2.filter2D(soft, -1, np.tensordot(own, DERIVATIVES, 1))
    return np.where(inner[..., None], code + np.clip(added, -OUTLIER, OUTLIER), code).astype(np.float32)
