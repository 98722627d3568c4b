"""Score a network on scenes kept from training: unseen shapes, textures and light rigs.

What comes in: a network. What goes out: intersection over union of appearance pixels, physics cells and all cells,
and how much is marked beside objects that do nothing. Appearance is counted twice: by the labels that are learnt (light
that differs by more than .016 of code), and "broadly" by those of earlier figures (.025 after a wider blur).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch

from void_server.effects.training import clips, looks, raycaster
from void_server.effects.training.losses import cell_labels
from void_server.effects.training.network import Network
from void_server.effects.training.pictures import Pictures

BATCH = 16
SEED = 77


@torch.no_grad()
def score(network: Network, scenes: dict[str, Any], pictures: Pictures, photographs: float) -> dict[str, float]:
    """scenes: made with held_out=True; photographs: share of clips that are cut-outs on photographs."""
    network.eval()
    device = raycaster.device()
    rng = np.random.default_rng(SEED)
    generator = torch.Generator(device).manual_seed(SEED)
    textures = looks.Textures(pictures.photographic, len(pictures.tiles))
    atlas, plates = (torch.from_numpy(p).to(device) for p in (pictures.tiles, pictures.plates))
    counts: dict[str, Any] = defaultdict(lambda: np.zeros(3))
    idle: list[float] = []
    for first in range(0, len(scenes["kind"]) - BATCH + 1, BATCH):
        made = [looks.dress(scenes, i, rng, textures, held_out=True) for i in range(first, first + BATCH)]
        batch = clips.stacked(made)
        example = clips.make(batch, atlas, plates, round(photographs * BATCH), generator, (12, 8))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            seen, _, physics, cells = (o.float() for o in network(*example.inputs))
        _count(counts["appearance"], seen > 0, example.appearance, example.appearance_weight)
        _count(counts["appearance, broadly"], seen > 0, example.broad, example.broad_weight)
        truth, valid = cell_labels(example) > 0, example.valid.squeeze(-1).squeeze(-1) > 0
        told = cells > 0
        keep = valid[:, 0]
        _count(counts["cells"], told.any(1)[keep], truth.any(1)[keep].float())
        known = torch.from_numpy(batch["physics_known"]).to(device).repeat_interleave(looks.WINDOW) & keep
        _count(counts["physics cells"], told[known, 1], truth[known, 1].float())
        _count(
            counts["physics"],
            physics > 0,
            torch.nn.functional.max_pool2d(example.physics, 2),
            torch.nn.functional.avg_pool2d(example.physics_weight.clamp_max(1), 2),  # passers-by count once
        )
        nothing = torch.from_numpy(batch["no_effect"]).to(device).repeat_interleave(looks.WINDOW)
        nothing[: round(photographs * BATCH) * looks.WINDOW] = False
        if nothing.any():
            marked = (seen > 0) & (example.appearance_weight > 0) & (example.appearance < 0.5)
            idle.append(float(marked[nothing].float().mean()))
    network.train()
    out = {name: round(float(c[0] / max(1, c.sum())), 4) for name, c in counts.items()}
    return {**out, "beside idle objects": round(float(np.mean(idle)), 5) if idle else 0.0}


def _count(counts: Any, found: Any, truth: Any, weight: Any = None) -> None:
    weight = torch.ones_like(truth) if weight is None else weight
    true = truth > 0.5
    counts += [float((weight * hit).sum()) for hit in (found & true, found & ~true, ~found & true)]
