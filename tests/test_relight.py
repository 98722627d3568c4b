from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background import relight

Array = npt.NDArray[np.float32]
SIZE = 96


def _wall() -> Array:
    rng = np.random.default_rng(3)
    noise = cv2.GaussianBlur(rng.standard_normal((SIZE, SIZE, 3), dtype=np.float32), (0, 0), 1)
    return np.asarray(0.4 + 0.3 * noise, np.float32)


def _places() -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], Array]:
    """(shade, ring, the soft drop of code inside)."""
    shade = np.zeros((SIZE, SIZE), bool)
    shade[30:66, 30:66] = True
    inner = np.zeros((SIZE, SIZE), np.float32)
    inner[38:58, 38:58] = 0.3
    return shade, ~shade, cv2.GaussianBlur(inner, (0, 0), 3)[..., None]


def _recovered(wall: Array) -> Array:
    """The wall as donors give it back: a fraction of a pixel off, and softer."""
    move = np.array([[1, 0, 0.4], [0, 1, 0.3]], np.float32)
    return np.asarray(cv2.warpAffine(wall, move, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE), np.float32)


def test_under_a_soft_shadow_the_plates_own_texture_comes_back() -> None:
    wall, (shade, ring, drop) = _wall(), _places()
    fused = _recovered(wall)
    code, share = relight.relit(fused, np.ones_like(shade), wall - drop, shade, ring)
    assert share[shade].mean() > 0.9
    assert np.abs(code - wall)[shade].mean() < 0.6 * np.abs(fused - wall)[shade].mean()
    assert np.array_equal(code[ring], fused[ring])


def test_a_reflection_leaves_nothing_of_itself() -> None:
    wall, (shade, ring, _) = _wall(), _places()
    pattern = np.indices((SIZE, SIZE)).sum(0) // 3 % 2 * np.float32(0.3)
    fused = _recovered(wall)
    mirrored = np.where(shade[..., None], wall + pattern[..., None], wall)
    code, share = relight.relit(fused, np.ones_like(shade), mirrored, shade, ring)
    assert share[shade].mean() < 0.02
    assert np.abs(code - fused)[shade].mean() < 0.01


def test_what_no_donor_shows_is_left_alone() -> None:
    wall, (shade, ring, drop) = _wall(), _places()
    code, share = relight.relit(wall, ring, wall - drop, shade, ring)
    assert not share.any()
    assert np.array_equal(code, wall)


def test_where_light_was_invented_the_plates_own_detail_stays() -> None:
    wall, (shade, ring, drop) = _wall(), _places()
    invented = np.full_like(wall, 0.4)
    code, share = relight.detailed(np.where(shade[..., None], invented, wall), wall - drop, shade, ring)
    inner = cv2.erode(shade.astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    assert share[inner].mean() > 0.9
    assert not share[~shade].any()
    detail = [(a - cv2.GaussianBlur(a, (0, 0), 3))[inner] for a in (code, wall)]
    assert np.corrcoef(detail[0].ravel(), detail[1].ravel())[0, 1] > 0.9
    assert abs(float((code - invented)[inner].mean())) < 0.01


def test_a_reflection_is_no_detail_of_invented_ground() -> None:
    wall, (shade, ring, _) = _wall(), _places()
    pattern = np.indices((SIZE, SIZE)).sum(0) // 3 % 2 * np.float32(1)
    mirrored = np.where(shade[..., None], wall + pattern[..., None], wall)
    invented = np.full_like(wall, 0.4)
    code, share = relight.detailed(invented, mirrored, shade, ring)
    assert share[shade].mean() < 0.02
    assert np.abs(code - invented)[shade].mean() < 0.01
