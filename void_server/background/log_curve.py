"""A fixed, invertible curve that makes differences of light comparable, from deep shadow to highlights.

What comes in: scene-linear light of one shot. What goes out: a code in which equal steps look about equal, and back.
Registration, medians and weights work on the code, so one bright sample can't outvote a picture. It knows no frames.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from void_server.shot.contract import Array

HIGHLIGHT = 16.0
"""White lies at most so many times above what 95 % of the picture stays below: a sun or a lamp of a thousand times the
scene's light, a hundredth of the picture, must not press everything else into a few steps of code."""


@dataclasses.dataclass(frozen=True)
class LogCurve:
    """code = sign(x) ln(1 + |x| / toe) / ln(1 + white / toe); linear below `toe`, logarithmic above, odd in x.

    Source of the shape: a log curve with a linear toe, as camera log curves have; negatives survive because it is odd.
    """

    toe: float
    white: float

    @classmethod
    def measured(cls, samples: Array) -> LogCurve:
        """Place the curve by samples of the shot: toe a sixth of the median, white the 99.5th percentile of light, or
        HIGHLIGHT times the 95th if that is less."""
        light = samples[np.isfinite(samples) & (samples > 0)]
        if light.size < 16:
            return cls(toe=0.03, white=1.0)
        most, bright = np.percentile(light, (95, 99.5))
        white = max(float(min(bright, HIGHLIGHT * most)), 1e-6)
        return cls(toe=min(max(float(np.median(light)) / 6, white / 2000), white / 8), white=white)

    @property
    def _span(self) -> float:
        return float(np.log1p(self.white / self.toe))

    def encode(self, light: Array) -> Array:
        """Scene-linear light of any shape to code; 1 at `white`."""
        flat = np.ascontiguousarray(np.abs(light), dtype=np.float32)
        flat *= np.float32(1 / self.toe)
        flat += np.float32(1)
        logs = np.empty_like(flat)
        cv2.log(flat.reshape(flat.shape[0], -1) if flat.ndim > 1 else flat, logs.reshape(logs.shape[0], -1))
        logs *= np.float32(1 / self._span)
        return np.copysign(logs, light).astype(np.float32, copy=False)

    def decode(self, code: Array) -> Array:
        """The inverse of `encode`."""
        return (np.copysign(np.expm1(np.abs(code) * np.float32(self._span)), code) * np.float32(self.toe)).astype(
            np.float32, copy=False
        )
