"""Tiles of one image: where they lie, which are kept, their pixels and labels, their files.

What a tile holds is known from the label and a thumbnail, so only tiles that are kept are read at full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.config.preprocess import Preprocess
from lib.files import hash_of
from lib.imaging.content import Content
from lib.imaging.grid import grid, whole_size
from lib.imaging.pad import pad
from lib.imaging.reader import ImageReader, Scaled
from lib.imaging.roi import Regions
from lib.imaging.save import save_image
from lib.tables import FULL, IGNORE, class_columns

Box = tuple[int, int, int, int]
LABEL_PIXELS = 2**24  # pixels of a label held at once
WHOLE_PIXELS = np.array([0, FULL, *range(2, 256)], np.uint8)  # background and one class, as they are stored
OBJECT_SIDE = 8192  # whole labels are looked at no larger than this


@dataclass(frozen=True)
class Spot:
    """A tile before its pixels are read: its row of tiles.csv, and its size (h, w) as stored, before padding."""

    row: dict
    size: tuple[int, int]

    @property
    def box(self) -> Box:
        """(y, x, height, width) in original pixels."""
        return self.row["y"], self.row["x"], self.row["height"], self.row["width"]


def survey(
    image_id: str,
    source: str,
    reader: ImageReader,
    label,
    regions: Regions,
    content: Content,
    names: list[str],
    config: Preprocess,
) -> list[Spot]:
    """Every tile of an image that its regions keep, row by row; of ground that counts as blank, those with object."""
    if config.mode == "resize":
        boxes = [(0, 0, reader.height, reader.width)] if regions.boxes is None else regions.boxes
        sizes = [whole_size(*box[2:], config.tile_size, config.fit) for box in boxes]
        spots = [
            _spot(image_id, source, box, size, label, content, names, config.tile_size)
            for box, size in zip(boxes, sizes, strict=True)
        ]
        if regions.boxes is not None:  # several may begin at one place
            for spot in spots:
                spot.row["tile_id"] += "_h{height}_w{width}".format(**spot.row)
        return spots
    tile, scaled = config.tile_size, Scaled(reader, config.scale)
    spots = []
    for y, x in grid(scaled.height, scaled.width, tile, config.stride or tile):
        size = min(tile, scaled.height - y), min(tile, scaled.width - x)
        box = scaled.original(y, x, *size)
        kept = regions.keep(*box)
        if kept or regions.boxes is None:
            spot = _spot(image_id, source, box, size, label, content, names, tile)
            spots += [spot] if kept or foreground_pixels(spot.row) else []
    return spots


def _spot(
    image_id: str, source: str, box: Box, size: tuple, label, content: Content, names: list[str], tile: int
) -> Spot:
    counts = label.counts(*box)[[*range(len(names)), IGNORE]]
    pixels = np.ceil(counts * (size[0] * size[1] / (box[2] * box[3])) - 1e-3).astype(int)
    pixels[-1] += tile**2 - size[0] * size[1]  # what padding will add
    row = {
        "tile_id": f"{image_id}_y{box[0]}_x{box[1]}",
        "image_id": image_id,
        "source": source,
        **dict(zip(("y", "x", "height", "width"), box, strict=True)),
        "blank_share": round(content.blank_share(*box), 4),
        "contrast": round(content.contrast(*box), 2),
        **dict.fromkeys(class_columns(names), 0),
        **{f"px_{name}": int(count) for name, count in zip([*names, "ignore"], pixels, strict=True)},
    }
    return Spot(row, size)


def label_shares(label, box: Box, size: tuple[int, int], n: int) -> np.ndarray:
    """Share of each of `n` label indices, and last of `IGNORE`, in every pixel of a box shrunk to `size`.

    (n + 1, h, w) float32, summing to 1. Areas, not nearest neighbours: those move an edge by half a pixel.
    """
    (y, x, height, width), (h, w) = box, size
    out = np.zeros((n + 1, h, w), np.float32)
    step = max(1, LABEL_PIXELS * h // (height * width))
    for top in range(0, h, step):
        stop = min(h, top + step)
        y0, y1 = top * height // h, max(stop * height // h, top * height // h + 1)
        band = label.read(y + y0, x, y1 - y0, width)
        for index in np.flatnonzero(cv2.calcHist([band], [0], None, [IGNORE + 1], [0, IGNORE + 1])):
            plane = cv2.resize((band == index).astype(np.float32), (w, stop - top), interpolation=cv2.INTER_AREA)
            out[-1 if index == IGNORE else index, top:stop] = plane
    return out


def stored_label(shares: np.ndarray, binary: bool) -> np.ndarray:
    """Shares (n + 1, h, w) as a tile's label (h, w) uint8: `IGNORE` where most of a pixel is ignored, else

    `binary` (background and one class): the class's share in 1/`FULL`; otherwise: the index of the largest share.

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


def nearest_label(label, box: Box, size: tuple[int, int]) -> np.ndarray:
    """A label's box of original pixels at `size` (h, w), uint8, by nearest neighbour."""
    (y, x, height, width), (h, w) = box, size
    rows, columns = _nearest(height, h), _nearest(width, w)
    out = np.empty(size, np.uint8)
    step = max(1, LABEL_PIXELS * h // (height * width))
    for top in range(0, h, step):
        here = rows[top : top + step]
        pixels = label.read(y + int(here[0]), x, int(here[-1] - here[0]) + 1, width)
        out[top : top + step] = pixels[np.ix_(here - here[0], columns)]
    return out


def _nearest(source: int, target: int) -> np.ndarray:
    """The source pixel in whose middle each target pixel's middle lies.

    >>> _nearest(4, 2).tolist(), _nearest(3, 3).tolist()
    ([1, 3], [0, 1, 2])
    """
    return (2 * np.arange(target) + 1) * source // (2 * target)


def vanished_objects(label, height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """(objects, objects without a pixel left) when the label of an image `height` x `width` is shrunk to `size`."""
    shrink = min(1.0, OBJECT_SIDE / max(height, width))
    mask = nearest_label(label, (0, 0, height, width), (max(1, round(height * shrink)), max(1, round(width * shrink))))
    count, components = cv2.connectedComponents(((mask > 0) & (mask != IGNORE)).astype(np.uint8))
    left = components[np.ix_(_nearest(mask.shape[0], size[0]), _nearest(mask.shape[1], size[1]))]
    return count - 1, count - len(np.union1d(left, [0]))


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
    share = len(rest) * config.background_keep
    shift = np.random.default_rng(seed).random()
    count = round(share) or int(shift < share)  # of images with one tile, that share keeps it
    if not count:
        return objects
    places = np.minimum(((np.arange(count) + shift) * len(rest) / count).astype(int), len(rest) - 1)
    return sorted([*objects, *(rest[i] for i in places)])


def cut(spot: Spot, reader: ImageReader, label, n: int, binary: bool, tile: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (tile, tile, 3) and label (tile, tile; see `stored_label`), uint8, of `n` label indices.

    Small images are mirrored, and their rim is ignored.
    """
    pixels = reader.shrunk(*spot.size, *spot.box)
    if spot.size == spot.box[2:]:  # nothing is shrunk: each pixel is one label
        mask = label.read(*spot.box)
        mask = cv2.LUT(mask, WHOLE_PIXELS) if binary else mask
    else:
        mask = stored_label(label_shares(label, spot.box, spot.size, n), binary)
    return pad(pixels, tile), pad(mask, tile, value=IGNORE)


def write_tile(row: dict, image: np.ndarray, mask: np.ndarray, folder: Path, image_format: str) -> dict:
    """Store a tile and its label; returns its row with the paths, relative to `folder`'s parent."""
    name = row["tile_id"]
    image_path, mask_path = folder / f"{name}.{image_format}", folder / f"{name}_mask.png"
    write_image(image_path, image)
    save_image(mask_path, mask)
    content = hash_of(image.shape, image, mask)
    return {**row, "image_path": f"tiles/{image_path.name}", "mask_path": f"tiles/{mask_path.name}", "content": content}


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Store (H, W, 3) uint8 RGB as the suffix says: lossless PNG or BMP, or JPEG at quality 95.

    cv2's own PNG (run-lengths of differences) is written and read about twice as fast as zlib's, in a tenth to a
    quarter more bytes: benchmarks/preprocess.py.
    """
    save_image(path, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
