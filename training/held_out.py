"""Score a network on scenes kept from training: unseen shapes, textures and light rigs.

What comes in: a network. What goes out: intersection over union of appearance pixels, physics pixels and cells, and all
cells, and how much is marked beside objects that do nothing. Appearance is counted twice: by the labels that are learnt
(light that differs by more than .016 of code), and "broadly" by those of earlier figures (.025 after a wider blur).

Beside what the network does stand figures of what it could do: on true backgrounds, at other thresholds, and for
physics that of an oracle. The oracle marks all that is seen to stand or move otherwise than it would without the
object. What it misses is where those things would then be, which no picture shows.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor

from training import clips, looks, raycaster, scenes, sensor
from training.clips import Example
from training.filters import gauss
from training.losses import cell_labels, cells_of
from training.network import Network
from training.pictures import Pictures

BATCH = 16
SEED, SCENES_SEED = 77, 5_000_000
SCORED = 384
"""Scenes that are scored: some 20 of the rarest kind."""
RAYS = (12, 8)
THRESHOLDS = {".15": 0.15, ".3": 0.3, ".7": 0.7}
"""Chances from which appearance and physics are believed, beside .5."""


def scenes_kept_back(workers: int, count: int = SCORED) -> dict[str, Any]:
    return scenes.many(SCENES_SEED, count, workers, held_out=True)


def figures(network: Network, kept_back: dict[str, Any], pictures: Pictures) -> Iterator[dict[str, Any]]:
    """One result for ray-cast scenes, one for cut-outs on photographs."""
    for name, photographs in (("scenes", 0.0), ("photographs", 1.0)):
        yield {"held out": name, **score(network, kept_back, pictures, photographs)}


@torch.no_grad()
def score(network: Network, kept_back: dict[str, Any], pictures: Pictures, photographs: float) -> dict[str, float]:
    """kept_back: scenes made with held_out=True; photographs: share of clips that are cut-outs on photographs. Kinds
    are told apart on the others alone."""
    device = raycaster.device()
    network = network.to(device, memory_format=torch.channels_last).eval()
    rng = np.random.default_rng(SEED)
    generator = torch.Generator(device).manual_seed(SEED)
    torch.manual_seed(SEED)
    textures = looks.Textures(pictures.photographic, len(pictures.tiles))
    atlas, plates = (torch.from_numpy(p).to(device) for p in (pictures.tiles, pictures.plates))
    pasted = round(photographs * BATCH)
    counts: dict[str, Any] = defaultdict(lambda: np.zeros(3))
    idle: list[float] = []
    for first in range(0, len(kept_back["kind"]) - BATCH + 1, BATCH):
        made = [looks.dress(kept_back, i, rng, textures, held_out=True) for i in range(first, first + BATCH)]
        batch = clips.stacked(made)
        example = clips.make(batch, atlas, plates, pasted, generator, RAYS)
        of_clip = {n: torch.from_numpy(batch[n]).to(device).clone() for n in ("kind", "physics_known", "no_effect")}
        of_clip["kind"][:pasted], of_clip["no_effect"][:pasted] = -1, False
        kind, known, nothing = (x.repeat_interleave(looks.WINDOW) for x in of_clip.values())
        seen, physics, cells = _answers(network, example.inputs)
        for name, inputs in (("true background", with_true_background(example)), ("no holes", without_holes(example))):
            _count(counts[f"appearance, {name}"], _answers(network, inputs)[0] > 0.5, *_appearance(example))
        _count(counts["appearance"], seen > 0.5, *_appearance(example))
        _count(counts["appearance, broadly"], seen > 0.5, example.broad, example.broad_weight)
        truth = cell_labels(example) > 0
        keep = example.valid.flatten() > 0
        _count(counts["cells"], (cells > 0.5).any(1)[keep], truth.any(1)[keep].float())
        known &= keep
        at_quarter = (
            F.max_pool2d(example.physics, 2),
            F.avg_pool2d(example.physics_weight.clamp_max(1), 2),  # passers-by count once
        )
        _count(counts["physics"], physics > 0.5, *at_quarter)
        _count(counts["physics cells"], cells[known, 1] > 0.5, truth[known, 1].float())
        _count(counts["physics, oracle of what is seen"], F.max_pool2d(example.differs, 4) > 0, *at_quarter)
        told = cells_of(F.max_pool2d(example.differs, 2), example.physics_weight)
        _count(counts["physics cells, oracle of what is seen"], told[known, 0] > 0, truth[known, 1].float())
        for name, least in THRESHOLDS.items():
            _count(counts[f"appearance from {name}"], seen > least, *_appearance(example))
            _count(counts[f"physics cells from {name}"], cells[known, 1] > least, truth[known, 1].float())
        for index, name in enumerate(scenes.KINDS):
            own = kind == index
            _count(counts[f"appearance, {name}"], seen[own] > 0.5, *(x[own] for x in _appearance(example)))
            own &= known
            _count(counts[f"physics cells, {name}"], cells[own, 1] > 0.5, truth[own, 1].float())
        if nothing.any():
            marked = (seen > 0.5) & (example.appearance_weight > 0) & (example.appearance < 0.5)
            idle.append(float(marked[nothing].float().mean()))
    network.train()
    out = {name: round(float(c[0] / c.sum()), 4) for name, c in counts.items() if c.sum()}
    both, _, missed = counts["physics cells, oracle of what is seen"]
    if both + missed:
        out["physics cells, share that is seen"] = round(float(both / (both + missed)), 4)
    return {**out, "beside idle objects": round(float(np.mean(idle)), 5) if idle else 0.0}


def with_true_background(example: Example) -> tuple[Tensor, ...]:
    """Inputs with the true picture wherever the recovered background holds any, as soft as the plate is."""
    plate, _, matte, coverage, scatter = example.inputs
    levels = torch.stack([gauss(example.clean, soft) for soft in sensor.SOFT])
    off = (levels - plate).square().reshape(len(levels), -1, looks.WINDOW * plate[0].numel()).median(-1).values
    pick = off.argmin(0).repeat_interleave(looks.WINDOW)
    true = levels[pick, torch.arange(len(pick), device=plate.device)]
    return plate, true * coverage, matte, coverage, torch.zeros_like(scatter)


def without_holes(example: Example) -> tuple[Tensor, ...]:
    """The same with the true picture everywhere."""
    return with_true_background(dataclasses.replace(example, coverage=torch.ones_like(example.coverage)))


def _answers(network: Network, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Chances of appearance, physics, and cells of both."""
    device = inputs[0].device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        seen, _, physics, cells = network(*inputs)
    return torch.sigmoid(seen.float()), torch.sigmoid(physics.float()), torch.sigmoid(cells.float())


def _appearance(example: Example) -> tuple[Tensor, Tensor]:
    return example.appearance, example.appearance_weight


def _count(counts: Any, found: Any, truth: Any, weight: Any = None) -> None:
    weight = torch.ones_like(truth) if weight is None else weight
    true = truth > 0.5
    counts += [float((weight * hit).sum()) for hit in (found & true, found & ~true, ~found & true)]
