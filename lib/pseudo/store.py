"""Storing predicted tiles as 03 reads them: an image like 01's tiles, and a soft label."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.labels.planes import counted_names, label_of_array
from lib.competition.metadata import zoom_of
from lib.config import Config, for_source
from lib.data.tile_files import write_image
from lib.files import check_disk, free_gib
from lib.imaging.geometry import Box
from lib.imaging.pad import pad
from lib.imaging.reader import ImageReader, open_image
from lib.imaging.readers.enlarge import box_at_size
from lib.imaging.roi import regions
from lib.inference.sources import limits_of, roi_of
from lib.inference.windows import Block
from lib.pseudo.select import ClassQuota, confidence
from lib.pseudo.soft_labels import label_kind, most_likely, resized_probs, tempered, write_label
from lib.pseudo.tiles import assemble_tiles, tile_starts
from lib.tables import foreground_pixels
from lib.workspace import Workspace, file_fingerprint, short_hash

SOFT_BYTES, HARD_BYTES = 0.22, 0.04  # bytes of a label's PNG per pixel and plane: 122 tiles of 64 pixels of the demo


@dataclass
class TileStore:
    """Stores tiles of one source of images in `folder`, with a label for each fold."""

    folder: Path
    folds: list[int]
    config: Config
    label_names: list[str]
    quotas: list[ClassQuota] = field(init=False)

    def __post_init__(self):
        self.quotas = [ClassQuota(self.config.pseudo.class_quota) for _ in self.folds]

    def store(self, image_id: str, reader: ImageReader, box: Box, probs: np.ndarray) -> list[dict]:
        """Rows of tiles.csv for one tile, one row for each fold; files are written if the tile may be kept.

        `probs` (S, K, h, w) uint8, with one set of probabilities for each of the folds.
        """
        labeled = zip(probs, self.folds, self.quotas, strict=True)
        return [self._store_label(image_id, reader, box, *label) for label in labeled]

    def admits(self, row: dict, quota: ClassQuota) -> bool:
        """Whether a tile may be kept, as far as the tiles until now tell."""
        return quota.admit(row) or row["confidence"] >= self.config.pseudo.min_confidence

    def admit_again(self, rows: list[dict]) -> list[dict]:
        """The rows of one image, which was stored apart, as if it had been stored after the images until now."""
        quotas = dict(zip(self.folds, self.quotas, strict=True))
        stored = {
            row["tile_id"]: self.admits(row, quotas[row["fold"]]) for row in sorted(rows, key=itemgetter("arrival"))
        }
        return [row | ({} if stored[row["tile_id"]] else {"stored": False, "content": ""}) for row in rows]

    def _store_label(
        self, image_id: str, reader: ImageReader, box: Box, probs: np.ndarray, fold: int, quota: ClassQuota
    ) -> dict:
        """The row for one fold, whose probabilities are (K, h, w)."""
        config = self.config
        name, suffix = f"{image_id}_y{box[0]}_x{box[1]}", config.preprocess.image_format
        image_path = self.folder / f"{name}.{suffix}"
        mask_path = self.folder / f"{name}_{label_kind(config)}_fold{fold}.png"
        multilabel = config.competition.multilabel
        tile_confidence = round(confidence(probs, config.pseudo, multilabel), 4)
        planes = resized_probs(probs[:-1] if config.pseudo.confidence == "agreement" else probs, box, config)
        counts = label_of_array(most_likely(planes, multilabel)).counts(0, 0, *planes.shape[1:])
        row = {
            "tile_id": f"{name}_fold{fold}",
            **dict(zip(("y", "x", "height", "width"), box, strict=True)),
            "image_path": f"tiles/{image_path.name}",
            "mask_path": f"tiles/{mask_path.name}",
            "contrast": 0.0,  # only 01 thins tiles by contrast
            "fold": fold,
            "confidence": tile_confidence,
            **{f"px_{label}": int(counts[place]) for label, place in counted_names(self.label_names).items()},
        }
        enough, classes = config.preprocess.min_object_pixels, [n for n in self.label_names if n != "background"]
        row["has_object"] = foreground_pixels(row) >= enough
        row["classes"] = [label for label in classes if row[f"px_{label}"] >= enough]
        row["stored"] = self.admits(row, quota)
        if row["stored"]:
            write_label(mask_path, tempered(planes, config.pseudo.temperature, multilabel), config)
            if not image_path.exists():  # folds share the image
                whole, size = config.preprocess.mode == "resize", planes.shape[1:]
                pixels = reader.shrunk(*size, *box) if whole else box_at_size(reader, size, box)
                write_image(image_path, pad(pixels, config.preprocess.tile_size))
        return row | {"content": stored_content(self.folder, row) if row["stored"] else ""}


def store_tiles(blocks: Iterable[Block], paths: dict[str, str], store: TileStore) -> list[dict]:
    """Rows of tiles.csv for all tiles and folds of the predicted `blocks`, with the columns that `select` needs.

    `paths`: image id → file. With `preprocess.mode resize` the blocks must be resized whole images. With
    `pseudo.confidence agreement` their last plane is the spread of the votes.
    """
    config = store.config
    resize_mode = config.preprocess.mode == "resize"
    side = 2**31 if resize_mode else round(config.preprocess.tile_size / config.preprocess.scale)
    rows = []
    predicted = assemble_tiles(blocks, side, limits_of(config), config.pseudo.shift)
    for image_id, tiles in groupby(predicted, key=itemgetter(0)):
        rows_of_image = []
        with open_image(paths[image_id], config.competition.pixels) as reader:
            reader.apart = True
            where = regions(roi_of(config), image_id, reader, config.preprocess.blank_tolerance)
            for _, box, probs in tiles:
                box = (0, 0, reader.height, reader.width) if resize_mode else box
                if not where.keep(*box):
                    continue  # nothing was predicted there
                start = {"image_id": image_id, "blank_share": round(where.blank_share(*box), 4)}
                start["arrival"] = len(rows_of_image)
                rows_of_image += [start | row for row in store.store(image_id, reader, box, probs)]
        rows += sorted(rows_of_image, key=itemgetter("y", "x"))  # a stable sort keeps the order of folds
    return rows


def stored_content(folder: Path, row: dict) -> str:
    """Hash of a tile's files in `folder`."""
    names = (Path(row[key]).name for key in ("image_path", "mask_path"))
    return short_hash([file_fingerprint(folder / name) for name in names])


def check_tiles_fit(images: pd.DataFrame, folds: int, channels: int, config: Config, workspace: Workspace) -> None:
    """Print how much disk space the tiles of `images` (rows of images.csv) need. Raises UserError if it is not free.

    The estimate takes the compression of the demo's probabilities for labels, and of 01's tiles for images.
    """
    tiles = 0.0
    for image in images.itertuples():
        preprocess = for_source(config, image.source).preprocess
        sides = (image.height, image.width) if preprocess.mode == "tiles" else (1, 1)
        original_side = round(preprocess.tile_size / preprocess.scale / zoom_of(config, image.image_id))
        ys, xs = (tile_starts(side, original_side, config.pseudo.shift) for side in sides)
        tiles += len(ys) * len(xs) * (1 - image.blank_share)
    image_bytes = [path.stat().st_size for path in workspace.tiles_dir.iterdir() if not path.stem.endswith("_mask")]
    label_bytes = channels * config.preprocess.tile_size**2 * (HARD_BYTES if config.pseudo.hard else SOFT_BYTES)
    most = min(tiles, folds * config.pseudo.max_tiles or tiles)
    need = most * (sum(image_bytes) / max(1, len(image_bytes)) + folds * label_bytes) / 2**30
    free = free_gib(workspace.root)
    print(f"04: at most about {most:.0f} tiles, {need:.2f} GiB of disk ({free:.2f} GiB free)")
    check_disk("the pseudo-labels need", need, workspace.root, "lower pseudo.max_tiles, use fewer images")


def drop_unused(folder: Path, rows: list[dict]) -> None:
    """Delete the stored files that no row names."""
    used = {Path(row[key]).name for row in rows for key in ("image_path", "mask_path")}
    for path in folder.iterdir():
        if path.name not in used:
            path.unlink()
