"""Build test cases whose answer is known from a folder of clips; the name of a case says all that is in it.

What comes in: the folder, and a name. What goes out: arrays. It runs nothing, scores nothing and writes no files.

Forms
    highway:FIRST:COUNT                         camera at rest, real cars, labelled shadows; truth: the long median
    still:NAME:FIRST:COUNT                      camera at rest, real people and cars; truth: the long median; the effect
                                                is labelled by hand or by what differs from it: a guide, not a fact
    paste:CLIP:OBJECT:COUNT[:SCALE,X,Y,VX]      moving camera, a cut-out and a soft shadow laid over it; truth: the clip
    noeffect:CLIP:OBJECT:COUNT[:SCALE,X,Y,VX]   the same without shadow: what the clip's own mover does is not its doing
    rest:CLIP:OBJECT:COUNT:DEPTH[:SCALE,X,Y,VX] the same with a shadow of DEPTH (1 leaves a third of the light), on one
                                                frame of the clip and fresh grain: the camera rests; truth: that frame
    quadmask:NAME                               a published sample of VOID and its affected region; no truth
    own:CLIP:COUNT                              the clip's own object; neither truth nor effect is known
    hidden:CLIP:COUNT                           a patch of the clip's ground, hidden on every frame; truth: the clip
    painted:CLIP:COUNT                          the same, and the artist painted it on the middle frame
    shown:CLIP:COUNT                            the same patch, hidden on every sixth frame alone
and, behind any of them, @grow, @shrink, @jitter or @late: the tool gets a sloppy matte (see `bench_mattes`).

Folder
    highway/input/in000770.jpg, highway/groundtruth/gt000770.png, highway/clean.png, highway/ROI.bmp   (CDnet 2014)
    still/NAME/input/in000020.jpg, groundtruth/gt000020.png, plate.png[, effect_auto/ef000020.png, plate_valid.png]
                                                                                                       (CDnet, SBI)
    davis/CLIP/*.jpg, davis/CLIP/*.png                                                                 (DAVIS, 480p)
    void/NAME/input_video.mp4, void/NAME/*quadmask*.mp4                                                (VOID's samples)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from void_server.bench.clips import ground as bench_ground
from void_server.bench.clips import mattes as bench_mattes
from void_server.wire.errors import SettingsError

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Picture = npt.NDArray[np.uint8]

DEFAULT_PASTE = (0.45, 40.0, 230.0, 5.0)
SHADE = np.array([1.0, 1.1, 1.25], np.float32)
GRAIN, GRAIN_SEED = 2.5 / 255, 11
"""Deviation of the grain on a frame that is repeated, in sRGB code: what is left of it must not repeat."""
HIDDEN_EVERY, GREY = 6, np.float32(0.18)
WIDEST_PX = 960
"""Published samples come up to 3840 wide; their regions are cells of an eighth of the height."""


@dataclasses.dataclass
class Case:
    """plate, truth: float32 [T, H, W, 3], scene-linear; matte, effect, valid, given: bool [T, H, W].

    given: the matte that the tool gets, where that is not the true one. valid: where the answer is known.
    """

    plate: Array
    matte: Mask
    effect: Mask
    valid: Mask
    truth: Array | None
    given: Mask | None = None
    others: Mask | None = None
    """bool [T, H, W]: somebody else, whom nothing may change."""
    painted: Mapping[int, Array] = dataclasses.field(default_factory=dict)
    """By index, what the artist gives as reference: float32 [H, W, 3], scene-linear."""


def parse(name: str) -> tuple[str, list[str], str]:
    """(kind, its words, the way in which the matte is sloppy or '').

    >>> parse("highway:770:60@late")
    ('highway', ['770', '60'], 'late')
    """
    form, _, way = name.partition("@")
    kind, *words = form.split(":")
    return kind, words, way


def chosen(asked: Sequence[str] | None, offered: Sequence[str]) -> list[str]:
    """The cases to run: those asked for, or all. A kind alone, or one sloppy way, stands for all such cases offered.

    >>> chosen(["own", "highway:1:2"], ["own:cows:36", "own:camel:36", "highway:770:60"])
    ['own:cows:36', 'own:camel:36', 'highway:1:2']
    """
    names: list[str] = []
    for word in asked or offered:
        kind, words, way = parse(word)
        if words:
            names.append(word)
            continue
        like = [name for name in offered if kind in ("", parse(name)[0]) and parse(name)[2] == way]
        if not like:
            kinds = ", ".join(dict.fromkeys(parse(name)[0] for name in offered))
            raise SettingsError(f"No case here is '{word}'.", f"Name a whole case, or one of these kinds: {kinds}.")
        names += like
    return list(dict.fromkeys(names))


def load(data: Path, name: str) -> Case:
    """Build a case from the clips in `data`. Raises SettingsError for one that can't be."""
    kind, words, way = parse(name)
    try:
        case = _build(data, kind, words)
        if way:
            case.given = bench_mattes.sloppy(case.matte, way)
    except (IndexError, ValueError, OSError) as error:
        raise SettingsError(
            f"Case '{name}' can't be built from {data}: {error}.",
            "The forms stand in void_server/bench/clips/cases.py.",
        ) from error
    return case


def _build(data: Path, kind: str, words: Sequence[str]) -> Case:
    if kind == "highway":
        return _highway(data / "highway", int(words[0]), int(words[1]))
    if kind == "still":
        return _still(data / "still" / words[0], int(words[1]), int(words[2]))
    if kind in ("paste", "noeffect", "rest"):
        depth, *put = words[3:] if kind == "rest" else ["1" if kind == "paste" else "0", *words[3:]]
        place = tuple(float(v) for v in put[0].split(",")) if put else DEFAULT_PASTE
        folder, count = data / "davis", int(words[2])
        return _paste(folder, words[0], words[1], count, place, depth=float(depth), rests=kind == "rest")
    if kind == "quadmask":
        return _quadmask(data / "void" / words[0])
    if kind == "own":
        light, shape = _davis(data / "davis" / words[0], int(words[1]))
        none = np.zeros_like(shape)
        return Case(light, shape, none, ~none, None)
    if kind in ("hidden", "painted", "shown"):
        return _ground(*_davis(data / "davis" / words[0], int(words[1])), kind)
    raise ValueError(
        f"'{kind}' is of no known kind; there are highway, still, paste, noeffect, rest, quadmask, "
        "own, hidden, painted and shown"
    )


def shown(light: Array) -> Array:
    """sRGB encoding (IEC 61966-2-1), clipped to [0, 1]: the clips were photographed for display."""
    x = np.clip(np.nan_to_num(light), 0, 1)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055).astype(np.float32)


def linear(code: Array) -> Array:
    """The light that `shown` encodes."""
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(np.float32)


def grown(mask: Mask, pixels: int) -> Mask:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)


def _picture(path: Path, grey: bool = False) -> Picture:
    found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR) if path.is_file() else None
    if found is None:
        raise OSError(f"{path} can't be read")
    return np.asarray(found, np.uint8)


def _light(picture: Picture) -> Array:
    return linear(picture[..., ::-1].astype(np.float32) / np.float32(255))


def _highway(root: Path, first: int, count: int) -> Case:
    labels = [_picture(root / f"groundtruth/gt{i:06d}.png", grey=True) for i in range(first, first + count)]
    plate = np.stack([_light(_picture(root / f"input/in{i:06d}.jpg")) for i in range(first, first + count)])
    matte = np.stack([grown((label == 255) | (label == 170), 1) for label in labels])
    effect = np.stack([label == 50 for label in labels]) & ~matte
    inside = _picture(root / "ROI.bmp", grey=True) > 0
    valid = np.stack([label != 85 for label in labels]) & inside
    return Case(plate, matte, effect, valid, np.broadcast_to(_light(_picture(root / "clean.png")), plate.shape))


def _still(root: Path, first: int, count: int) -> Case:
    clean = _light(_picture(root / "plate.png"))
    good = np.ones(clean.shape[:2], bool)
    if (root / "plate_valid.png").is_file():
        good = _picture(root / "plate_valid.png", grey=True) > 127
    names = [i for i in range(first, first + count) if (root / f"input/in{i:06d}.jpg").is_file()]
    if not names:
        raise OSError(f"{root} holds none of these frames")
    labels = [_picture(root / f"groundtruth/gt{i:06d}.png", grey=True) for i in names]
    matte = np.stack([grown((label == 255) | (label == 170), 2) for label in labels])
    measured = [root / f"effect_auto/ef{i:06d}.png" for i in names]
    effect = [
        _picture(path, grey=True) > 127 if path.is_file() else label == 50 for path, label in zip(measured, labels)
    ]
    plate = np.stack([_light(_picture(root / f"input/in{i:06d}.jpg")) for i in names])
    valid = np.stack([good & (label != 85) for label in labels])
    return Case(plate, matte, np.stack(effect) & ~matte, valid, np.broadcast_to(clean, plate.shape))


def _davis(folder: Path, count: int) -> tuple[Array, Mask]:
    names = sorted(folder.glob("*.jpg"))[:count]
    if not names:
        raise OSError(f"{folder} holds no frames")
    shape = np.stack([_picture(n.with_suffix(".png"), grey=True) > 127 for n in names])
    return np.stack([_light(_picture(n)) for n in names]), shape


def _paste(
    root: Path, clip: str, cutout: str, count: int, place: tuple[float, ...], *, depth: float, rests: bool = False
) -> Case:
    """depth: of the shadow, 0 for none, 1 for one that leaves a third of the light."""
    truth, own = _davis(root / clip, count)
    ground = truth
    if rests:
        truth, own = np.broadcast_to(truth[len(truth) // 2], truth.shape), np.zeros_like(own)
        dice = np.random.default_rng(GRAIN_SEED)
        ground = np.stack([_grainy(frame, dice) for frame in truth])
    source, shape = _davis(root / cutout, count)
    scale, x, y, speed = place
    size = (truth.shape[2], truth.shape[1])
    plate, matte, effect = [], [], []
    for t in range(min(len(truth), len(source))):
        move = np.array([[scale, 0, x + t * speed], [0, scale, y]], np.float32)
        alpha = cv2.GaussianBlur(cv2.warpAffine(shape[t].astype(np.float32), move, size), (0, 0), 0.8)
        rows = np.nonzero(alpha > 0.5)[0]
        shade = np.zeros_like(alpha)
        if depth and len(rows):
            foot = float(rows.max())
            # The object's own outline, squashed and sheared about its feet, is its shadow.
            fall = np.array([[1, -0.9, 0.9 * foot], [0, -0.35, 1.35 * foot]], np.float32)
            shade = depth * cv2.GaussianBlur(cv2.warpAffine(alpha, fall, size), (0, 0), 3)
        shaded = ground[t] * (1 - shade[..., None] * (1 - 0.3 * SHADE))
        plate.append(shaded * (1 - alpha[..., None]) + cv2.warpAffine(source[t], move, size) * alpha[..., None])
        matte.append(alpha > 0.1)
        effect.append((shade > 0.1) & (alpha <= 0.1))
    n = len(plate)
    # With a shadow, what happens on the clip's own mover is left open; without one, marking it is the mistake to count.
    valid = np.stack([~grown(o, 6) if depth else np.ones_like(o) for o in own[:n]])
    light = np.stack(plate).astype(np.float32)
    return Case(light, np.stack(matte), np.stack(effect), valid, truth[:n], others=own[:n])


def _grainy(light: Array, dice: np.random.Generator) -> Array:
    return linear(np.clip(shown(light) + dice.normal(0, GRAIN, light.shape), 0, 1).astype(np.float32))


def _ground(light: Array, mover: Mask, kind: str) -> Case:
    matte = bench_ground.patch(light, mover)
    if kind == "shown":
        matte[np.arange(len(matte)) % HIDDEN_EVERY != HIDDEN_EVERY // 2] = False
    plate = np.where(matte[..., None], GREY, light).astype(np.float32)
    middle = len(light) // 2
    valid = np.stack([~grown(m, 6) for m in mover])
    painted = {middle: light[middle]} if kind == "painted" else {}
    return Case(plate, matte, np.zeros_like(matte), valid, light, painted=painted)


def _quadmask(folder: Path) -> Case:
    labelled = sorted(folder.glob("*quadmask*.mp4"))
    if not labelled:
        raise OSError(f"{folder} holds no quadmask")
    video, quads = _frames(folder / "input_video.mp4"), _frames(labelled[0])
    n = min(len(video), len(quads))
    height, width = video[0].shape[:2]
    scale = min(1.0, WIDEST_PX / width)
    size = (int(width * scale) // 2 * 2, int(height * scale) // 2 * 2)
    plate = np.stack([_light(cv2.resize(v, size, interpolation=cv2.INTER_AREA)) for v in video[:n]])
    # Labels are 0, 63, 127 and 255, blurred by the codec: the bounds lie half-way between them.
    label = np.stack([cv2.resize(q, size, interpolation=cv2.INTER_NEAREST)[..., 1] for q in quads[:n]])
    effect = (label > 31) & (label < 192)
    return Case(plate, label < 96, effect, np.ones_like(effect), None)


def _frames(path: Path) -> list[Picture]:
    video = cv2.VideoCapture(str(path))
    frames: list[Picture] = []
    while True:
        more, frame = video.read()
        if not more:
            break
        frames.append(np.asarray(frame, np.uint8))
    video.release()
    if not frames:
        raise OSError(f"{path} can't be decoded")
    return frames
