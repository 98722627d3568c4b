"""What lies behind everything that moves, over a wide area and at a small size: what effects are compared with.

What comes in: a `Survey`, its `Camera`, a shot. What goes out: light and coverage, inside the hole and around it. It
is quick rather than exact; the fill at plate resolution is made elsewhere.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from void_server.engine import Array, Shot
from void_server.engine.propagate import donors
from void_server.engine.propagate.camera import Camera
from void_server.engine.propagate.survey import Survey
from void_server.engine.propagate.voting import masked_median
from void_server.wire.shot import Window

STILL_FRAMES = 61
MOVING_DONORS = 7
REACH = 1.2
"""Effects are looked for this many times the hole's size around it; farther ones have to be painted."""

Matrix = npt.NDArray[np.float64]


class Background:
    """Backgrounds of one shot for one state of its masks."""

    def __init__(self, shot: Shot, looked: Survey, camera: Camera) -> None:
        self.shot, self.survey, self.camera = shot, looked, camera
        self._still: dict[tuple[int, Window, float], tuple[Array, Array]] = {}
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def on(self, frame: int, crop: Window, scale: float) -> tuple[Array, Array]:
        """(rgb float32 [h, w, 3] scene-linear, coverage [h, w]) on `crop`, reduced by `scale`."""
        index = self.survey.index[frame]
        if self.camera.still:
            key = (self.camera.scenes[index], crop, scale)
            if key not in self._still:
                self._still = {key: self._at_rest(*key)}
            rgb, coverage = self._still[key]
            return rgb.copy(), coverage.copy()
        return self._in_motion(index, crop, scale)

    def _at_rest(self, scene: int, crop: Window, scale: float) -> tuple[Array, Array]:
        members = [i for i, s in enumerate(self.camera.scenes) if s == scene]
        picks = [members[i] for i in np.unique(np.linspace(0, len(members) - 1, STILL_FRAMES).round().astype(int))]
        code, free = zip(*(self._small(index, crop, scale) for index in picks))
        middle, count = masked_median(list(code), list(free))
        rest = count == 0
        if rest.any():
            # What is only ever seen in the grown band around a matte is still better than nothing to compare with.
            rows, columns = np.nonzero(rest)
            bare = [~self._marked(index, crop, scale)[rows, columns][None] for index in picks]
            second, seen = masked_median([c[rows, columns][None] for c in code], bare)
            middle[rows, columns], count[rows, columns] = second[0], seen[0]
        return self.survey.light.light(middle), (count > 0).astype(np.float32)

    def _marked(self, index: int, crop: Window, scale: float) -> npt.NDArray[np.bool_]:
        frame = self.survey.frames[index]
        out: npt.NDArray[np.bool_] = self.shot.matte(frame, crop, scale) > 0
        out |= self.shot.affected(frame, crop, scale) > 0
        out |= self.shot.keep(frame, crop, scale) > 0
        out |= self.shot.known(frame, crop, scale) < 1
        return out

    def _small(self, index: int, crop: Window, scale: float) -> tuple[Array, npt.NDArray[np.bool_]]:
        whole = Window(0, 0, self.shot.size[1], self.shot.size[0])
        plate = self.shot.plate(self.survey.frames[index], None if crop == whole else crop, scale)
        size = (plate.shape[1], plate.shape[0])
        place = self._small_to_survey(crop, size)
        blocked = cv2.warpPerspective(
            self.survey.blocked[index],
            place,
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=255,
        )
        return self.survey.light.code(plate), blocked < 8

    def _small_to_survey(self, crop: Window, size: tuple[int, int]) -> Matrix:
        return np.linalg.inv(centred(self.survey.scale, self.survey.scale, 0, 0)) @ centred(
            size[0] / crop.width, size[1] / crop.height, crop.x0, crop.y0
        )

    def _in_motion(self, index: int, crop: Window, scale: float) -> tuple[Array, Array]:
        code, free = self._small(index, crop, scale)
        height, width = free.shape
        light, coverage = np.zeros_like(code), np.zeros(free.shape, np.float32)
        hole = self.shot.hole(self.survey.frames[index])
        if hole is None:
            return light, coverage
        picks, _ = donors.choose(self.survey, self.camera, index, hole, MOVING_DONORS)
        to_plate = centred(width / crop.width, height / crop.height, crop.x0, crop.y0)
        reach = round(REACH * max(hole.width, hole.height))
        area = hole.grow(reach).intersect(crop)
        corners = cv2.perspectiveTransform(np.array([[area[:2], area[2:]]], np.float64), np.linalg.inv(to_plate))[0]
        low, high = np.floor(corners[0]).astype(int), np.ceil(corners[1]).astype(int)
        rows = slice(max(0, int(low[1])), min(height, int(high[1]) + 1))
        columns = slice(max(0, int(low[0])), min(width, int(high[0]) + 1))
        if rows.stop <= rows.start or columns.stop <= columns.start or not picks:
            return light, coverage
        corner = np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1]], np.float64)
        own, own_free = code[rows, columns], free[rows, columns]
        laid, seen = [], []
        for other in picks:
            theirs, their_free = self._small(other, crop, scale)
            place = np.linalg.inv(to_plate) @ self.camera.between(index, other) @ to_plate @ corner
            shown, valid = self._laid(own, own_free, theirs, their_free, place)
            laid.append(shown)
            seen.append(valid)
        middle, count = masked_median(laid, seen)
        light[rows, columns] = self.survey.light.light(middle)
        # One view alone can be anything that moves; two agree or show that they don't.
        coverage[rows, columns] = count >= min(2, len(picks))
        return light, coverage

    def _laid(
        self,
        own: Array,
        own_free: npt.NDArray[np.bool_],
        theirs: Array,
        their_free: npt.NDArray[np.bool_],
        place: Matrix,
    ) -> tuple[Array, npt.NDArray[np.bool_]]:
        """One donor over the target: by the camera, corrected by the flow that is measured around the holes."""
        size = (own.shape[1], own.shape[0])
        options = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
        shown = cv2.warpPerspective(theirs, place, size, **options)
        mask = np.where(their_free, 255, 0).astype(np.uint8)
        valid = cv2.warpPerspective(mask, place, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 250
        both = valid & own_free
        if both.sum() < 400:
            return np.asarray(shown, np.float32), valid
        grey = [np.clip(g[..., 1] * 220, 0, 255) for g in (own, shown)]
        a = np.where(own_free, grey[0], grey[1]).astype(np.uint8)
        b = np.where(both | ~own_free, grey[1], grey[0]).astype(np.uint8)
        field = np.asarray(self._flow.calc(a, b, None), np.float32)
        # Only what a wide neighbourhood moves by: a shadow's own edge must not be explained away as motion.
        weight = both.astype(np.float32)
        mass = cv2.boxFilter(weight, -1, (41, 41), normalize=False) + 1e-3
        field = cv2.boxFilter(field * weight[..., None], -1, (41, 41), normalize=False) / mass[..., None]
        grid = np.dstack(np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)))
        shown = cv2.remap(shown, grid + field, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        level = np.median((own - shown)[both], axis=0)
        return np.asarray(shown + level, np.float32), valid


def centred(scale_x: float, scale_y: float, x: float, y: float) -> Matrix:
    """Pixels of a picture reduced by area averaging to the pixels it was made of; centres lie at +0.5 in both."""
    return np.array(
        [[1 / scale_x, 0, x + (1 / scale_x - 1) / 2], [0, 1 / scale_y, y + (1 / scale_y - 1) / 2], [0, 0, 1]],
        np.float64,
    )
