from __future__ import annotations

import numpy as np

from void_server.engine.propagate import exemplar


def test_a_gap_too_thin_for_a_patch_is_bridged_from_its_borders() -> None:
    rng = np.random.default_rng(1)
    ramp = np.repeat(np.linspace(0, 1, 80, dtype=np.float32)[None, :, None], 60, axis=0).repeat(3, axis=2)
    code = (ramp + 0.1 * rng.standard_normal((60, 80, 1), dtype=np.float32) * (ramp < 0.3)).astype(np.float32)
    known = np.ones((60, 80), bool)
    known[20:23, 45:65] = False
    done = exemplar.complete(np.where(known[..., None], code, 9).astype(np.float32), known, 0)
    assert np.array_equal(done[known], code[known])
    assert np.abs(done - ramp)[~known].max() < 0.02


def test_a_wide_gap_gets_texture_not_a_smear() -> None:
    stripes = (np.indices((96, 96))[1] // 4 % 2).astype(np.float32)[..., None].repeat(3, axis=2)
    known = np.ones((96, 96), bool)
    known[36:60, 36:60] = False
    done = exemplar.complete(np.where(known[..., None], stripes, 0.5).astype(np.float32), known, 0)
    assert done[~known].std() > 0.3
