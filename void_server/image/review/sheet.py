"""The contact sheet: people look before they read.

What comes in: a few frames of plate, change, affected and clean, or any pictures. What goes out: one display-encoded
PNG. It chooses nothing about the shot.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from void_server.image import colour, fit
from void_server.wire.errors import OutputError

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

COLUMN_WIDTH = 480
GAP_PX = 6
LABEL_PX = 22
OBJECT_TINT = np.array([255, 70, 60], np.float32)
AFFECTED_TINT = np.array([60, 150, 255], np.float32)
SUSPECTED_TINT = np.array([255, 190, 40], np.float32)
MARKS = ("change", "affected", "suspected")


@dataclasses.dataclass(frozen=True)
class Row:
    """One frame: plate and clean are light [H, W, 3], change, affected and suspected float [H, W]."""

    label: str
    plate_lin: npt.NDArray[np.floating]
    clean_lin: npt.NDArray[np.floating]
    change: npt.NDArray[np.floating]
    affected: npt.NDArray[np.floating]
    suspected: npt.NDArray[np.floating]


def reduced(row: Row) -> Row:
    """The same row at the sheet's size, so that a few 4K frames are never held at once."""
    height, width = row.plate_lin.shape[:2]
    size = fit.scaled_size(height, width, min(1.0, COLUMN_WIDTH / width))

    def light(picture: npt.NDArray[np.floating]) -> Array:
        return fit.resize(np.nan_to_num(picture.astype(np.float32), nan=0, posinf=0, neginf=0), *size)

    return Row(
        row.label,
        light(row.plate_lin),
        light(row.clean_lin),
        *(fit.resize_soft(getattr(row, name).astype(np.float32), *size) for name in MARKS),
    )


def write(path: Path, rows: Sequence[Row], chromaticities: tuple[float, ...]) -> None:
    """Write plate | affected | clean, one frame a row, as 8-bit sRGB. Raises OutputError where the disk refuses."""
    pictures = [
        {
            "plate": _shown(row.plate_lin, chromaticities),
            "removed and affected": _marked(row, chromaticities),
            "clean": _shown(row.clean_lin, chromaticities),
        }
        for row in rows
    ]
    write_pictures(path, {row.label: shown for row, shown in zip(rows, pictures)})


def write_pictures(path: Path, rows: Mapping[str, Mapping[str, Bytes]]) -> None:
    """Write pictures of 8-bit sRGB, by label of their row and title, as one PNG. Raises OutputError.

    All pictures of a row are of one height.
    """
    shown = [list(row.values()) for row in rows.values()]
    width, columns = max(p.shape[1] for row in shown for p in row), max(len(row) for row in shown)
    height = sum(row[0].shape[0] + LABEL_PX + GAP_PX for row in shown)
    page = np.full((height + GAP_PX, columns * width + (columns + 1) * GAP_PX, 3), 24, np.uint8)
    top = GAP_PX
    for label, row in rows.items():
        bottom = top + LABEL_PX
        for index, (title, picture) in enumerate(row.items()):
            left = GAP_PX + index * (width + GAP_PX)
            _text(page, f"{label}  {title}", left, top + LABEL_PX - 7)
            page[top + LABEL_PX : top + LABEL_PX + picture.shape[0], left : left + picture.shape[1]] = picture
            bottom = top + LABEL_PX + picture.shape[0]
        top = bottom + GAP_PX
    done, png = cv2.imencode(".png", page[..., ::-1])
    assert done
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        temporary.write_bytes(png.tobytes())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"Can't write {path}: {error.strerror}.", "Free some space or choose another --out."
        ) from error


def _shown(picture_lin: npt.NDArray[np.floating], chromaticities: tuple[float, ...]) -> Bytes:
    return colour.display(picture_lin.astype(np.float32), chromaticities)


def _marked(row: Row, chromaticities: tuple[float, ...]) -> Bytes:
    """The plate, darker, with what is removed in red, what was affected in blue, what is suspected outlined."""
    affected = np.clip(row.affected, 0, 1).astype(np.float32)
    removed = np.clip(row.change, 0, 1).astype(np.float32) * (1 - affected)
    mixed = tinted(dimmed(row.plate_lin, chromaticities), affected, AFFECTED_TINT)
    picture = tinted(mixed, removed, OBJECT_TINT)
    picture[around(row.suspected > 0.5)] = SUSPECTED_TINT
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def around(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels just outside of a mask: its outline."""
    inside = mask.astype(np.uint8)
    return np.asarray(cv2.dilate(inside, np.ones((3, 3), np.uint8)) > inside, bool)


def dimmed(picture_lin: npt.NDArray[np.floating], chromaticities: tuple[float, ...]) -> Array:
    """Light as on a display, 0 to 255, dark enough for tints to stand out on it."""
    return _shown(picture_lin, chromaticities).astype(np.float32) * 0.6


def tinted(picture: Array, alpha: Array, tint: Array) -> Array:
    """A displayed picture [H, W, 3] with a colour laid over it; alpha [H, W] in [0, 1] keeps the picture visible."""
    share = alpha[..., None]
    return np.asarray(picture * (1 - 0.6 * share) + tint * 0.6 * share, np.float32)


def _text(page: Bytes, text: str, x: int, y: int) -> None:
    cv2.putText(page, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (225, 225, 225), 1, cv2.LINE_AA)
