"""01's work on one image: cut tiles with their labels, drop most of the background, store them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.competition.labels import IGNORE
from lib.config.preprocess import Preprocess
from lib.imaging.grid import grid, whole_size
from lib.imaging.reader import ImageReader, Scaled
from lib.imaging.roi import Regions
from lib.tables import class_columns


@dataclass
class Cut:
    """A tile before it is known whether it is kept."""

    image: np.ndarray
    mask: np.ndarray
    row: dict


def cut_tiles(image_id: str, reader: ImageReader, label, regions: Regions, names: list[str], config: Preprocess):
    """Yield every tile (`Cut`) of an image that its regions keep, row by row."""
    if config.mode == "resize":
        yield _whole(image_id, reader, label, names, config)
        return
    size, scaled = config.tile_size, Scaled(reader, config.scale)
    for y, x in grid(scaled.height, scaled.width, size, config.stride or size):
        h, w = min(size, scaled.height - y), min(size, scaled.width - x)
        box = scaled.original(y, x, h, w)
        if not regions.keep(*box):
            continue
        image = scaled.read(y, x, h, w)
        mask = shrink_mask(label.read(*box), h, w)
        yield _cut(image_id, box, pad(image, size, mirror=True), pad(mask, size, mirror=False), names, regions)


def _whole(image_id: str, reader: ImageReader, label, names: list[str], config: Preprocess) -> Cut:
    """The whole image as one tile of `tile_size`; letterboxed rims are ignored."""
    size = config.tile_size
    h, w = whole_size(reader.height, reader.width, size, config.fit)
    box = (0, 0, reader.height, reader.width)
    image = cv2.resize(reader.read(*box), (w, h), interpolation=cv2.INTER_AREA)
    mask = shrink_mask(label.read(*box), h, w)
    return _cut(image_id, box, pad(image, size, mirror=True), pad(mask, size, mirror=False), names, Regions(None))


def _cut(image_id: str, box: tuple, image: np.ndarray, mask: np.ndarray, names: list[str], regions: Regions) -> Cut:
    y, x, height, width = box
    counts = np.bincount(mask.ravel(), minlength=256)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    row = {
        "tile_id": f"{image_id}_y{y}_x{x}",
        "image_id": image_id,
        "source": "competition",
        "y": y,
        "x": x,
        "height": height,
        "width": width,
        "blank_share": round(regions.blank_share(*box), 4),
        "contrast": round(float(grey.std()), 2),
        **dict.fromkeys(class_columns(names), 0),
        **{f"px_{name}": int(counts[i]) for i, name in enumerate(names)},
        "px_ignore": int(counts[IGNORE]),
    }
    return Cut(image, mask, row)


def shrink_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Label indices at another size. Nearest neighbour: indices must not be mixed.

    >>> shrink_mask(np.array([[0, 1], [2, 3]], np.uint8), 1, 2).shape
    (1, 2)
    """
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def vanished_objects(mask: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """(objects, objects that have no pixel left) when a label map (H, W) is shrunk to `height` x `width`."""
    count, components = cv2.connectedComponents(((mask > 0) & (mask != IGNORE)).astype(np.uint8))
    small = cv2.resize(components.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return count - 1, count - len(np.union1d(small, [0]))


def pad(array: np.ndarray, size: int, mirror: bool) -> np.ndarray:
    """Grow (h, w[, C]) to `size` at the bottom and right: mirrored pixels, or `IGNORE`."""
    bottom, right = size - array.shape[0], size - array.shape[1]
    if bottom <= 0 and right <= 0:
        return array
    widths = [(0, max(0, bottom)), (0, max(0, right))] + [(0, 0)] * (array.ndim - 2)
    if not mirror:
        return np.pad(array, widths, constant_values=IGNORE)
    return np.pad(array, widths, mode="symmetric")


def foreground_pixels(row: dict) -> int:
    """Pixels of a tile that belong to any class."""
    return sum(n for key, n in row.items() if key.startswith("px_") and key not in ("px_background", "px_ignore"))


def keep_tiles(rows: list[dict], config: Preprocess, background: bool, seed: int) -> list[int]:
    """Positions of the tiles to keep: all with object, and a seeded share of the rest.

    The rest is sorted by contrast and thinned evenly, so that plain and busy background both stay.
    """
    if not background or config.mode == "resize":
        return list(range(len(rows)))
    objects = [i for i, row in enumerate(rows) if foreground_pixels(row) >= config.min_object_pixels]
    rest = sorted(set(range(len(rows))) - set(objects), key=lambda i: rows[i]["contrast"])
    count = round(len(rest) * config.background_keep)
    if not count:
        return objects
    shift = np.random.default_rng(seed).random()
    places = np.minimum(((np.arange(count) + shift) * len(rest) / count).astype(int), len(rest) - 1)
    return sorted([*objects, *(rest[i] for i in places)])


def write_tile(cut: Cut, folder: Path, image_format: str) -> dict:
    """Store a tile and its mask; returns its row of tiles.csv with paths relative to `folder`'s parent."""
    name = cut.row["tile_id"]
    image_path, mask_path = folder / f"{name}.{image_format}", folder / f"{name}_mask.png"
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if image_format == "png" else [cv2.IMWRITE_JPEG_QUALITY, 95]
    cv2.imwrite(str(image_path), cut.image[:, :, ::-1], options)
    cv2.imwrite(str(mask_path), cut.mask, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    return {**cut.row, "image_path": f"tiles/{image_path.name}", "mask_path": f"tiles/{mask_path.name}"}
