"""Labels at other sizes: shrunk by area for training tiles, subsampled for thumbnails and counts."""

from __future__ import annotations

import cv2
import numpy as np

from lib.competition.labels.common import Label
from lib.competition.labels.planes import class_masks
from lib.imaging.geometry import Box
from lib.imaging.grid import map_step
from lib.tables import FULL, IGNORE

LABEL_READ_PIXELS = 2**24  # pixels of a label that are held at once
COMPARED_PIXELS, COMPARED_BANDS = 2**22, 16  # of an image in which painted classes are compared with planes
OBJECT_MAP_SIDE = 8192  # longest side, in pixels, of the map on which objects are counted


def label_shares(label: Label, box: Box, size: tuple[int, int], n: int) -> np.ndarray:
    """Share of each label index in every pixel of `box`, shrunk to `size` (h, w).

    Returns (n + 1, h, w) float32 that sums to 1: the `n` label indices, then `IGNORE`. Shares are areas, because
    nearest neighbours move an edge by half a pixel. Of a label by several people, it is the mean of theirs.
    """
    if label.opinions:
        return np.mean([label_shares(opinion, box, size, n) for opinion in label.opinions], axis=0)
    (y, x, height, width), (h, w) = box, size
    out = np.zeros((n + 1, h, w), np.float32)
    step = max(1, LABEL_READ_PIXELS * h // (height * width))
    for top in range(0, h, step):
        stop = min(h, top + step)
        y0, y1 = top * height // h, max(stop * height // h, top * height // h + 1)
        band = label.read(y + y0, x, y1 - y0, width)
        for index in np.flatnonzero(cv2.calcHist([band], [0], None, [IGNORE + 1], [0, IGNORE + 1])):
            plane = cv2.resize((band == index).astype(np.float32), (w, stop - top), interpolation=cv2.INTER_AREA)
            out[-1 if index == IGNORE else index, top:stop] = plane
    return out


def stored_label(shares: np.ndarray, binary: bool) -> np.ndarray:
    """A tile's label (h, w) uint8 from the `shares` (n + 1, h, w) that `label_shares` returns.

    A pixel is `IGNORE` where more than half of it is ignored. With `binary` (background and one class) the other
    pixels hold the share of the class in units of 1 / `FULL`, else the index of the largest share.

    >>> shares = np.array([[[1.0, 0.5, 0.0]], [[0.0, 0.5, 0.0]], [[0.0, 0.0, 1.0]]], np.float32)
    >>> stored_label(shares, True).tolist(), stored_label(shares, False).tolist()
    ([[0, 127, 255]], [[0, 0, 255]])
    """
    ignored = shares[-1] > 0.5
    if binary:
        known = np.maximum(1 - shares[-1], 1e-6)
        values = (shares[1] / known * FULL).round()
    else:
        values = shares[:-1].argmax(0)
    return np.where(ignored, IGNORE, values).astype(np.uint8)


def nearest_label(label: Label, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Label indices (h, w) uint8, or planes (K, h, w), of a box of original pixels at `size` (h, w), by nearest
    neighbour."""
    (y, x, height, width), (h, w) = box, size
    rows, columns = _nearest_pixels(height, h), _nearest_pixels(width, w)
    bands = []
    step = max(1, LABEL_READ_PIXELS * h // (height * width * len(label.planes)))
    for top in range(0, h, step):
        band_rows = rows[top : top + step]
        pixels = label.read(y + int(band_rows[0]), x, int(band_rows[-1] - band_rows[0]) + 1, width)
        bands.append(pixels[..., (band_rows - band_rows[0])[:, None], columns])
    return np.concatenate(bands, axis=-2)


def _nearest_pixels(source: int, target: int) -> np.ndarray:
    """For each of `target` pixels, the source pixel that contains its centre.

    >>> _nearest_pixels(4, 2).tolist(), _nearest_pixels(3, 3).tolist()
    ([1, 3], [0, 1, 2])
    """
    return (2 * np.arange(target) + 1) * source // (2 * target)


def subsampled_label(label: Label, height: int, width: int, steps: tuple[int, int] | None = None) -> np.ndarray:
    """Label indices (h, w) uint8, or planes (K, h, w), of every `steps`-th pixel (down, across) of an image of
    `height` x `width`.

    Without `steps` the result has at most 900 pixels a side, as `map_step` says.
    """
    down, across = steps or (map_step(height, width),) * 2
    band = down * max(1, 512 // down)  # run-lengths are searched once per read, so rows are read in bands
    bands = (
        label.read(y, 0, min(band, height - y), width)[..., ::down, ::across].copy() for y in range(0, height, band)
    )
    return np.concatenate(list(bands), axis=-2)


def object_areas(labels: np.ndarray, step: int, first: int) -> dict[int, list[int]]:
    """Areas, in original pixels, of the connected components of each class, by label index.

    `labels` (h, w), or planes (K, h, w), holds every `step`-th pixel of an image. `first`: label index of the first
    class.
    """
    areas = {}
    for index, mask in class_masks(labels, first):
        *_, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        areas[index] = (stats[1:, cv2.CC_STAT_AREA] * step**2).tolist()
    return areas


def vanished_objects(label: Label, height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """(objects, objects that have no pixel left) when the label of an image `height` x `width` is shrunk to `size`."""
    shrink = min(1.0, OBJECT_MAP_SIDE / max(height, width))
    seen = max(1, round(height * shrink)), max(1, round(width * shrink))
    pixels = np.ix_(*(_nearest_pixels(*pair) for pair in zip(seen, size, strict=True)))
    objects = vanished = 0
    for plane in label.planes:
        mask = nearest_label(plane, (0, 0, height, width), seen)
        count, components = cv2.connectedComponents(((mask > 0) & (mask != IGNORE)).astype(np.uint8))
        objects += count - 1
        vanished += count - len(np.union1d(components[pixels], [0]))
    return objects, vanished


def hidden_pixels(label: Label, height: int, width: int, first: int) -> np.ndarray:
    """(2, K) int64: pixels of each class in an image, and those of them that another class is painted over.

    Bands of rows are compared, all over an image that is large. `first`: label index of the first class. Empty (2, 0)
    where no classes are painted over one another.
    """
    if label.by_class is None:
        return np.zeros((2, 0), np.int64)
    planes = label.by_class().planes
    whole = height * width <= COMPARED_PIXELS
    rows = height if whole else max(1, COMPARED_PIXELS // (COMPARED_BANDS * width))
    counts = np.zeros((2, len(planes)), np.int64)
    for top in [0] if whole else np.linspace(0, height - rows, COMPARED_BANDS).astype(int).tolist():
        box = top, 0, rows, width
        painted = label.read(*box)
        for index, plane in enumerate(planes):
            mask = plane.read(*box) == 1
            counts[:, index] += np.count_nonzero(mask), np.count_nonzero(mask & (painted != index + first))
    return counts
