"""Spread known values smoothly into places where none are known (pull-push).

What comes in: a field and its weights. What goes out: the field, defined everywhere. It does not know what the field
means: registration spreads motion, fusion spreads gain, invention spreads colour.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from void_server.shot.contract import Array


def spread(field: Array, weight: Array) -> Array:
    """Fill `field` where `weight` is 0 by hierarchical normalised convolution.

    field: float32 [h, w] or [h, w, C]; weight: float32 [h, w] >= 0. Returns the field's shape; where weight is 1 the
    value is kept. All weights 0 gives 0. Source: Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4.
    """
    if field.ndim == 2:
        return _spread([field], weight)[0]
    # Channel by channel: NumPy is several times slower on pairs that lie side by side than on planes.
    return np.asarray(cv2.merge(_spread(cv2.split(field), weight)), np.float32).reshape(field.shape)


def _spread(planes: Sequence[Array], weight: Array) -> list[Array]:
    """The same for planes [h, w] of one weight. OpenCV works in place, in two thirds of NumPy's time."""
    weight = np.asarray(weight, np.float32)
    values = [[np.asarray(cv2.multiply(plane, weight), np.float32) for plane in planes]]
    weights = [weight]
    while min(weights[-1].shape) > 2:
        mass = cv2.pyrDown(weights[-1], borderType=cv2.BORDER_REFLECT_101)
        # Keep the mass of a known pixel from thinning out with every level: what is known at all becomes fully known.
        full = cv2.min(cv2.multiply(mass, 4.0), 1.0)
        gained = cv2.divide(full, cv2.max(mass, 1e-8))
        values.append([_times(cv2.pyrDown(v, borderType=cv2.BORDER_REFLECT_101), gained) for v in values[-1]])
        weights.append(full)
    top, known = weights[-1], weights[-1] > 1e-6
    total = max(float(top.sum()), 1e-8)
    out = [np.where(known, v / np.maximum(top, 1e-6), v.sum() / total).astype(np.float32) for v in values[-1]]
    for fine, mass in zip(reversed(values[:-1]), reversed(weights[:-1])):
        share = cv2.min(mass, 1.0)
        own, rest = cv2.divide(share, cv2.max(mass, 1e-6)), cv2.subtract(1.0, share)
        size = (mass.shape[1], mass.shape[0])
        out = [_plus(_times(v, own), _times(cv2.pyrUp(o, dstsize=size), rest)) for v, o in zip(fine, out)]
    return out


def _times(plane: Array, by: Array) -> Array:
    """plane * by, in the place of `plane`."""
    return np.asarray(cv2.multiply(plane, by, plane), np.float32)


def _plus(plane: Array, other: Array) -> Array:
    return np.asarray(cv2.add(plane, other, plane), np.float32)
