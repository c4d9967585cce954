"""Which tiles an image is cut into, and which of them are kept.

Labels and thumbnails tell what a tile contains, so only tiles that are kept are read at full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lib.competition.labels.common import Label
from lib.competition.labels.planes import counted_names
from lib.config.preprocess import Preprocess
from lib.imaging.content import Content
from lib.imaging.geometry import Box
from lib.imaging.grid import grid, whole_size
from lib.imaging.reader import ImageReader, Scaled
from lib.imaging.roi import Regions
from lib.tables import foreground_pixels


@dataclass(frozen=True)
class LabeledImage:
    """An open training image with its label and its map of blank areas."""

    image_id: str
    source: str
    reader: ImageReader
    label: Label
    content: Content
    label_names: list[str]


@dataclass(frozen=True)
class Tile:
    """A tile before its pixels are read: its row of tiles.csv, and its size (h, w) as stored, before padding.

    `whole`: it is an image, or a box of it, that was resized to the size of a tile.
    """

    row: dict
    size: tuple[int, int]
    whole: bool = False

    @property
    def box(self) -> Box:
        """(y, x, height, width) in original pixels."""
        return self.row["y"], self.row["x"], self.row["height"], self.row["width"]


def candidate_tiles(image: LabeledImage, regions: Regions, config: Preprocess) -> list[Tile]:
    """All tiles of an image inside `regions`, row by row. Tiles on blank areas are included if they contain objects."""
    if config.mode == "resize":
        return _resized_tiles(image, regions, config)
    side, scaled = config.tile_size, Scaled(image.reader, config.scale)
    tiles = []
    for y, x in grid(scaled.height, scaled.width, side, config.stride or side):
        size = min(side, scaled.height - y), min(side, scaled.width - x)
        box = scaled.original(y, x, *size)
        inside = regions.keep(*box)
        if inside or regions.boxes is None:
            tile = _tile(image, box, size, side)
            tiles += [tile] if inside or foreground_pixels(tile.row) else []
    return tiles


def _resized_tiles(image: LabeledImage, regions: Regions, config: Preprocess) -> list[Tile]:
    """One tile for the whole image, or one for each box of `regions`, resized to `tile_size`."""
    boxes = [(0, 0, image.reader.height, image.reader.width)] if regions.boxes is None else regions.boxes
    sizes = [whole_size(*box[2:], config.tile_size, config.fit) for box in boxes]
    tiles = [
        replace(_tile(image, box, size, config.tile_size), whole=True) for box, size in zip(boxes, sizes, strict=True)
    ]
    if regions.boxes is not None:  # several boxes may begin at one pixel
        for tile in tiles:
            tile.row["tile_id"] += "_h{height}_w{width}".format(**tile.row)
    return tiles


def _tile(image: LabeledImage, box: Box, size: tuple[int, int], side: int) -> Tile:
    """The tile of `box` that is stored at `size` and padded to `side` x `side` pixels."""
    index_of = counted_names(image.label_names)
    counts = image.label.counts(*box)[[*index_of.values()]]
    pixels = np.ceil(counts * (size[0] * size[1] / (box[2] * box[3])) - 1e-3).astype(int)
    pixels[-1] += side**2 - size[0] * size[1]  # padding is ignored
    row = {
        "tile_id": f"{image.image_id}_y{box[0]}_x{box[1]}",
        "image_id": image.image_id,
        "source": image.source,
        **dict(zip(("y", "x", "height", "width"), box, strict=True)),
        "blank_share": round(image.content.blank_share(*box), 4),
        "contrast": round(image.content.contrast(*box), 2),
        **{f"px_{name}": int(count) for name, count in zip(index_of, pixels, strict=True)},
    }
    return Tile(row, size)


def keep_tiles(rows: list[dict], config: Preprocess, background: bool, seed: int) -> list[int]:
    """Positions of the tiles to keep: all tiles with objects, and a seeded share of the others.

    The others are sorted by contrast and thinned evenly, so that plain and textured background both remain.
    """
    if not background or config.mode == "resize":
        return list(range(len(rows)))
    objects = [i for i, row in enumerate(rows) if foreground_pixels(row) >= config.min_object_pixels]
    rest = sorted(set(range(len(rows))) - set(objects), key=lambda i: rows[i]["contrast"])
    share = len(rest) * config.background_keep
    shift = np.random.default_rng(seed).random()
    count = round(share) or int(shift < share)  # of images with one tile, the share is kept on average
    if not count:
        return objects
    places = np.minimum(((np.arange(count) + shift) * len(rest) / count).astype(int), len(rest) - 1)
    return sorted([*objects, *(rest[i] for i in places)])
