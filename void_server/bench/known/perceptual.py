"""How far two pictures are apart as an eye has it, pixel by pixel.

What comes in: scene-linear light of a result and of the truth, one frame. What goes out: maps of the error or of the
agreement. It reads no files and downloads nothing.

Light 1 is taken as a display's DISPLAY_NITS. PU21: Mantiuk & Azimi, "PU21", PCS 2021, the fit "banding and glare".
SSIM: Wang et al. 2004, as scikit-image has it. FLIP: Andersson et al., HPG 2020, NVIDIA's own `flip-evaluator`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from void_server.image.colour import REC709_LUMINANCE, srgb_encode
from void_server.wire.errors import SettingsError

Array = npt.NDArray[np.float32]

DISPLAY_NITS = 100.0
PU21_NITS = (0.005, 10000.0)
PU21 = (0.353487901, 0.3734658629, 8.277049286e-05, 0.9062562627, 0.09150303166, 0.9099517204, 596.3148142)
PU21_PEAK = 256.0
"""About what PU21 makes of 100 nits, so that its decibels are on the scale of 8-bit pictures."""


def pu21(light: npt.NDArray[np.floating]) -> Array:
    """Perceptually uniform code of scene-linear light, any shape: steps of the same size are seen alike.

    >>> float(pu21(np.float32(1.0)).round())
    256.0
    """
    nits = np.clip(np.nan_to_num(light.astype(np.float32)) * np.float32(DISPLAY_NITS), *PU21_NITS)
    p = [np.float32(each) for each in PU21]
    power = nits ** p[3]
    return np.asarray(p[6] * (((p[0] + p[1] * power) / (1 + p[2] * power)) ** p[4] - p[5]), np.float32)


def shown(light: npt.NDArray[np.floating]) -> Array:
    """As on a plain display: sRGB code of light between 0 and 1."""
    return srgb_encode(np.clip(np.nan_to_num(light.astype(np.float32)), 0, 1))


def ssim(result_code: Array, truth_code: Array) -> Array:
    """float32 [H, W]: structural similarity of luma. Both [H, W, 3], sRGB codes. Raises SettingsError without
    scikit-image."""
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise _missing("scikit-image") from error
    one, other = result_code @ REC709_LUMINANCE, truth_code @ REC709_LUMINANCE
    _, picture = structural_similarity(other, one, data_range=1.0, gaussian_weights=True, sigma=1.5,
                                       use_sample_covariance=False, full=True)  # fmt: skip
    return np.asarray(picture, np.float32)


def flip(result_code: Array, truth_code: Array) -> Array:
    """float32 [H, W] in [0, 1]: FLIP at 67 pixels a degree. Both [H, W, 3], sRGB codes. Raises SettingsError without
    flip-evaluator."""
    try:
        import flip_evaluator
    except ImportError as error:
        raise _missing("flip-evaluator") from error
    reference, test = (np.ascontiguousarray(picture, np.float32) for picture in (truth_code, result_code))
    error_map, _, _ = flip_evaluator.evaluate(reference, test, "LDR", applyMagma=False, computeMeanError=False)
    return np.asarray(error_map[..., 0], np.float32)


def _missing(package: str) -> SettingsError:
    return SettingsError(f"Scores of known shots need {package}.", "pip install 'void-server[bench]'.")
