"""Depth behind the hole: what lies before or behind the plane that the camera's map follows moves otherwise.

What comes in: a target and its donors, each under the models that `register.attempt` fitted. What goes out: one more
model for each, where the scene around the hole shows parallax. It chooses no donors and judges no model.

Motion measured around a hole can be continued into it, but not past an edge of depth that lies inside it. What is left
of every donor's motion after an affine map is one field, how far each place lies off the plane, times one direction
for each donor (plane plus parallax: Kumar, Anandan and Hanna, ICPR 1994). Directions are found around the hole. Inside,
the field is the one under which the donors, moved by it, agree (plane sweep: Collins, CVPR 1996): donors from before
and after the frame move in opposite directions, so their agreement is not biased towards either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from void_server.background.registration.register import CAP, Candidates, Model, Target, merits, seen
from void_server.shot.contract import Array

POINTS, ROUNDS = 1000, 8
FAR_PX, LOOSE_PX = 6.0, 0.5
"""What moves farther from the plane than FAR_PX is another thing; LOOSE_PX off the model halves a point's say."""
EXPLAINED, LEAST_PX = 0.45, 0.25
"""Depth is believed if it explains this share of the motion left (.45 to .75 on soapbox, .1 to .4 on five other clips,
where noise and movers are what is left; from .3 on cows:camel loses .4 dB), and if it moves anything by LEAST_PX."""
STEP_PX, FEWEST, MOST = 0.5, 5, 13
"""Depths are tried so far apart that the donor that moves most moves by STEP_PX, within these numbers of them."""
WINDOW = 15
"""Donors are compared over so many pixels each way, as `register.settle` does (9 and 21 score within .02 dB)."""
SPARSE = 2
"""Every second pixel of a row and of a column is compared: half the time of all, within .1 dB of them."""
BEYOND = 0.25
"""Share of the range of depths around the hole that is tried beyond it on either side."""
TINY = np.float32(1e-6)


@dataclasses.dataclass(frozen=True)
class Depth:
    """directions: float32 [N, 2], pixels by which one unit of depth moves each donor; low, high: range of depths seen
    around the hole; explained: share [0, 1] of the motion left by affine maps."""

    directions: Array
    low: float
    high: float
    explained: float


def offer(target: Target, all_candidates: Sequence[Candidates]) -> None:
    """Give every donor one more model, its affine map and the depth behind the hole, where there is such a thing."""
    full = [candidates for candidates in all_candidates if len(candidates.flows) == Model.PARALLAX]
    if len(full) < 4:
        return
    depth = around(target, full)
    if depth.explained < EXPLAINED or np.abs(depth.directions).max() * (depth.high - depth.low) / 2 < LEAST_PX:
        return
    field = _swept(target, full, depth)
    for candidates, direction in zip(full, depth.directions):
        flow = candidates.affine + field[..., None] * direction
        candidates.add(target, flow, *candidates.seen(candidates.places(target.grid + flow)), min(candidates.errors))


def around(target: Target, full: Sequence[Candidates]) -> Depth:
    """One field times one direction for each donor, fitted in turns to what affine maps leave of the motion."""
    places = np.flatnonzero(target.free)
    places = places[:: max(1, len(places) // POINTS)]
    left = np.stack([(t.bent - t.affine).reshape(-1, 2)[places] for t in full])
    known = np.stack([t.valid[0].ravel()[places] for t in full]) & (np.abs(left).max(2) < FAR_PX)
    weight = sure = known.astype(np.float32)
    time = np.array([t.donor.index - target.index for t in full], np.float32)
    rate = ((left / time[:, None, None]) * weight[..., None]).reshape(-1, 2)
    # A camera that goes on as it does moves every donor along one line, and by as much as it is away in time.
    directions = time[:, None] * np.linalg.eigh(rate.T @ rate)[1][:, 1].astype(np.float32)
    field = np.zeros(len(places), np.float32)
    for turn in range(ROUNDS):
        moved = (weight * (left * directions[:, None]).sum(2)).sum(0)
        field = moved / (
            (weight * (directions**2).sum(1)[:, None]).sum(0) + 1e-3 * float(np.mean(directions**2)) + TINY
        )
        field /= float(np.sqrt(np.mean(field**2))) + TINY
        directions = (weight[..., None] * left * field[:, None]).sum(1)
        directions /= (weight * field**2).sum(1)[:, None] + TINY
        off = np.abs(left - directions[:, None] * field[:, None]).max(2)
        if turn >= ROUNDS // 2:
            weight = sure / (1 + (off / np.float32(LOOSE_PX)) ** 2)
    # Outliers count two pixels at most, or they alone would decide.
    before, after = (
        float((sure[..., None] * np.minimum(part**2, 4)).sum())
        for part in (left, left - directions[:, None] * field[:, None])
    )
    low, high = np.percentile(field, [2, 98]) if len(field) else (0.0, 0.0)
    return Depth(directions, float(low), float(high), 1 - after / before if before > 0 else 0.0)


def _swept(target: Target, full: Sequence[Candidates], depth: Depth) -> Array:
    """float32 [h, w]: at each pixel near the hole the depth at which the donors agree best; 0 elsewhere."""
    beyond = BEYOND * (depth.high - depth.low)
    low, high = depth.low - beyond, depth.high + beyond
    count = int(np.clip(np.ceil((high - low) * np.abs(depth.directions).max() / STEP_PX), FEWEST, MOST))
    rows, columns = np.nonzero(target.hole)
    near = np.s_[
        max(0, rows.min() - WINDOW) : rows.max() + WINDOW + 1,
        max(0, columns.min() - WINDOW) : columns.max() + WINDOW + 1,
    ]
    size = target.hole[near].shape[::-1]
    some = np.s_[SPARSE // 2 :: SPARSE, SPARSE // 2 :: SPARSE]
    nearest, spans, weights = [], [], []
    for candidates, direction, weight in zip(full, depth.directions, merits(target, full)):
        affine = target.grid[near][some] + candidates.affine[near][some]
        start = candidates.places(affine + np.float32(low) * direction)
        nearest.append(start)
        spans.append(candidates.places(affine + np.float32(high) * direction) - start)
        _, valid = candidates.seen(cv2.scaleAdd(spans[-1], 0.5, start))
        weights.append(weight * valid)
    mass = np.sum(weights, axis=0) + TINY
    costs = []
    for share in np.linspace(0, 1, count, dtype=np.float32):
        # From the nearest depth to the farthest a place moves along a line, evenly as far as matters here.
        shown = [
            cv2.add(seen(one.grey, cv2.scaleAdd(span, float(share), start)), float(one.levels[Model.AFFINE]))
            for one, start, span in zip(full, nearest, spans)
        ]
        mean = _sum(weights, shown) / mass
        apart = [cv2.min(cv2.absdiff(grey, mean), float(CAP)) for grey in shown]
        costs.append(cv2.blur(_sum(weights, apart) / mass, (WINDOW // SPARSE, WINDOW // SPARSE)))
    depths = np.linspace(low, high, count, dtype=np.float32)
    field = np.zeros(target.hole.shape, np.float32)
    smooth = cv2.blur(cv2.medianBlur(_least(np.stack(costs), depths), 3), (3, 3))
    field[near] = cv2.resize(smooth, size, interpolation=cv2.INTER_LINEAR)
    return field


def _sum(weights: Sequence[Array], pictures: Sequence[Array]) -> Array:
    """float32 [h, w]: the pictures' sum, each times its weights."""
    total = np.zeros(pictures[0].shape, np.float32)
    for weight, picture in zip(weights, pictures):
        cv2.accumulateProduct(weight, picture, total)
    return total


def _least(costs: Array, depths: Array) -> Array:
    """The depth of least cost at every pixel, between those tried by a parabola. costs: [N, h, w]."""
    best = costs.argmin(0)
    middle = np.clip(best, 1, len(depths) - 2)
    below, here, above = (np.take_along_axis(costs, (middle + k)[None], 0)[0] for k in (-1, 0, 1))
    between = 0.5 * (below - above) / np.maximum(below - 2 * here + above, TINY)
    between = np.where(best == middle, np.clip(between, -0.5, 0.5), 0)
    return np.asarray(depths[0] + (best + between) * (depths[1] - depths[0]), np.float32)
