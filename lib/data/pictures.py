"""01's pictures: a thumbnail of each image with its labels, and the tiles that are kept; and the sizes of objects.

No torch here: 01's processes are started often.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from lib.imaging.draw import PALETTE, save_picture
from lib.imaging.grid import map_step
from lib.tables import IGNORE
from lib.workspace import Workspace, write_json

THUMBNAIL = 640  # longest side, pixels
BINS = 24  # of the histogram
VEIL = 0.65  # share of the colour laid over what is in no kept tile
GREEN, ORANGE = (40, 170, 90), (255, 190, 110)

Box = tuple[int, int, int, int]


def small_label(label, height: int, width: int, steps: tuple[int, int] | None = None) -> np.ndarray:
    """Label indices (h, w) of every so many pixels (`steps` down and across, else `map_step`) of an image, by bands."""
    down, across = steps or (map_step(height, width),) * 2
    band = down * max(1, 512 // down)  # a row at a time would look through all runs for each
    bands = (label.read(y, 0, min(band, height - y), width)[::down, ::across].copy() for y in range(0, height, band))
    return np.concatenate(list(bands))


def object_sizes(labels: np.ndarray, step: int, background: bool) -> dict[int, list[int]]:
    """Of each label index of a small map, the connected parts' areas in original pixels."""
    sizes = {}
    for index in np.unique(labels[labels != IGNORE]).tolist():
        if index or not background:
            *_, stats, _ = cv2.connectedComponentsWithStats((labels == index).astype(np.uint8))
            sizes[index] = (stats[1:, cv2.CC_STAT_AREA] * step**2).tolist()
    return sizes


def draw_survey(
    path: Path, image: np.ndarray, size: tuple[int, int], kept: Iterable[Box] = (), dropped: Iterable[Box] = (),
    labels: np.ndarray | None = None, first: int = 0,
) -> None:  # fmt: skip
    """Draw a thumbnail of `image` (h, w, 3), of an image of `size` (height, width) in original pixels.

    `kept`, `dropped`: tiles, boxes in original pixels; what only dropped ones show turns orange, and what none shows
    pale. `labels`: of a training image, outlined from index `first` on.
    """
    shrink = min(1.0, THUMBNAIL / max(image.shape[:2]))
    width, height = (max(1, round(side * shrink)) for side in image.shape[1::-1])
    picture = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if labels is not None:
        inside, lost = (covered(boxes, size, (height, width)) for boxes in (kept, dropped))
        veil = np.where((lost & ~inside)[..., None], np.array(ORANGE), 255)
        picture = np.where(inside[..., None], picture, picture * (1 - VEIL) + veil * VEIL).astype(np.uint8)
        outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(picture, outlines, -1, GREEN, 2)
        shown = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
        for index in np.unique(shown[(shown != IGNORE) & (shown >= first)]).tolist():
            outlines, _ = cv2.findContours((shown == index).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
            colour = PALETTE[(index + 1 - first) % len(PALETTE)].tolist()
            cv2.drawContours(picture, outlines, -1, colour, 1, cv2.LINE_AA)
    save_picture(path, picture)


def covered(boxes: Iterable[Box], size: tuple[int, int], small: tuple[int, int]) -> np.ndarray:
    """Which pixels of a map of `small` (h, w), of an image of `size` (height, width), some box covers; bool.

    >>> covered([(0, 0, 20, 10)], (40, 40), (4, 4)).astype(int).tolist()
    [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    inside = np.zeros(small, bool)
    for y, x, h, w in boxes:
        rows, columns = (
            slice(start * few // many, (start + length) * few // many)
            for start, length, few, many in zip((y, x), (h, w), small, size, strict=True)
        )
        inside[rows, columns] = True
    return inside


def write_objects(workspace: Workspace, sizes: Iterable[dict[int, list[int]]], names: list[str]) -> None:
    """Leave a histogram of all images' `object_sizes` for the report."""
    areas: dict[str, list[int]] = {}
    for image in sizes:
        for index, own in image.items():
            areas.setdefault(names[index], []).extend(own)
    every = [area for own in areas.values() for area in own]
    edges = np.geomspace(min(every), max(every) + 1, BINS + 1) if every else np.zeros(0)
    counts = {name: np.histogram(own, edges)[0].tolist() for name, own in areas.items()}
    write_json(workspace.report / "objects.json", {"edges": edges.tolist(), "counts": counts})
