"""Scene-linear light to the engine's [0, 1] and back, with one fixed curve for the whole shot.

What comes in: light in the plate's primaries. What goes out: codes in Rec.709 primaries that look like the sRGB video
models were trained on, and, back again, light bounded by the shot's own peak. It knows no file and no model.

The curve is sRGB below a knee and a logarithmic shoulder above it, measured against six others: mid-greys keep half the
error of log curves, and the inverse is bounded (Reinhard's is not: one code value can mean a million). Constants are
frozen per shot, never per frame or window, since that flickers.

Decisions
- Negatives are clamped in the engine's input only. Outside the hole nothing of this touches a pixel.
- A table over all 65,536 half-float bit patterns gives the same values as the formula, 90 times faster.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

KNEE = 0.25
"""Light at which the shoulder begins: measured best of .25 and .5 for mid-tones against highlights."""
MID_GREY = 0.18
PEAK_CAP = 256.0
ANCHOR_STOPS = (-1.0, 4.0)
REC709_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Luminance of linear Rec.709, ITU-R BT.709-6."""

REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
AP0 = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767)
AP1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
REC2020 = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290)
P3D65 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
"""Chromaticities as EXR stores them: red x y, green x y, blue x y, white x y.
Sources: ITU-R BT.709-6, SMPTE ST 2065-1 (AP0), AMPAS S-2014-004 (AP1), ITU-R BT.2020-2, SMPTE EG 432-1 with D65."""


def rgb_to_xyz(chromaticities: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Matrix [3, 3] from linear RGB to CIE XYZ (SMPTE RP 177: primaries scaled so that 1,1,1 is the white point).

    Primaries may have y = 0, as those of XYZ itself do; the white point may not. Raises numpy's LinAlgError for
    primaries on one line.
    """
    xy = np.asarray(chromaticities, np.float64).reshape(4, 2)
    if not xy[:3, 1].all():
        primaries = np.stack([xy[:3, 0], xy[:3, 1], 1 - xy[:3].sum(1)])
        white = np.array([xy[3, 0], xy[3, 1], 1 - xy[3].sum()]) / xy[3, 1]
        return np.asarray(primaries * np.linalg.solve(primaries, white))
    columns = np.stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(1)) / xy[:, 1]])
    scale = np.linalg.solve(columns[:, :3], columns[:, 3])
    return np.asarray(columns[:, :3] * scale)


@functools.lru_cache(maxsize=8)
def to_rec709(chromaticities: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """Matrix [3, 3] from the plate's linear RGB to linear Rec.709, white adapted by Bradford (Lam 1985)."""
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    source, target = rgb_to_xyz(chromaticities), rgb_to_xyz(REC709)
    cones = bradford @ (target @ np.ones(3)) / (bradford @ (source @ np.ones(3)))
    adapt = np.linalg.inv(bradford) @ np.diag(cones) @ bradford
    return np.asarray(np.linalg.inv(target) @ adapt @ source, np.float32)


def srgb_encode(light: npt.ArrayLike) -> Array:
    """Linear light to sRGB code, IEC 61966-2-1; negatives pass through the linear toe.

    >>> round(float(srgb_encode(0.18)), 4)
    0.4614
    """
    x = np.asarray(light, np.float64)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * np.maximum(x, 0.0031308) ** (1 / 2.4) - 0.055).astype(np.float32)


def srgb_decode(code: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """sRGB code to linear light, the exact inverse of `srgb_encode`."""
    c = np.asarray(code, np.float64)
    return np.asarray(np.where(c <= 0.04045, c / 12.92, ((np.maximum(c, 0.04045) + 0.055) / 1.055) ** 2.4))


@dataclasses.dataclass(frozen=True)
class EngineSpace:
    """One shot's curve between light and code: frozen constants, written into the manifest.

    gain: light is multiplied by it first, so that the shot's middle lies near .18 (1 where it is within a stop).
    peak: the light, after gain, whose code is 1. Codes decode to at most `peak / gain`.
    """

    gain: float = 1.0
    peak: float = 1.0
    chromaticities: tuple[float, ...] = REC709

    @functools.cached_property
    def _shoulder(self) -> tuple[float, float, float]:
        """(code at the knee, a, s) of code = c + a ln(1 + (x - knee) / s), C1 at the knee and 1 at the peak."""
        c = float(srgb_encode(KNEE))
        slope = 1.055 / 2.4 * KNEE ** (1 / 2.4 - 1)
        lo, hi = 1e-9, 1e9
        for _ in range(200):
            s = (lo * hi) ** 0.5
            reached = c + slope * s * np.log1p((self.peak - KNEE) / s)
            lo, hi = (s, hi) if reached < 1 else (lo, s)
        return c, slope * s, s

    def _curve(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x = np.clip(x * self.gain, 0, self.peak)
        if self.peak <= 1:
            return np.asarray(srgb_encode(x), np.float64)
        c, a, s = self._shoulder
        return np.where(x <= KNEE, srgb_encode(x), c + a * np.log1p(np.maximum(x - KNEE, 0) / s))

    @functools.cached_property
    def _half_table(self) -> Array:
        """Code of every half float, indexed by its bits; NaN and -Inf become 0, +Inf the peak's 1."""
        halves = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
        halves = np.nan_to_num(halves, nan=0.0, posinf=self.peak / self.gain, neginf=0.0)
        return self._curve(halves).astype(np.float32)

    def encode(self, light: npt.NDArray[np.floating]) -> Array:
        """Light in the plate's primaries, float16 or float32 [..., 3], to codes in [0, 1], float32 [..., 3]."""
        if self.chromaticities == REC709 and light.dtype == np.float16:
            return np.asarray(self._half_table[light.view(np.uint16)])
        with np.errstate(invalid="ignore"):  # signalling NaNs, which plates do hold, would warn when widened
            x = np.nan_to_num(np.asarray(light, np.float64), nan=0.0, posinf=self.peak / self.gain, neginf=0.0)
        if self.chromaticities != REC709:
            x = _into_gamut(x @ to_rec709(self.chromaticities).T.astype(np.float64))
        return self._curve(x).astype(np.float32)

    def decode(self, code: npt.NDArray[np.floating]) -> Array:
        """Codes, float32 [..., 3], back to light in the plate's primaries, within [0, peak / gain] of Rec.709."""
        y = np.clip(np.nan_to_num(np.asarray(code, np.float64)), 0, 1)
        if self.peak <= 1:
            x = srgb_decode(y)
        else:
            c, a, s = self._shoulder
            x = np.where(y <= c, srgb_decode(y), KNEE + s * np.expm1(np.maximum(y - c, 0) / a))
        x = np.minimum(x, self.peak) / self.gain
        if self.chromaticities != REC709:
            x = x @ np.linalg.inv(to_rec709(self.chromaticities).astype(np.float64)).T
        return x.astype(np.float32)

    def to_wire(self) -> dict[str, object]:
        return {"gain": self.gain, "peak": self.peak, "knee": KNEE, "chromaticities": list(self.chromaticities)}


def engine_space(samples_lin: npt.NDArray[np.floating], chromaticities: tuple[float, ...] = REC709) -> EngineSpace:
    """Choose a shot's curve from light around the hole, over the whole shot.

    samples_lin: float [N, 3], light in the plate's primaries, hole excluded; non-finite ones are left out.
    The gain brings the median to mid-grey if it is more than a stop away, within -1 to +4 stops. The peak is a quarter
    above the 99.99th percentile, at least 2, at most 256; a shot with nothing above 1 gets plain sRGB.
    """
    x = np.asarray(samples_lin, np.float64).reshape(-1, 3)
    # Channel by channel: reductions over three values a row take numpy ten times as long.
    finite = np.isfinite(x)
    x = x[finite[:, 0] & finite[:, 1] & finite[:, 2]]
    if chromaticities != REC709:
        x = x @ to_rec709(chromaticities).T.astype(np.float64)
    if not len(x):
        return EngineSpace(chromaticities=chromaticities)
    luminance = x @ REC709_LUMINANCE.astype(np.float64)
    lit = luminance[luminance > 1e-6]
    stops = float(np.log2(MID_GREY) - np.median(np.log2(lit))) if len(lit) else 0.0
    gain = 2.0 ** float(np.clip(stops, *ANCHOR_STOPS)) if abs(stops) > 1 else 1.0
    top = float(np.percentile(np.maximum(np.maximum(x[:, 0], x[:, 1]), x[:, 2]) * gain, 99.99))
    peak = 1.0 if top <= 1 else float(min(max(2.0, 1.25 * top), PEAK_CAP))
    return EngineSpace(gain=gain, peak=peak, chromaticities=chromaticities)


def _into_gamut(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Pull colours outside Rec.709 toward their own luminance until no channel is negative (engine's input only)."""
    luminance = np.maximum(x @ REC709_LUMINANCE.astype(np.float64), 0)[..., None]
    low = x.min(-1, keepdims=True)
    pull = np.where(low < 0, luminance / np.maximum(luminance - low, 1e-12), 1.0)
    return np.asarray(luminance + (x - luminance) * pull)


def display(light_lin: npt.NDArray[np.floating], chromaticities: tuple[float, ...] = REC709) -> npt.NDArray[np.uint8]:
    """Light to 8-bit sRGB for people to look at: highlights roll off above 1 instead of clipping hard."""
    space = EngineSpace(peak=16.0, chromaticities=chromaticities)
    return np.asarray(np.round(space.encode(light_lin) * 255), np.uint8)
