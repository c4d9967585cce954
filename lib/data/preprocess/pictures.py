"""Pictures for the report: a thumbnail of every image with its labels and the tiles that are kept.

Imports no torch, because stage 1 starts many processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.competition.labels.planes import class_masks
from lib.imaging.draw import PALETTE, save_picture
from lib.imaging.geometry import Box

SURVEY_SIDE = 640  # longest side of a thumbnail, pixels
VEIL = 0.65  # opacity of the colour drawn over what is in no kept tile
GREEN, ORANGE = (40, 170, 90), (255, 190, 110)


@dataclass(frozen=True)
class Overlay:
    """What is drawn over the thumbnail of a training image.

    `kept`, `dropped`: tiles as boxes (y, x, height, width) in original pixels. `labels`: a small map (h, w) of label
    indices, or planes (K, h, w), whose objects are outlined from index `first` on.
    """

    kept: Iterable[Box]
    dropped: Iterable[Box]
    labels: np.ndarray
    first: int


def draw_survey(path: Path, image: np.ndarray, size: tuple[int, int], overlay: Overlay | None = None) -> None:
    """Draw a thumbnail of `image` (h, w, 3) uint8, which shows an image of `size` (height, width) original pixels.

    With an overlay, areas in dropped tiles alone turn orange, and areas in no tile turn pale.
    """
    shrink = min(1.0, SURVEY_SIDE / max(image.shape[:2]))
    width, height = (max(1, round(side * shrink)) for side in image.shape[1::-1])
    picture = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if overlay is not None:
        kept, dropped = (covered(boxes, size, (height, width)) for boxes in (overlay.kept, overlay.dropped))
        color = np.where((dropped & ~kept)[..., None], np.array(ORANGE), 255)
        picture = np.where(kept[..., None], picture, picture * (1 - VEIL) + color * VEIL).astype(np.uint8)
        _draw_outline(picture, kept, GREEN, 2, cv2.LINE_8)
        for index, mask in class_masks(overlay.labels, overlay.first):
            color = PALETTE[(index + 1 - overlay.first) % len(PALETTE)].tolist()
            inside = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
            _draw_outline(picture, inside, color, 1, cv2.LINE_AA)
    save_picture(path, picture)


def _draw_outline(picture: np.ndarray, inside: np.ndarray, color: Iterable[int], width: int, line: int) -> None:
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(picture, outlines, -1, color, width, line)


def covered(boxes: Iterable[Box], size: tuple[int, int], small: tuple[int, int]) -> np.ndarray:
    """Which pixels of a map (h, w) = `small` lie in any of `boxes`, bool.

    The map shows an image of `size` (height, width), in whose pixels the boxes are given.

    >>> covered([(0, 0, 20, 10)], (40, 40), (4, 4)).astype(int).tolist()
    [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    inside = np.zeros(small, bool)
    for y, x, h, w in boxes:
        rows, columns = (
            slice(start * short // long, (start + length) * short // long)
            for start, length, short, long in zip((y, x), (h, w), small, size, strict=True)
        )
        inside[rows, columns] = True
    return inside
