"""Fill a gap with texture from its surroundings, patch by patch, so that every small piece was seen somewhere.

What comes in: one picture with a gap. What goes out: the picture without it, the same for the same seed. It does not
know time; the caller carries one result through all frames.

Source: Wexler, Shechtman, Irani, Space-Time Completion of Video, PAMI 2007 (coarse to fine, vote of overlapping
patches); Barnes et al., PatchMatch, SIGGRAPH 2009 (nearest patches by propagation and random search). Packages offer
it, but the wheel of PyPatchMatch 1.0.2 holds C++ sources and a Makefile, to be built where it runs, and
patchmatch-cython 0.2.1 has no Linux wheel for Python 3.9 (it has for 3.11 and 3.13).
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.registration.pyramid import spread
from void_server.engine.contract import Array

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

RADIUS = 3
"""Patches are 2 * RADIUS + 1 pixels wide."""
SEARCH_PIXELS = 60_000
"""Patches are searched on a picture at most this large; a larger one takes the places found, scaled up."""
COARSEST = 24
ROUNDS = (6, 3, 2, 2)
"""Rounds of search and vote from the coarsest level on; the last value holds for all finer ones."""
CONTEXT = 1.0
"""How far around the gap texture is taken from, in gap sizes, at least 48 pixels."""


def complete(code: Array, known: Mask, seed: int) -> Array:
    """code: float32 [h, w, 3] with a gap where `known` is False. Falls back to smooth filling where patches lack."""
    rows, columns = np.nonzero(~known)
    if not len(rows):
        return code
    smooth = np.where(known[..., None], code, spread(code, known.astype(np.float32))).astype(np.float32)
    if known.sum() < 400:
        return smooth
    thin = _thin(~known)
    if thin.any():
        return complete(np.where(thin[..., None], smooth, code).astype(np.float32), known | thin, seed)
    reach = round(max(48, CONTEXT * max(np.ptp(rows), np.ptp(columns))))
    box = (
        slice(max(0, int(rows.min()) - reach), int(rows.max()) + reach + 1),
        slice(max(0, int(columns.min()) - reach), int(columns.max()) + reach + 1),
    )
    out = code.copy()
    out[box] = _complete(code[box], known[box], np.random.default_rng(seed))
    return out


def _thin(gap: Mask) -> Mask:
    """Parts of a gap that no patch fits into: their borders tell all of them (highway:500 gains 0.5 dB)."""
    count, parts = cv2.connectedComponents(gap.astype(np.uint8))
    depth = cv2.distanceTransform(np.pad(gap, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    deepest = np.zeros(count, np.float32)
    np.maximum.at(deepest, parts[gap], depth[gap])
    return np.asarray(gap & (deepest[parts] <= RADIUS), bool)


@dataclasses.dataclass
class _Level:
    """One size of the picture while it is filled. places: int64 [h, w, 2], row, column of each pixel's best patch."""

    code: Array
    known: Mask
    centres: tuple[npt.NDArray[np.intp], ...]
    sources: Mask
    places: Places
    cost: Array


def _complete(code: Array, known: Mask, rng: np.random.Generator) -> Array:
    height, width = known.shape
    finest = min(1.0, float(np.sqrt(SEARCH_PIXELS / (height * width))))
    sizes: list[tuple[int, int]] = []
    scale = finest
    while min(height, width) * scale >= COARSEST and len(sizes) < 8:
        sizes.append((max(8, round(width * scale)), max(8, round(height * scale))))
        scale /= 2
    smooth = np.where(known[..., None], code, spread(code, known.astype(np.float32))).astype(np.float32)
    level: _Level | None = None
    for depth, size in enumerate(reversed(sizes)):
        new = _level(smooth, known, size, level, rng)
        if new is None:
            continue
        level = new
        for _ in range(ROUNDS[min(depth, len(ROUNDS) - 1)]):
            _search(level, rng)
            _vote(level)
    if level is None:
        return smooth
    if level.known.shape == known.shape:
        return level.code
    return _enlarged(level, smooth, known)


def _level(
    smooth: Array, known: Mask, size: tuple[int, int], coarser: _Level | None, rng: np.random.Generator
) -> _Level | None:
    """Set up one size; None where it holds no whole patch of known pixels."""
    code = np.asarray(cv2.resize(smooth, size, interpolation=cv2.INTER_AREA), np.float32)
    mask = np.asarray(cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)) > 0.99
    kernel = np.ones((2 * RADIUS + 1, 2 * RADIUS + 1), np.uint8)
    inside = np.zeros(mask.shape, bool)
    inside[RADIUS:-RADIUS, RADIUS:-RADIUS] = True
    sources = (cv2.erode(mask.astype(np.uint8), kernel, borderValue=1) > 0) & inside
    targets = (cv2.dilate((~mask).astype(np.uint8), kernel) > 0) & inside
    if sources.sum() < 16 or not targets.any():
        return None
    pool = np.argwhere(sources)
    places = pool[rng.integers(0, len(pool), mask.size)].reshape(*mask.shape, 2)
    level = _Level(code, mask, np.nonzero(targets), sources, places, np.full(mask.shape, np.inf, np.float32))
    if coarser is not None:
        _inherit(level, coarser)
        level.cost[:] = np.inf
        _measure(level)
        _vote(level)
    return level


def _inherit(level: _Level, coarser: _Level) -> None:
    """Take the places of the level before: the same displacement, twice as long."""
    height, width = level.known.shape
    ratio = np.array([height / coarser.known.shape[0], width / coarser.known.shape[1]])
    rows, columns = level.centres
    low = np.minimum((np.stack([rows, columns], 1) / ratio).astype(int), np.array(coarser.known.shape) - 1)
    moved = coarser.places[low[:, 0], low[:, 1]] - low
    wanted = np.round(np.stack([rows, columns], 1) + moved * ratio).astype(np.int64)
    wanted = np.clip(wanted, 0, [height - 1, width - 1])
    good = level.sources[wanted[:, 0], wanted[:, 1]]
    level.places[rows[good], columns[good]] = wanted[good]


def _patches(code: Array) -> npt.NDArray[np.float32]:
    width = 2 * RADIUS + 1
    return np.lib.stride_tricks.sliding_window_view(code, (width, width), axis=(0, 1))


def _distance(level: _Level, own: npt.NDArray[np.float32], places: Places) -> Array:
    theirs = _patches(level.code)[places[:, 0] - RADIUS, places[:, 1] - RADIUS].reshape(len(places), -1)
    theirs = theirs - own
    return np.asarray(np.einsum("ij,ij->i", theirs, theirs), np.float32)


def _own(level: _Level) -> npt.NDArray[np.float32]:
    rows, columns = level.centres
    return _patches(level.code)[rows - RADIUS, columns - RADIUS].reshape(len(rows), -1).copy()


def _measure(level: _Level) -> None:
    rows, columns = level.centres
    level.cost[rows, columns] = _distance(level, _own(level), level.places[rows, columns])


def _search(level: _Level, rng: np.random.Generator) -> None:
    """One round of PatchMatch over all centres at once: neighbours' displacements, then random places ever nearer."""
    own = _own(level)
    rows, columns = level.centres
    shape = np.array(level.known.shape)
    level.cost[rows, columns] = _distance(level, own, level.places[rows, columns])
    for step in (4, 2, 1):
        for dy, dx in ((0, step), (0, -step), (step, 0), (-step, 0)):
            near_rows = np.clip(rows + dy, 0, shape[0] - 1)
            near_columns = np.clip(columns + dx, 0, shape[1] - 1)
            known = np.isfinite(level.cost[near_rows, near_columns])
            trial = level.places[near_rows, near_columns] - np.array([dy, dx])
            _try(level, own, trial, known)
    reach = float(shape.max())
    while reach >= 1:
        trial = level.places[rows, columns] + np.round(rng.uniform(-reach, reach, (len(rows), 2))).astype(np.int64)
        _try(level, own, trial, np.ones(len(rows), bool))
        reach /= 2.5


def _try(level: _Level, own: npt.NDArray[np.float32], trial: Places, allowed: Mask) -> None:
    rows, columns = level.centres
    height, width = level.known.shape
    trial = np.clip(trial, 0, [height - 1, width - 1])
    allowed = allowed & level.sources[trial[:, 0], trial[:, 1]]
    if not allowed.any():
        return
    picked = np.nonzero(allowed)[0]
    cost = _distance(level, own[picked], trial[picked])
    better = picked[cost < level.cost[rows[picked], columns[picked]]]
    level.cost[rows[better], columns[better]] = cost[np.isin(picked, better, assume_unique=True)]
    level.places[rows[better], columns[better]] = trial[better]


def _vote(level: _Level) -> None:
    """Every gap pixel becomes the mean of what the patches over it propose, good patches counting most."""
    height, width = level.known.shape
    usable = np.isfinite(level.cost)
    typical = float(np.median(level.cost[usable])) + 1e-6
    weight = np.where(usable, np.exp(-np.where(usable, level.cost, 0) / typical), 0).astype(np.float32)
    total, mass = np.zeros_like(level.code), np.zeros(level.known.shape, np.float32)
    for dy in range(-RADIUS, RADIUS + 1):
        for dx in range(-RADIUS, RADIUS + 1):
            into = (slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx)))
            from_ = (slice(max(0, -dy), height + min(0, -dy)), slice(max(0, -dx), width + min(0, -dx)))
            places, part = level.places[from_], weight[from_]
            seen = level.code[np.clip(places[..., 0] + dy, 0, height - 1), np.clip(places[..., 1] + dx, 0, width - 1)]
            total[into] += seen * part[..., None]
            mass[into] += part
    gap = ~level.known & (mass > 1e-12)
    level.code[gap] = total[gap] / mass[gap][:, None]


def _enlarged(level: _Level, smooth: Array, known: Mask) -> Array:
    """Copy full-size texture by the displacements found on a smaller picture; its tone follows the smaller one."""
    height, width = known.shape
    ratio = np.array([height / level.known.shape[0], width / level.known.shape[1]])
    small = (level.known.shape[1], level.known.shape[0])
    rows, columns = np.nonzero(~known)
    low = np.minimum((np.stack([rows, columns], 1) / ratio).astype(int), np.array(level.known.shape) - 1)
    moved = (level.places[low[:, 0], low[:, 1]] - low) * ratio
    source = np.clip(np.round(np.stack([rows, columns], 1) + moved).astype(int), 0, [height - 1, width - 1])
    tone = cv2.resize(level.code, (width, height), interpolation=cv2.INTER_CUBIC)
    detail = smooth - cv2.resize(
        cv2.resize(smooth, small, interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_CUBIC
    )
    good = known[source[:, 0], source[:, 1]]
    out = smooth.copy()
    out[rows, columns] = tone[rows, columns]
    out[rows[good], columns[good]] += detail[source[good, 0], source[good, 1]]
    return out
