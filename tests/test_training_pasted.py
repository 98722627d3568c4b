"""Cut-outs on photographs: what is there without the object, and where it makes a difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [training]")
for library in ("mujoco", "efficientnet_lite_pytorch", "onnx"):
    pytest.importorskip(library, reason="needs the extra [training]")

from training import looks, pasted, pictures  # noqa: E402


def _laid(movers: list[int], effects: list[Any] | None = None) -> dict[str, Any]:
    """Two clips of boxes on photographs: body 0 is the object where it is among `movers`, the others pass by."""
    height, width = 48, 84
    rng = np.random.default_rng(3)
    body = np.full((2, looks.TAKES, height, width), -1)
    for t in range(looks.TAKES):
        body[:, t, 12:24, 10 + t : 22 + t] = 0
        body[:, t, 8:20, 60 - t : 70 - t] = 1
    light = torch.from_numpy(rng.random((2, looks.TAKES, 3, height, width), np.float32))
    plates = torch.from_numpy(rng.integers(0, 255, (2, 3, *pictures.PLATE), np.uint8))
    layers = torch.tensor([[*movers, *[-1] * looks.LAYERS][: looks.LAYERS]] * 2)
    takes = torch.arange(looks.TAKES).repeat(2, 1)
    batch = {"takes": takes, "movers": layers, "mover_is_object": layers == 0}

    def drawn(*given: Any) -> Any:
        made = true_effects(*given)
        if effects is not None:
            effects.append(made)
        return made

    true_effects = pasted._effects
    torch.manual_seed(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pasted, "_effects", drawn)
        return pasted.lay(light, torch.from_numpy(body), batch, plates, torch.Generator().manual_seed(5))


@pytest.mark.parametrize("others", [[], [1]])
def test_a_pasted_clip_without_its_object_is_the_picture_as_if_it_had_never_been_there(others: list[int]) -> None:
    made, never = _laid([0, *others]), _laid([-1, *others])
    assert float(made["object"].sum()) > 0 and float(never["object"].sum()) == 0
    assert torch.equal(made["without"], never["with_object"][:, : looks.WINDOW])
    assert torch.equal(made["to_view"], never["to_view"])


def test_a_pasted_clip_shows_what_is_there_away_from_object_and_effects() -> None:
    effects: list[Any] = []
    made = _laid([0, 1], effects)
    dark, _, share = (part[:, : looks.WINDOW] for part in effects[0])
    shown, clean = made["with_object"][:, : looks.WINDOW], made["without"]
    solid = made["object"][:, : looks.WINDOW].float().reshape(-1, 1, *shown.shape[-2:])
    near = torch.nn.functional.max_pool2d(solid, 7, 1, 3).reshape(share.shape) > 0  # its edge is soft
    touched = near | (dark.amax(2, keepdim=True) > 0) | (share > 0)
    apart = (shown - clean).abs().amax(2, keepdim=True)
    assert 0.2 < float((~touched).float().mean()) < 1
    assert float(apart[~touched].max()) == 0
    shaded = (dark.amax(2, keepdim=True) > 0.1) & ~near
    assert bool(shaded.any()) and float(apart[shaded].mean()) > 0.005
