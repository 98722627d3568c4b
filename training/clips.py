"""Training examples, made on the fly: what the network is given, and what it should have said.

What comes in: records of clips (`looks`), an atlas, photographs. What goes out: an `Example` of tensors on the device.
Everything is at 192x336 and in display-like code, as the runtime hands it over. It knows no network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor

from training import pasted, raycaster, sensor
from training.filters import LUMINANCE, gauss, grid, grown, sample, through
from training.looks import HEIGHT, TAKES, WIDTH, WINDOW, Clip
from training.scenes import PARTS

SIZE = (HEIGHT, WIDTH)
APPEARANCE, APPEARANCE_SURE = 0.016, 0.007
"""Code differences above which the object changed how a place looks, and below which it did not; between them neither
answer is held against the network. A shadow of 7 % less light on middle grey is 0.017."""
BROAD, BROAD_SURE = 0.025, 0.01
"""The same for what was once asked: differences after a wider blur. Nothing learns it; figures of then are of it."""
PHYSICS, PHYSICS_SURE = 0.045, 0.02
MOVED_M, TURNED = 0.01, 0.05
"""From how many metres on, or from what change of any number of its rotation matrix on (some 3 degrees), a part counts
as standing otherwise."""
PASSER_BY = 3.0
"""Weight in physics of a passer-by that the object does nothing to: few pixels, and the likeliest mistake."""
BENT, BENT_PX, BENT_GRID = 0.75, 1.5, (5, 8)
"""Share of moving cameras whose background lies locally beside the plate, by how many pixels at most, and on how coarse
a grid that changes: one homography leaves this much of a scene with depth."""
TORN, TORN_SHARE, TORN_PX, TORN_GRID = 0.3, (0.02, 0.12), (3.0, 15.0), (6, 10)
"""Share of moving cameras whose background holds things nearer than it, on how much of the picture, and how far off."""
AGAIN, HOLE, FOUND_WIDE = 0.5, 0.6, (0, 2, 4, 7)
"""Share of clips in their second round, the share of those where no other frame shows what was left out, and how many
pixels wider than the effect that was."""
SEEN_TWICE = 1.5 / TAKES
"""Coverage of the median from which two views agree: as the runtime counts it."""


@dataclasses.dataclass
class Example:
    """All [N * WINDOW, C, h, w]. Labels are at half the size: 1 yes, 0 no; weights are 0 where nobody knows."""

    plate: Tensor
    behind: Tensor
    matte: Tensor
    coverage: Tensor
    scatter: Tensor
    appearance: Tensor
    appearance_weight: Tensor
    broad: Tensor
    broad_weight: Tensor
    """Appearance by the broader question (BROAD): scored, never learnt."""
    physics: Tensor
    physics_weight: Tensor
    attenuation: Tensor
    """Natural logarithm of code with the object over code without it, luminance, clamped to +-1.5."""
    clean: Tensor
    """The plate without the object, at full size, before camera and codec. Scored with, never given to learn from."""
    differs: Tensor
    """1 at full size where something is seen that the object made stand or move otherwise. Likewise."""
    valid: Tensor
    """[N * WINDOW, 1, 1, 1], 0 where the object is hardly in the picture or fills it."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.plate, self.behind, self.matte, self.coverage, self.scatter

    def mirrored(self) -> Example:
        flipped = {f.name: getattr(self, f.name).flip(-1) for f in dataclasses.fields(self)}
        return Example(**flipped)


def stacked(clips: Sequence[Clip]) -> dict[str, Any]:
    """Clips as one batch of arrays, views knowing which scene they show."""
    out = {f.name: np.stack([getattr(c, f.name) for c in clips]) for f in dataclasses.fields(Clip)}
    out["views"]["scene"] = np.arange(len(clips))[:, None]
    return out


@torch.no_grad()
def make(
    batch: dict[str, Any],
    atlas: Tensor,
    plates: Tensor,
    on_photographs: int,
    generator: torch.Generator,
    rays: tuple[int, int] = (10, 6),
) -> Example:
    """Draw a batch. The first `on_photographs` clips become cut-outs on photographs, the rest stay ray-cast scenes."""
    device = raycaster.device()
    records = {name: batch[name] for name in ("primitives", "poses", "world", "views")}
    batch = {name: value if name in records else torch.from_numpy(value) for name, value in batch.items()}
    cut = {name: value[:on_photographs] for name, value in batch.items()}
    parts = []
    if on_photographs:
        light, first = _drawn({k: v[:on_photographs] for k, v in records.items()}, slice(0, TAKES), atlas, (3, 2))
        body = _looked_up(cut["body"].to(device), first)
        made = pasted.lay(light, body, cut, plates, generator)
        parts.append(
            (
                made["with_object"],
                made["without"],
                made["without"],
                made["object"],
                made["to_view"],
                torch.ones(on_photographs, device=device),
                _passing(body[:, :WINDOW], cut),
                torch.zeros(on_photographs, WINDOW, *SIZE, device=device, dtype=torch.bool),
            )
        )
    if on_photographs < len(batch["kind"]):
        rest = {k: v[on_photographs:].copy() for k, v in records.items()}
        rest["views"]["scene"] -= on_photographs
        window, first = _drawn(rest, slice(0, WINDOW), atlas, rays)
        donors, first_donors = _drawn(rest, slice(WINDOW, TAKES), atlas, (3, 2))
        alone, first_alone = _drawn(rest, slice(TAKES, TAKES + WINDOW), atlas, rays)
        never, _ = _drawn(rest, slice(TAKES + WINDOW, TAKES + 2 * WINDOW), atlas, rays)
        hit = torch.cat([first, first_donors], 1)
        is_object = _looked_up(batch["object"][on_photographs:].to(device).long(), hit) > 0
        scene = {name: value[on_photographs:] for name, value in batch.items()}
        body = _looked_up(scene["body"].to(device), first)
        parts.append(
            (
                torch.cat([window, donors], 1),
                alone,
                never,
                is_object,
                batch["to_view"][on_photographs:].to(device).float(),
                batch["physics_known"][on_photographs:].to(device).float(),
                _passing(body, scene),
                _otherwise(rest["poses"], first_alone),
            )
        )
    whole, alone, never, is_object, to_view, known, passing, differs = (torch.cat(p) for p in zip(*parts))
    return _example(whole, alone, never, is_object.float(), to_view, known, passing.float(), differs.float(), generator)


def _drawn(records: dict[str, Any], pictures: slice, atlas: Tensor, rays: tuple[int, int]) -> tuple[Tensor, Tensor]:
    poses, views = (raycaster.on_device(records[name][:, pictures]) for name in ("poses", "views"))
    count = views.shape[1]
    light, first = raycaster.render(
        raycaster.on_device(records["primitives"]),
        poses.reshape(-1, PARTS, poses.shape[-1]),
        raycaster.on_device(records["world"]),
        views.reshape(-1, views.shape[-1]),
        atlas,
        SIZE,
        *rays,
    )
    return light.reshape(-1, count, 3, *SIZE), first.reshape(-1, count, *SIZE)


def _looked_up(table: Tensor, first: Tensor) -> Tensor:
    """table [N, PARTS + 1] by part, at first hits [N, T, h, w]; the sky answers like the ground."""
    return torch.gather(table, 1, first.clamp_min(0).reshape(len(first), -1)).reshape(first.shape)


def _passing(body: Tensor, batch: dict[str, Any]) -> Tensor:
    """bool [N, T, h, w], as body: where one is seen that moves by hand and is not the object."""
    others = torch.where(batch["mover_is_object"], -1, batch["movers"]).to(body.device)
    return ((body[:, None] == others[:, :, None, None, None]) & (body[:, None] >= 0)).any(1)


def _otherwise(poses: np.ndarray[Any, Any], first: Tensor) -> Tensor:
    """bool [N, WINDOW, h, w]: whether the part seen there, `first` with the object invisible, stands otherwise in the
    world simulated again without the object."""
    with_object, never = poses[:, TAKES : TAKES + WINDOW], poses[:, TAKES + WINDOW :]
    off = np.linalg.norm(with_object["centre"] - never["centre"], axis=-1) > MOVED_M
    off |= np.abs(with_object["rotation"] - never["rotation"]).max(-1) > TURNED
    ground = np.zeros_like(off[..., :1])
    table = torch.from_numpy(np.concatenate([ground, off], -1)).to(first.device).flatten(0, 1)
    return _looked_up(table, first.flatten(0, 1)).reshape(first.shape)


def _example(
    whole: Tensor,
    alone: Tensor,
    never: Tensor,
    is_object: Tensor,
    to_view: Tensor,
    known: Tensor,
    passing: Tensor,
    differs: Tensor,
    generator: torch.Generator,
) -> Example:
    count, device = len(whole), whole.device
    uniform = _dice(count, generator, device)
    bright, contrast = uniform(0.28, 0.58), uniform(-0.3, 0.6)
    window = whole[:, :WINDOW]
    clean = sensor.exposed(alone, window, bright, contrast)
    resimulated = sensor.exposed(never, window, bright, contrast)
    shown = sensor.exposed(whole, window, bright, contrast)
    solid = is_object[:, :WINDOW].reshape(-1, 1, *SIZE)
    wide = grown(solid, 1)
    appearance, sure = _changed(shown[:, :WINDOW], clean, wide, APPEARANCE, APPEARANCE_SURE)
    broad, broad_sure = _changed(shown[:, :WINDOW], clean, wide, BROAD, BROAD_SURE, 1.4)
    physics, physics_sure = _changed(clean, resimulated, wide, PHYSICS, PHYSICS_SURE)
    passing = F.max_pool2d(passing.reshape(-1, 1, *SIZE), 2)
    physics_sure = physics_sure * (1 + (PASSER_BY - 1) * passing * (1 - physics))
    attenuation = _log_luminance(shown[:, :WINDOW]) - _log_luminance(clean)
    plates = sensor.photographed(shown, generator)
    mattes = sensor.rotoscoped(is_object, generator)
    taken = grown(mattes.reshape(-1, 1, *SIZE), 2).reshape(mattes.shape)
    # In the second round the runtime leaves out what it found in the first, and often has nothing else to show there.
    again = (uniform(0, 1) < AGAIN).float().view(-1, 1, 1, 1)
    found = again * _found_before(F.interpolate(appearance, SIZE), solid, generator).reshape(count, WINDOW, *SIZE)
    taken[:, :WINDOW] = torch.maximum(taken[:, :WINDOW], found)
    hole = (found * (uniform(0, 1) < HOLE).view(-1, 1, 1, 1)).reshape(-1, 1, *SIZE)
    middle, coverage, scatter = raycaster.masked_median(plates, taken, to_view)
    middle = (middle * _drift(middle, uniform)).clamp(0, 1)
    moves = ((to_view[:, :WINDOW] - torch.eye(3, device=device)).abs() > 1e-3).flatten(1).any(1)
    held = torch.cat([middle, (coverage > SEEN_TWICE).float(), scatter], 1)
    held = _on_each_frame(_torn(held, moves, generator), to_view[:, :WINDOW])
    middle, coverage, scatter = (_bent(held, moves, generator) * (1 - hole)).split((3, 1, 1), 1)
    matte = mattes[:, :WINDOW].reshape(-1, 1, *SIZE)
    outside = 1 - F.max_pool2d(torch.maximum(matte, solid), 2)
    area = solid.mean((1, 2, 3), keepdim=True)
    valid = ((area > 0.001) & (area < 0.6)).float()
    return Example(
        plates[:, :WINDOW].reshape(-1, 3, *SIZE),
        middle,
        matte,
        coverage,
        scatter,
        appearance * outside,
        sure * outside * valid,
        broad * outside,
        broad_sure * outside * valid,
        physics * outside,
        physics_sure * outside * valid * known.repeat_interleave(WINDOW).view(-1, 1, 1, 1),
        F.avg_pool2d(attenuation.clamp(-1.5, 1.5), 2),
        clean.reshape(-1, 3, *SIZE),
        differs.reshape(-1, 1, *SIZE),
        valid,
    )


def _drift(middle: Tensor, uniform: Any) -> Tensor:
    """What is left of exposure, lens shading and passing clouds once donors are brought to one level:
    up to some percent."""
    coarse = torch.randn(len(middle), 1, 4, 7, device=middle.device)
    field = F.interpolate(coarse, SIZE, mode="bicubic", align_corners=False)
    return torch.exp(field * (uniform(-0.02, 0.035).clamp_min(0) / 2.2).view(-1, 1, 1, 1))


def _changed(
    a: Tensor, b: Tensor, wide: Tensor, much: float, little: float, blur: float = 0.7
) -> tuple[Tensor, Tensor]:
    """(1 where two pictures differ, 1 where that is beyond doubt), at half size, outside the object."""
    apart = (a - b).abs().amax(2).reshape(-1, 1, *SIZE) * (1 - wide)
    apart = F.avg_pool2d(gauss(apart, blur), 2)
    yes = apart > much
    return yes.float(), (yes | (apart < little)).float()


def _log_luminance(code: Tensor) -> Tensor:
    weights = torch.tensor(LUMINANCE, device=code.device).view(1, 1, 3, 1, 1)
    flat = (code * weights).sum(2).reshape(-1, 1, *SIZE)
    return torch.log(gauss(flat, 1.0) + 0.04)


def _on_each_frame(held: Tensor, to_view: Tensor) -> Tensor:
    """Carry one background [N, 5, h, w] (light, coverage, scatter) to each frame of the window: [N * WINDOW, ...]."""
    count = len(held)
    held = held[:, None].expand(-1, WINDOW, -1, -1, -1).reshape(count * WINDOW, 5, *SIZE)
    back = torch.linalg.inv(to_view.double().cpu()).float().to(held.device).reshape(-1, 3, 3)
    seen, inside = through(held, back)
    covered = (seen[:, 3:4] > 0.99).float() * inside
    return torch.cat([seen[:, :3] * covered, covered, seen[:, 4:5] * covered], 1)


def _found_before(effect: Tensor, solid: Tensor, generator: torch.Generator) -> Tensor:
    """What a first look may have found of an effect [N * WINDOW, 1, h, w], the object being at `solid`: too wide, with
    pieces near the object that are none of it, or in part. A hole in the background must not give the answer away."""
    count = len(effect) // WINDOW
    uniform = _dice(count, generator, effect.device)
    clouds = _enlarged(uniform(-1, 1, 2, *TORN_GRID)).repeat_interleave(WINDOW, 0)

    def some(p: float) -> Tensor:
        return (uniform(0, 1) < p).float().repeat_interleave(WINDOW).view(-1, 1, 1, 1)

    near = grown(F.max_pool2d(solid, 4), 5).repeat_interleave(4, 2).repeat_interleave(4, 3)
    more = near * (clouds[:, :1] > 0.2) * some(0.6)
    less = (clouds[:, 1:] > 0.3) * some(0.35)
    found = torch.maximum(effect * (1 - less), more)
    wide = torch.stack([grown(found, pixels) for pixels in FOUND_WIDE])
    pick = (uniform(0, 1) * len(FOUND_WIDE)).long().clamp_max(len(FOUND_WIDE) - 1).repeat_interleave(WINDOW)
    return wide[pick, torch.arange(len(pick), device=effect.device)]


def _torn(held: Tensor, moves: Tensor, generator: torch.Generator) -> Tensor:
    """Backgrounds [N, 5, h, w] (light, coverage, scatter) as things nearer than them leave them: patches of some hold
    what belongs several pixels beside. moves: bool [N], whether the clip's camera does; at rest there is no parallax.
    """
    uniform = _dice(len(moves), generator, held.device)
    blobs = _enlarged(uniform(-1, 1, 1, *TORN_GRID))
    level = torch.stack([b.quantile(1 - share) for b, share in zip(blobs.flatten(1), uniform(*TORN_SHARE))])
    torn = (blobs > level.view(-1, 1, 1, 1)) & (moves & (uniform(0, 1) < TORN)).view(-1, 1, 1, 1)
    angle = uniform(0, 2 * torch.pi)
    jump = torch.stack([torch.cos(angle), torch.sin(angle)], 1) * uniform(*TORN_PX, 1)
    return _moved(held, torn * jump.view(-1, 2, 1, 1))


def _bent(held: Tensor, moves: Tensor, generator: torch.Generator) -> Tensor:
    """Backgrounds of frames [N * WINDOW, 5, h, w] as one homography leaves a scene with depth: most lie beside the
    plate by a pixel or so, here this way and there another. moves: as above."""
    uniform = _dice(len(moves), generator, held.device)
    # Most of the bend is the place's own, the rest each frame's.
    field = 0.8 * uniform(-1, 1, 1, 2, *BENT_GRID) + 0.2 * uniform(-1, 1, WINDOW, 2, *BENT_GRID)
    pixels = uniform(0, BENT_PX) * (moves & (uniform(0, 1) < BENT))
    return _moved(held, _enlarged(field.flatten(0, 1)) * pixels.repeat_interleave(WINDOW).view(-1, 1, 1, 1))


def _moved(held: Tensor, off: Tensor) -> Tensor:
    """held [N, 5, h, w] read `off` [N, 2, h, w] pixels to the side; what nothing was recovered for moves along."""
    x, y = grid(*SIZE, held.device)
    seen = sample(held, x + off[:, 0], y + off[:, 1])
    covered = (seen[:, 3:4] > 0.99).float()
    there = torch.cat([seen[:, :3] * covered, covered, seen[:, 4:] * covered], 1)
    return torch.where((off != 0).any(1, keepdim=True), there, held)


def _enlarged(coarse: Tensor) -> Tensor:
    """A coarse field [N, C, ...] within [-1, 1], smoothly to SIZE."""
    return F.interpolate(coarse, SIZE, mode="bicubic", align_corners=False).clamp(-1, 1)


def _dice(count: int, generator: torch.Generator, device: torch.device) -> Callable[..., Tensor]:
    """Draws a tensor [count, ...] between two bounds."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, device=device) * (high - low) + low

    return uniform
