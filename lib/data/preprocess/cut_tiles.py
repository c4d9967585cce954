"""The second pass of stage 1: read the tiles that are kept at full resolution, and store them with their labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.competition.dataset import ImageInfo
from lib.competition.labels.common import Label
from lib.config import Config
from lib.data.preprocess.survey import Survey, cached_competition
from lib.data.preprocess.tile_labels import label_shares, stored_label
from lib.data.preprocess.tiling import Tile
from lib.data.tile_files import write_tile
from lib.errors import UserError
from lib.imaging.pad import pad
from lib.imaging.reader import ImageReader, open_image
from lib.imaging.readers.enlarge import box_at_size
from lib.session import Session
from lib.system.parallel import parallel
from lib.tables import FULL, IGNORE
from lib.workspace import replacing_dir

MIN_BAND_TILES = 32  # tiles of one band, at least
STORED_SHARES = np.array([0, FULL, *range(2, 256)], np.uint8)  # background and one class, as shares of whole pixels


def cut_tiles(session: Session, surveys: list[Survey]) -> tuple[pd.DataFrame, np.ndarray]:
    """Cut and store the tiles of all images, in processes that share out the bands of large images.

    Returns (rows of tiles.csv, sums (2, C + 1) of channels as in `cut_band`). Raises UserError when no tile is kept.
    """
    with replacing_dir(session.workspace.tiles_dir) as folder:
        bands = [(survey.image, band, session.config, folder) for survey in surveys for band in bands_of(survey)]
        if not bands:
            raise UserError("01 keeps no tile: check preprocess.roi and preprocess.min_object_pixels")
        sizes = [len(tiles) for _, tiles, *_ in bands]
        cut_bands = parallel(cut_band, bands, session.config.jobs, "01 cut", "band", work=sizes)
    return pd.DataFrame([row for rows, _ in cut_bands for row in rows]), sum(sums for _, sums in cut_bands)


def bands_of(survey: Survey) -> list[list[Tile]]:
    """An image's tiles in bands of whole rows. Images that are decoded as a whole are one band."""
    if not survey.windowed:
        return [survey.tiles] if survey.tiles else []
    bands: list[list[Tile]] = []
    for tile in survey.tiles:
        full = bands and len(bands[-1]) >= MIN_BAND_TILES and bands[-1][-1].row["y"] != tile.row["y"]
        if not bands or full:
            bands.append([])
        bands[-1].append(tile)
    return bands


def cut_band(image: ImageInfo, tiles: list[Tile], config: Config, folder: Path) -> tuple[list[dict], np.ndarray]:
    """Cut and store some tiles of an image.

    Returns (rows of tiles.csv, (2, C + 1) sums over pixels: of each channel, from 0 to 255, and of its squares,
    followed by the number of pixels and 0).
    """
    competition, preprocess, kind = cached_competition(config), config.preprocess, config.competition.pixels
    rows, sums = [], np.zeros((2, kind.count + 1))
    scale = 255 / np.iinfo(kind.dtype).max
    binary = competition.settings.binary
    n = 2 if binary else len(competition.label_names)
    with open_image(image.path, kind) as reader:
        label = competition.open_label(image, reader.height, reader.width)
        for tile in tiles:
            pixels, mask = cut(tile, reader, label, n, binary, preprocess.tile_size)
            rows.append(write_tile(tile.row, pixels, mask, folder, preprocess.image_format))
            count = pixels.shape[0] * pixels.shape[1]
            mean, std = (values.ravel() * scale for values in cv2.meanStdDev(pixels))
            sums += [[*(count * mean), count], [*(count * (mean**2 + std**2)), 0]]
    return rows, sums


def cut(
    tile: Tile, reader: ImageReader, label: Label, n: int, binary: bool, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (side, side, C) and label (side, side) uint8 of a tile; the label as `stored_label` returns it.

    `n`: number of label indices. Tiles of small images are padded with mirrored pixels, which the label ignores. Of
    classes that overlap, the label has K planes, one below the other: (K * side, side).
    """
    planes = [_stored(plane, tile, n, binary) for plane in label.planes]
    pixels = reader.shrunk(*tile.size, *tile.box) if tile.whole else box_at_size(reader, tile.size, tile.box)
    return pad(pixels, side), np.concatenate([pad(plane, side, value=IGNORE) for plane in planes])


def _stored(label: Label, tile: Tile, n: int, binary: bool) -> np.ndarray:
    """A label of `n` indices as a tile stores it, before padding."""
    if tile.size == tile.box[2:] and not label.opinions:  # not shrunk: every pixel has one label index
        mask = label.read(*tile.box)
        return cv2.LUT(mask, STORED_SHARES) if binary else mask
    return stored_label(label_shares(label, tile.box, tile.size, n), binary)
