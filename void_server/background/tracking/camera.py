"""Follow the camera through a shot: one plane-to-plane map (homography) per frame, without drift, and scene cuts.

What comes in: the small pictures of a `Survey`. What goes out: a `Camera` that maps any frame onto any other in plate
pixels. It does not know holes from movers: both are masked or outvoted.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

from void_server.background.tracking.survey import Bytes, Survey, detail
from void_server.image.frames import sequence
from void_server.process import threads
from void_server.wire.report import Report

Matrix = npt.NDArray[np.float64]

FEATURES = 1000
INLIER_PX = 1.0
"""USAC-MAGSAC's scale bound, in pixels of the small picture (removal-quality research: 1.0 over GFTT and LK)."""
OVERLAP_KEPT = 0.6
"""An anchor serves until this share of its features has left: long enough that errors don't add up frame by frame."""
INLIERS_LEAST = 16
CLIPPED, EXPOSURE_STEP = 255, 4
"""Code values from which on a small picture knows no more light, and by which two exposures differ at least before they
are set alike: below it the tracker is not disturbed."""
STRAYS_PX = 4.0
"""A camera whose map, in small pixels, never moves a corner by more may be one at rest that is measured badly."""
DETAIL_PX = 3.0
"""What varies over less is compared, so that light that drifts is not motion."""
LOOKED_AT = 24
"""Frames of such a scene that are compared with its first."""
ALIKE = 0.8
"""Response of phase correlation from which a quarter of the picture is the same as before: at rest most are .9 to 1,
where leaves or people move .2 to .7."""
RESTS_PX, RESTS_LEAST_PX = 0.25, 0.08
"""Shift below which such a quarter rests, in plate pixels but at least the other in small ones. Four real clips whose
camera rests lie at .02 to .24 on their frames, where features say .1 to .3 and up to 2 at the corners; a dancer's clip,
from the hand of somebody who stands still, has not two quarters alike."""


@dataclasses.dataclass
class Camera:
    """Where the camera stood. Lists are by index."""

    positions: list[Matrix]
    """float64 [3, 3]: plate pixels of the scene's first frame to plate pixels of this frame."""
    scenes: list[int]
    """Frames with different numbers lie on two sides of a cut and share nothing."""
    trust: list[float]
    """[0, 1]: share of features that the map explains; 0 where there were none and the camera is taken to rest."""

    def between(self, start: int, end: int) -> Matrix:
        """Plate pixels of index `start` to those of index `end`."""
        found = self.positions[end] @ np.linalg.inv(self.positions[start])
        return np.asarray(found / found[2, 2], np.float64)

    @property
    def still(self) -> bool:
        """Whether the camera rests in every scene."""
        return all(np.array_equal(p, np.eye(3)) for p in self.positions)


def follow(survey: Survey, report: Report) -> Camera:
    """Track the shot of `survey` from its first frame to its last: one after the other, each on all cores."""
    cv2.setNumThreads(threads())
    try:
        return _followed(survey, report)
    finally:
        cv2.setNumThreads(1)


def _followed(survey: Survey, report: Report) -> Camera:
    positions, scenes, trust = [np.eye(3)], [0], [1.0]
    anchor, to_anchor, previous = 0, np.eye(3), np.eye(3)
    points = _features(survey.grey[0], survey.blocked[0])
    for index in range(1, len(survey.frames)):
        found, share = _track(survey, anchor, index, points, previous)
        if share < OVERLAP_KEPT and anchor != index - 1:
            anchor, to_anchor = index - 1, positions[index - 1]
            points = _features(survey.grey[anchor], survey.blocked[anchor])
            found, share = _track(survey, anchor, index, points, np.eye(3))
        if found is None and _cut(survey, index):
            anchor, to_anchor, previous = index, np.eye(3), np.eye(3)
            points = _features(survey.grey[index], survey.blocked[index])
            positions.append(np.eye(3))
            scenes.append(scenes[-1] + 1)
            trust.append(1.0)
            continue
        if found is None:
            found, share = previous, 0.0
        previous = found
        positions.append(found @ to_anchor)
        scenes.append(scenes[-1])
        trust.append(share)
        if index % 4 == 0:
            report.progress("camera", index, len(survey.frames), survey.frames[index])
    for index in range(len(trust) - 1):
        # A scene's first frame is what the next is tracked from; it is known no better.
        if index == 0 or scenes[index] != scenes[index - 1]:
            trust[index] = trust[index + 1] if scenes[index + 1] == scenes[index] else trust[index]
    zoom = np.diag([survey.scale, survey.scale, 1.0])
    # Centres of area-averaged pixels lie at +0.5, so the small grid's origin is not the large one's.
    zoom[0, 2] = zoom[1, 2] = (survey.scale - 1) / 2
    back = np.linalg.inv(zoom)
    plate_positions = [_settled(back @ p @ zoom, survey) for p in positions]
    return Camera(_locked_off(plate_positions, scenes, survey), scenes, trust)


def _locked_off(positions: list[Matrix], scenes: list[int], survey: Survey) -> list[Matrix]:
    """A scene that strays little and whose quarters lie where they lay on its first frame is one at rest: people who
    pass, compression and leaves mislead features, and a map fitted to them would only blur."""
    out = list(positions)
    for scene in set(scenes):
        members = [i for i, s in enumerate(scenes) if s == scene]
        strays = [_strayed(positions[i], survey) for i in members]
        if 0 < max(strays) <= STRAYS_PX / survey.scale and _same_place(members, survey):
            for i in members:
                out[i] = np.eye(3)
    return out


def _same_place(members: list[int], survey: Survey) -> bool:
    """Whether the frames of a scene show the very same place as its first: most of them say so, and none denies it."""
    first, *others = sequence.evenly(members, LOOKED_AT)
    least, said = max(RESTS_PX * survey.scale, RESTS_LEAST_PX), 0
    for index in others:
        shifts = _shifts(survey, first, index)
        if len(shifts) >= 2:
            said += 1
            if np.median(np.linalg.norm(shifts, axis=1)) >= least:
                return False
    return said > len(others) / 2


def _shifts(survey: Survey, first: int, index: int) -> npt.NDArray[np.float64]:
    """[N, 2]: by how many small pixels each quarter of the picture is shifted that shows the same on both frames."""
    height, width = survey.grey[0].shape
    blocked = cv2.dilate(survey.blocked[first] | survey.blocked[index], np.ones((5, 5), np.uint8))
    free = cv2.GaussianBlur((blocked == 0).astype(np.float32), (0, 0), DETAIL_PX)
    before, after = (detail(survey.grey[i], DETAIL_PX) * free for i in (first, index))
    found = []
    for rows in (slice(0, height // 2), slice(height // 2, height)):
        for columns in (slice(0, width // 2), slice(width // 2, width)):
            quarters = [np.ascontiguousarray(p[rows, columns], np.float64) for p in (before, after)]
            taper = cv2.createHanningWindow(quarters[0].shape[::-1], cv2.CV_64F)
            shift, response = cv2.phaseCorrelate(quarters[0], quarters[1], taper)
            if response > ALIKE:
                found.append(shift)
    return np.array(found, np.float64).reshape(-1, 2)


def _strayed(position: Matrix, survey: Survey) -> float:
    """How far the corner that moves most is moved, in plate pixels."""
    height, width = survey.grey[0].shape
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float64) / survey.scale
    return float(np.abs(cv2.perspectiveTransform(corners, position) - corners).max())


def _settled(position: Matrix, survey: Survey) -> Matrix:
    """A map that moves no corner by a twentieth of a small pixel is a camera at rest: resampling would only blur."""
    if _strayed(position, survey) < 0.12 / survey.scale:
        return np.eye(3)
    out: Matrix = position / position[2, 2]
    return out


def _features(grey: Bytes, blocked: Bytes) -> npt.NDArray[np.float32]:
    """Corners worth following: float32 [N, 1, 2]; well inside what may be looked at."""
    free = cv2.erode(255 - blocked, np.ones((9, 9), np.uint8), borderValue=255)
    spacing = max(5, min(grey.shape) // 60)
    found = cv2.goodFeaturesToTrack(grey, FEATURES, 0.004, spacing, mask=free)
    return found if found is not None else np.zeros((0, 1, 2), np.float32)


def _track(
    survey: Survey, anchor: int, index: int, points: npt.NDArray[np.float32], guess: Matrix
) -> tuple[Matrix | None, float]:
    """The map from `anchor` to `index` on the small grid, and the share of features it explains; None if too few."""
    if len(points) < INLIERS_LEAST:
        return None, 0.0
    height, width = survey.grey[0].shape
    start = cv2.perspectiveTransform(points.astype(np.float64), guess).astype(np.float32)
    # The anchor is first laid over the frame by the guess, so that the tracker only sees what is left of the motion.
    laid = cv2.warpPerspective(survey.grey[anchor], guess, (width, height), borderMode=cv2.BORDER_REPLICATE)
    laid, picture = _levelled(laid, survey.grey[index], survey.blocked[index])
    inside = ((start >= 4) & (start < np.array([width - 4, height - 4]))).all(2).ravel()
    if inside.sum() < INLIERS_LEAST:
        return None, 0.0
    here, origin = start[inside], points[inside]
    ahead, good, _ = cv2.calcOpticalFlowPyrLK(laid, picture, here, None, winSize=(17, 17), maxLevel=4)
    again, back, _ = cv2.calcOpticalFlowPyrLK(picture, laid, ahead, None, winSize=(17, 17), maxLevel=4)
    kept = (good.ravel() > 0) & (back.ravel() > 0) & (np.abs(again - here).max(2).ravel() < 0.5)
    where = np.clip(np.round(ahead[:, 0]), 0, [width - 1, height - 1]).astype(int)
    kept &= survey.blocked[index][where[:, 1], where[:, 0]] == 0
    if kept.sum() < INLIERS_LEAST:
        return None, 0.0
    if _rests(ahead[kept] - origin[kept]):
        return np.eye(3), float(kept.sum()) / len(points)
    cv2.setRNGSeed(anchor * 7919 + index)
    found, inliers = cv2.findHomography(origin[kept], ahead[kept], cv2.USAC_MAGSAC, INLIER_PX, maxIters=2000)
    if found is None or inliers.sum() < INLIERS_LEAST or not _plausible(found, width, height):
        return None, 0.0
    return found, float(inliers.sum()) / len(points)


def _levelled(before: Bytes, after: Bytes, blocked: Bytes) -> tuple[Bytes, Bytes]:
    """Both pictures at the darker one's exposure, where they differ in it: a flash, an iris. In code it is an offset,
    and the tracker follows light that stays the same. Only what neither clips can be followed."""
    free = (blocked == 0) & (before < CLIPPED) & (after < CLIPPED)
    if free.sum() < INLIERS_LEAST:
        return before, after
    step = float(np.median(after[free].astype(np.int16) - before[free]))
    if abs(step) < EXPOSURE_STEP:
        return before, after
    brighter, darker = (after, before) if step > 0 else (before, after)
    dimmed = cv2.subtract(brighter, float(abs(step)))
    ceiling = 255 - abs(step)
    darker = np.asarray(np.minimum(darker, np.uint8(ceiling)), np.uint8)
    return (darker, dimmed) if step > 0 else (dimmed, darker)


def _rests(moved: npt.NDArray[np.float32]) -> bool:
    """Whether features stay where they were, but for noise: then a fitted map would only add error and blur."""
    away = np.linalg.norm(moved, axis=2)
    return bool((np.abs(np.median(moved, axis=0)) < 0.1).all() and np.percentile(away, 75) < 0.35)


def _plausible(found: Matrix, width: int, height: int) -> bool:
    """No camera turns the picture inside out, or to a quarter or four times its size, between two linked frames."""
    corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]], np.float64)
    laid = cv2.perspectiveTransform(corners, found)[0].astype(np.float32)
    area = cv2.contourArea(laid, oriented=True) / (width * height)
    return bool(np.isfinite(laid).all() and 0.25 < area < 4 and cv2.isContourConvex(laid))


def _cut(survey: Survey, index: int) -> bool:
    """Whether the picture before `index` is another scene: its tones differ by more than motion and exposure explain.

    14 of 220 code values over a 32 x 18 picture, set by hand: it is asked only where no motion could be followed.
    """
    free = np.where(survey.blocked[index - 1] | survey.blocked[index], 0, 1).astype(np.float32)
    share = cv2.resize(free, (32, 18), interpolation=cv2.INTER_AREA)
    tones = [
        cv2.resize(survey.grey[i] * free, (32, 18), interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-3)
        for i in (index - 1, index)
    ]
    before, after = (cv2.blur(t, (3, 3)) for t in tones)
    seen = share > 0.3
    if not seen.any():
        return False
    apart = (before - after)[seen]
    return bool(np.abs(apart - np.median(apart)).mean() > 14)
