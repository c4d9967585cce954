"""Noisy labels: images and their tiles beside what members say that never saw them, and that trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.competition.dataset import Competition
from lib.config import Config
from lib.config.clean import Clean
from lib.data.tile_files import read_planes
from lib.imaging.draw import save_picture, truth_beside_prediction
from lib.imaging.geometry import Box
from lib.imaging.reader import open_image
from lib.inference.networks import Ensemble
from lib.inference.sliding_window import Block, predict
from lib.inference.sources import limits_of, source_of, windows_of
from lib.label_cleaning.expected_agreement import Opinion, agreement, calibrated, tally, union
from lib.oof.evaluate import background_fill, to_bins
from lib.pseudo.store import decided, kind, shrunken, stored_size, write_label
from lib.pseudo.tiles import boxes_of
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
        description: str, familiar: Ensemble | None = None,
    ) -> None:  # fmt: skip
        """Predict a fold's `images` (id, path) by members that never saw them, and judge them and their `tiles`.

        `group_of`: id → group. `tiles`: rows of tiles.csv. `familiar`: members that trained on these images; without
        them the former judge alone.
        """
        paths = dict(images)
        own = {image_id: group.set_index(BOX)["tile_id"].to_dict() for image_id, group in tiles.groupby("image_id")}
        own = {image_id: own.get(image_id, {}) for image_id in paths}
        seen = self._opinion(images, group_of, familiar, own, f"{description}, seen") if familiar else None

        def mend(image_id: str, tile_id: str, box: Box, counts: np.ndarray, bins: np.ndarray) -> None:
            """Store what members say of a tile that may be a suspect: what they expect is at most 1."""
            seen_short = seen.agreement(image_id, tile_id)[1] if seen else None
            if self._doubt(1 - agreement(counts, self.more), seen_short) > self.config.clean.list_below:
                (self.folder / "tiles").mkdir(parents=True, exist_ok=True)
                write_label(self._mended(tile_id), shrunken(bins, box, self.config), self.config)

        unseen = self._opinion(images, group_of, forward, own, description, mend)
        for image_id, path in paths.items():
            self.images.append({"image_id": image_id, **self._judged(unseen, seen, image_id)})
            for box, tile_id in own[image_id].items():
                row = self._judged(unseen, seen, image_id, tile_id)
                mended = str(self._mended(tile_id).relative_to(self.folder)) if row["action"] == "relabel" else ""
                place = {"tile_id": tile_id, "image_id": image_id, **dict(zip(BOX, box, strict=True)), "path": path}
                self.tiles.append({**place, **row, "mask_path": mended})

    def _opinion(
        self, images: list[tuple[str, str]], group_of: dict[str, str], forward: Ensemble,
        own: dict[str, dict[Box, str]], description: str, visit: Callable[..., None] = lambda *_: None,
    ) -> Opinion:  # fmt: skip
        """What members make of the labels of `images` (id, path) and their tiles, `own`: image id → box → tile id.

        `visit`: called with the image id, id, box, `tally` and probabilities (K, h, w) uint8 of every tile.
        """
        config, whole, tiles = self.config, {}, {}
        fill = background_fill(self.competition.channels, len(self.competition.label_names))
        sources = [source_of(config, image_id, path) for image_id, path in images]
        blocks = predict(sources, forward, windows_of(config), fill, 1, limits_of(config), description)

        def boxes(block: Block) -> np.ndarray:
            return np.array([*own[block.image_id]], np.int64).reshape(-1, 4)

        for block, box, bins in boxes_of(self._tallied(blocks, whole), boxes, limits_of(config)):
            label, tile_id = self.open_label(block.image_id, block.height, block.width), own[block.image_id][box]
            tiles[tile_id] = tally(label.read(*box), bins[-1], self.first).astype(np.int32)  # of all a fold's tiles
            visit(block.image_id, tile_id, box, tiles[tile_id], bins[-1])
        return Opinion(whole, tiles, calibrated(whole, group_of), self.more)

    def _tallied(self, blocks: Iterator[Block], whole: dict[str, np.ndarray]) -> Iterator[Block]:
        """The blocks as they come, while the `tally` of each image is added up in `whole`."""
        for block in blocks:
            label = self.open_label(block.image_id, block.height, block.width)
            truth = label.read(block.y, block.x, *block.probs.shape[2:])
            counts = tally(truth, to_bins(block.probs[-1]), self.first)
            whole[block.image_id] = whole.get(block.image_id, 0) + counts
            yield block

    def _judged(self, unseen: Opinion, seen: Opinion | None, image_id: str, tile_id: str = "") -> dict:
        """How an image or tile agrees with members, whether that is suspect, and what is to be done."""
        miou, short = unseen.agreement(image_id, tile_id)
        seen_miou, seen_short = seen.agreement(image_id, tile_id) if seen else (None, None)
        pixels = int(union(unseen.tally(image_id, tile_id)).sum() * self.config.preprocess.scale**2)
        doubt, config = self._doubt(short, seen_short), self.config.clean
        suspect = pixels >= config.min_foreground and doubt > config.list_below
        return {
            "miou": miou, "short": short, "seen_miou": seen_miou, "seen_short": seen_short, "doubt": doubt,
            "object_pixels": pixels, "suspect": suspect, "action": verdict(miou, config) if suspect else "keep",
        }  # fmt: skip

    def _doubt(self, short: float, seen_short: float | None) -> float:
        """How far agreement falls short, of those that never saw a label and, if any, of those that trained on it."""
        share = self.config.clean.in_sample_weight
        return round(short if seen_short is None else (1 - share) * short + share * seen_short, 4)

    def _mended(self, tile_id: str) -> Path:
        return self.folder / f"tiles/{tile_id}_{kind(self.config)}.png"

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
                self._mended(row["tile_id"]).unlink(missing_ok=True)
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
        guess = decided(np.stack(read_planes(self._mended(row["tile_id"]), self.competition.channels)))[:rows, :columns]
        guess = cv2.resize(guess, (width, height), interpolation=cv2.INTER_NEAREST)
        return truth_beside_prediction(image, truth, guess, self.competition.settings.background)


def worst_first(row: dict) -> tuple[bool, float]:
    return not row["suspect"], -row["doubt"]


def verdict(miou: float, config: Clean) -> str:
    """What happens to a suspect: `drop`, `relabel` or `weigh`, else `keep`."""
    if miou < config.drop_below:
        return "drop"
    return config.on_bad_label if miou < config.relabel_below else "keep"
