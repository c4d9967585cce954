"""Noisy labels: training images and their tiles beside what members say that never saw them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.competition.dataset import Competition
from lib.config import Config
from lib.config.clean import Clean
from lib.data.dataset import read_planes
from lib.imaging.reader import open_image
from lib.inference.evaluate import background_fill, to_bins
from lib.inference.forward import Ensemble
from lib.inference.members import limits_of, source_of, windows_of
from lib.inference.predictor import Block, predict
from lib.pseudo.cut import boxes_of
from lib.pseudo.expect import agreement, calibrated, expectation, tally, union
from lib.pseudo.write import decided, kind, shrunken, stored_size, write_label
from lib.report.figures import save_picture, truth_beside_prediction
from lib.tables import CLEAN_IMAGES, CLEAN_TILES
from lib.workspace import write_table

BOX = ["y", "x", "height", "width"]
PICTURE = 400  # pixels of the longer side of each of a picture's parts


@dataclass
class Cleaner:
    """Judges images and their tiles, fold by fold, as their out-of-fold maps arrive."""

    config: Config
    competition: Competition
    folder: Path
    """Mended labels go to `folder`/tiles."""
    images: list[dict] = field(default_factory=list)
    tiles: list[dict] = field(default_factory=list)

    def __post_init__(self):
        self.open_label = lru_cache(1)(self.competition.labels.open)
        self.first = 1 if self.competition.settings.background else 0
        self.more = self.config.clean.min_foreground / self.config.preprocess.scale**2

    def judge(
        self, images: list[tuple[str, str]], group_of: dict[str, str], forward: Ensemble, tiles: pd.DataFrame,
        description: str,
    ) -> None:  # fmt: skip
        """Predict a fold's `images` (id, path) by members that never saw them, and judge them and their `tiles`.

        `group_of`: id → group. `tiles`: rows of tiles.csv.
        """
        config, paths = self.config, dict(images)
        fill = background_fill(self.competition.channels, len(self.competition.label_names))
        sources = [source_of(config, image_id, path) for image_id, path in images]
        blocks = predict(sources, forward, windows_of(config), fill, 1, limits_of(config), description)
        own = {image_id: group.set_index(BOX)["tile_id"].to_dict() for image_id, group in tiles.groupby("image_id")}
        whole, rows = {}, []

        def boxes(block: Block) -> np.ndarray:
            return np.array([*own.get(block.image_id, ())], np.int64).reshape(-1, 4)

        for block, box, bins in boxes_of(self._tallied(blocks, whole), boxes, limits_of(config)):
            label = self.open_label(block.image_id, block.height, block.width)
            row = {"tile_id": own[block.image_id][box], "image_id": block.image_id, **dict(zip(BOX, box, strict=True))}
            rows.append(self._row(row, tally(label.read(*box), bins[-1], self.first)))
            if 1 - agreement(rows[-1]["counts"], self.more) > config.clean.list_below:  # it may be a suspect
                (self.folder / "tiles").mkdir(parents=True, exist_ok=True)
                write_label(self._mended(row), shrunken(bins[-1], box, config), config)
        rates = calibrated(whole, group_of)
        self.images += [self._judged(self._row({"image_id": i}, n), rates[i]) for i, n in whole.items()]
        for row in rows:
            row = self._judged(row, rates[row["image_id"]])
            mended = str(self._mended(row).relative_to(self.folder)) if row["action"] == "relabel" else ""
            self.tiles.append({**row, "mask_path": mended, "path": paths[row["image_id"]]})

    def _tallied(self, blocks: Iterator[Block], whole: dict[str, np.ndarray]) -> Iterator[Block]:
        """The blocks as they come, while the `tally` of each image is added up in `whole`."""
        for block in blocks:
            label = self.open_label(block.image_id, block.height, block.width)
            truth = label.read(block.y, block.x, *block.probs.shape[2:])
            counts = tally(truth, to_bins(block.probs[-1]), self.first)
            whole[block.image_id] = whole.get(block.image_id, 0) + counts
            yield block

    def _row(self, row: dict, counts: np.ndarray) -> dict:
        pixels = int(union(counts).sum() * self.config.preprocess.scale**2)
        return {**row, "counts": counts, "miou": agreement(counts), "object_pixels": pixels}

    def _judged(self, row: dict, rates: np.ndarray) -> dict:
        """A row with how far agreement is short of what members expect, if that is suspect, and what is to be done."""
        config, counts = self.config.clean, row["counts"]
        short = round(expectation(counts, rates, self.more) - agreement(counts, self.more), 4)
        suspect = row["object_pixels"] >= config.min_foreground and short > config.list_below
        action = verdict(row["miou"], config) if suspect else "keep"
        return {**row, "counts": None, "short": short, "suspect": suspect, "action": action}

    def _mended(self, row: dict) -> Path:
        return self.folder / f"tiles/{row['tile_id']}_{kind(self.config)}.png"

    def finish(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Write and return the tables of all judged tiles and images, the worst first, and draw the worst tiles.

        A picture: image | label | out-of-fold prediction, numbered from the worst.
        """
        ordered = sorted(self.tiles, key=worst_first)
        suspects = [row for row in ordered if row["suspect"]]
        for number, row in enumerate(suspects[: self.config.clean.pictures]):
            save_picture(self.folder / f"{number + 1:02}_{row['tile_id']}.jpg", self._picture(row))
        for row in self.tiles:
            if not row["mask_path"]:
                self._mended(row).unlink(missing_ok=True)
        tiles = pd.DataFrame(ordered, columns=list(CLEAN_TILES))
        images = pd.DataFrame(sorted(self.images, key=worst_first), columns=list(CLEAN_IMAGES))
        write_table(self.folder / "images.csv", images)
        write_table(self.folder / "tiles.csv", tiles)
        return tiles, images

    def _picture(self, row: dict) -> np.ndarray:
        box = tuple(row[name] for name in BOX)
        step = max(1, max(box[2:]) // PICTURE)
        height, width = (-(-side // step) for side in box[2:])
        with open_image(row["path"], self.config.competition.pixels) as reader:
            image = reader.shrunk(height, width, *box)
            truth = self.open_label(row["image_id"], reader.height, reader.width).read(*box)[::step, ::step]
        rows, columns = stored_size(*box[2:], self.config.preprocess)
        guess = decided(np.stack(read_planes(self._mended(row), self.competition.channels)))[:rows, :columns]
        guess = cv2.resize(guess, (width, height), interpolation=cv2.INTER_NEAREST)
        return truth_beside_prediction(image, truth, guess, self.competition.settings.background)


def worst_first(row: dict) -> tuple[bool, float]:
    return not row["suspect"], -row["short"]


def verdict(miou: float, config: Clean) -> str:
    """What happens to a suspect: `drop`, `relabel` or `weigh`, else `keep`."""
    if miou < config.drop_below:
        return "drop"
    return config.bad if miou < config.relabel_below else "keep"
