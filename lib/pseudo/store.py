"""Storing predicted tiles as 03 reads them: the image like 01's tiles, the label as soft planes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.config import Config, for_source
from lib.config.preprocess import Preprocess
from lib.data.tile_files import write_image
from lib.files import check_disk, free_gib
from lib.imaging.grid import whole_size
from lib.imaging.pad import pad
from lib.imaging.reader import ImageReader, open_image
from lib.imaging.roi import regions
from lib.imaging.save import save_image
from lib.inference.sliding_window import Block
from lib.inference.sources import limits_of, roi_of
from lib.pseudo.select import Quotas, confidence
from lib.pseudo.tiles import tile_starts, tiles_of
from lib.tables import class_columns, foreground_pixels
from lib.workspace import Workspace, file_fingerprint, short_hash

SOFT_SHARE, HARD_SHARE = 0.22, 0.04  # of a label's bytes that its PNG takes: 122 tiles of 64 pixels of the demo


def store_tiles(
    blocks: Iterable[Block],
    paths: dict[str, str],
    folds: list[int],
    folder: Path,
    config: Config,
    label_names: list[str],
) -> list[dict]:
    """A row of tiles.csv for every tile and system of the blocks; those that may be kept are stored in `folder`.

    `paths`: image id → file. `folds`: for which fold each system's labels are. Rows also hold what `select` looks at.
    Where images are shrunk whole (`preprocess.mode resize`), so must the blocks be; with `pseudo.confidence agreement`
    they have the spread of `Votes` as their last plane.
    """
    whole = config.preprocess.mode == "resize"
    tile = 2**31 if whole else round(config.preprocess.tile_size / config.preprocess.scale)
    rows, quotas = [], [Quotas(config.pseudo.class_quota) for _ in folds]
    every = tiles_of(blocks, tile, limits_of(config), config.pseudo.shift)
    for image_id, tiles in groupby(every, key=itemgetter(0)):
        own = []
        with open_image(paths[image_id], config.competition.pixels) as reader:
            reader.apart = True
            where = regions(roi_of(config), image_id, reader, config.preprocess.blank_tolerance)
            for _, box, bins in tiles:
                box = (0, 0, reader.height, reader.width) if whole else box
                if not where.keep(*box):
                    continue  # nothing was predicted there
                start = {"image_id": image_id, "blank_share": round(where.blank_share(*box), 4)}
                own += [
                    start | _store(image_id, reader, box, own_bins, fold, quota, folder, config, label_names)
                    for own_bins, fold, quota in zip(bins, folds, quotas, strict=True)
                ]
        rows += sorted(own, key=itemgetter("y", "x"))  # stable: folds stay in order
    return rows


def _store(
    image_id: str,
    reader: ImageReader,
    box: tuple[int, int, int, int],
    bins: np.ndarray,
    fold: int,
    quota: Quotas,
    folder: Path,
    config: Config,
    label_names: list[str],
) -> dict:
    """The row of one tile's label (K, h, w) for one fold; files are written when it may be kept."""
    name, suffix = f"{image_id}_y{box[0]}_x{box[1]}", config.preprocess.image_format
    image_path, mask_path = folder / f"{name}.{suffix}", folder / f"{name}_{kind(config)}_fold{fold}.png"
    sure = round(confidence(bins, config.pseudo), 4)
    planes = shrunken(bins[:-1] if config.pseudo.confidence == "agreement" else bins, box, config)
    counts = np.bincount(decided(planes).ravel(), minlength=len(label_names))
    row = {
        "tile_id": f"{name}_fold{fold}",
        **dict(zip(("y", "x", "height", "width"), box, strict=True)),
        "image_path": f"tiles/{image_path.name}",
        "mask_path": f"tiles/{mask_path.name}",
        "contrast": 0.0,  # only 01 thins tiles by it
        "fold": fold,
        "confidence": sure,
        **dict.fromkeys(class_columns(label_names), 0),
        **{f"px_{label}": int(n) for label, n in zip(label_names, counts, strict=True)},
    }
    enough = config.preprocess.min_object_pixels
    row |= {
        "has_object": foreground_pixels(row) >= enough,
        "classes": [label for label in label_names if label != "background" and row[f"px_{label}"] >= enough],
    }
    stored = quota.admit(row) or sure >= config.pseudo.min_confidence
    if stored:
        write_label(mask_path, tempered(planes, config.pseudo.temperature), config)
        if not image_path.exists():  # the folds share it
            write_image(image_path, pad(reader.shrunk(*planes.shape[1:], *box), config.preprocess.tile_size))
    return row | {"stored": stored, "content": stored_content(folder, row) if stored else ""}


def stored_content(folder: Path, row: dict) -> str:
    """Hash of a tile's files, which lie in `folder`."""
    names = (Path(row[key]).name for key in ("image_path", "mask_path"))
    return short_hash([file_fingerprint(folder / name) for name in names])


def kind(config: Config) -> str:
    """What labels are; in the names of their files, so that 03 notices a change in the table."""
    return "hard" if config.pseudo.hard else "soft"


def shrunken(bins: np.ndarray, box: tuple[int, int, int, int], config: Config) -> np.ndarray:
    """Probabilities (K, h, w) uint8 of a box of original pixels, at the size of 01's tiles before padding."""
    height, width = stored_size(*box[2:], config.preprocess)
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in bins])


def stored_size(height: int, width: int, config: Preprocess) -> tuple[int, int]:
    """Size (h, w), before padding, at which a box of original pixels is stored: that of 01's tiles."""
    if config.mode == "resize":
        return whole_size(height, width, config.tile_size, config.fit)
    return tuple(min(config.tile_size, max(1, round(side * config.scale))) for side in (height, width))


def tempered(planes: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (K, h, w) uint8 to the power 1 / `temperature`, made to sum to one again.

    >>> tempered(np.array([[[0, 51, 128, 255]]], np.uint8), 0.5).tolist()
    [[[0, 15, 128, 255]]]
    """
    if temperature == 1:
        return planes
    p = planes.astype(np.float32) / 255
    p = np.concatenate([p, 1 - p]) if len(p) == 1 else p
    p **= 1 / temperature
    p /= np.maximum(p.sum(0), 1e-9)
    return np.rint(255 * p[: len(planes)]).astype(np.uint8)


def decided(planes: np.ndarray) -> np.ndarray:
    """Label indices (h, w) of probabilities (K, h, w) uint8: above one half, or the largest."""
    return (planes[0] > 127).astype(np.uint8) if len(planes) == 1 else planes.argmax(0).astype(np.uint8)


def write_label(path: Path, planes: np.ndarray, config: Config) -> None:
    """Store `shrunken` probabilities as 03 reads a soft label, padded to a tile."""
    write_planes(path, np.stack([pad(plane, config.preprocess.tile_size) for plane in planes]), config.pseudo.hard)


def write_planes(path: Path, planes: np.ndarray, hard: bool) -> None:
    """Store (K, h, w) uint8 as one grey image (K*h, w), plane under plane; `hard` rounds to 0 and 255."""
    if hard:
        labels = decided(planes)
        indices = [1] if len(planes) == 1 else range(len(planes))
        planes = np.stack([np.uint8(255) * (labels == i) for i in indices])
    save_image(path, planes.reshape(-1, planes.shape[2]), [cv2.IMWRITE_PNG_COMPRESSION, 3])


def check_tiles_fit(images: pd.DataFrame, folds: int, channels: int, config: Config, workspace: Workspace) -> None:
    """Print about what disk all tiles of `images` (rows of images.csv) take. Raises UserError where that is too much.

    Labels are taken to compress as the demo's probabilities do, pictures as 01's tiles.
    """
    tiles = 0.0
    for image in images.itertuples():
        own = for_source(config, image.source).preprocess
        sides = (image.height, image.width) if own.mode == "tiles" else (1, 1)
        ys, xs = (tile_starts(side, round(own.tile_size / own.scale), config.pseudo.shift) for side in sides)
        tiles += len(ys) * len(xs) * (1 - image.blank_share)
    stored = [path.stat().st_size for path in workspace.tiles_dir.iterdir() if not path.stem.endswith("_mask")]
    label = channels * config.preprocess.tile_size**2 * (HARD_SHARE if config.pseudo.hard else SOFT_SHARE)
    most = min(tiles, folds * config.pseudo.max_tiles or tiles)  # that are kept
    need = most * (sum(stored) / max(1, len(stored)) + folds * label) / 2**30
    free = free_gib(workspace.root)
    print(f"04: at most about {most:.0f} tiles, {need:.2f} GiB of disk ({free:.2f} GiB free)")
    check_disk("the pseudo-labels need", need, workspace.root, "lower pseudo.max_tiles, use fewer images")


def drop_unused(folder: Path, rows: list[dict]) -> None:
    """Delete the stored files that no row names."""
    used = {Path(row[key]).name for row in rows for key in ("image_path", "mask_path")}
    for path in folder.iterdir():
        if path.name not in used:
            path.unlink()
