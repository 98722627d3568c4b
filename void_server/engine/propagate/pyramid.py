"""Spread known values smoothly into places where none are known (pull-push).

What comes in: a field and its weights. What goes out: the field, defined everywhere. It does not know what the field
means: registration spreads motion, fusion spreads gain, invention spreads colour.
"""

from __future__ import annotations

import cv2
import numpy as np

from void_server.engine import Array


def spread(field: Array, weight: Array) -> Array:
    """Fill `field` where `weight` is 0 by hierarchical normalised convolution.

    field: float32 [h, w] or [h, w, C]; weight: float32 [h, w] >= 0. Returns the field's shape; where weight is 1 the
    value is kept. All weights 0 gives 0. Source: Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4.
    """
    flat = field.ndim == 2
    values = [np.atleast_3d(field) * weight[..., None]]
    weights = [weight.astype(np.float32)]
    while min(weights[-1].shape) > 2:
        down = cv2.pyrDown(values[-1], borderType=cv2.BORDER_REFLECT_101)
        mass = cv2.pyrDown(weights[-1], borderType=cv2.BORDER_REFLECT_101)
        # Keep the mass of a known pixel from thinning out with every level: what is known at all becomes fully known.
        full = np.minimum(mass * 4, 1)
        values.append(np.atleast_3d(down) * (full / np.maximum(mass, 1e-8))[..., None])
        weights.append(full)
    top = weights[-1].sum()
    mean = values[-1].sum((0, 1)) / top if top > 1e-8 else np.zeros(values[-1].shape[2], np.float32)
    out = np.where(weights[-1][..., None] > 1e-6, values[-1] / np.maximum(weights[-1], 1e-6)[..., None], mean).astype(
        np.float32
    )
    for value, mass in zip(reversed(values[:-1]), reversed(weights[:-1])):
        up = np.atleast_3d(cv2.pyrUp(out, dstsize=(mass.shape[1], mass.shape[0])))
        known = np.minimum(mass, 1)[..., None]
        out = value / np.maximum(mass, 1e-6)[..., None] * known + up * (1 - known)
    return out[..., 0] if flat else out
