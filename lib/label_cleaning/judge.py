"""Judges labels by predictions: those of members that never saw the image, and of members that trained on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.competition.dataset import Competition
from lib.competition.metadata import zoom_of, zoomed
from lib.config import Config
from lib.config.clean import Clean
from lib.data.tile_files import read_planes
from lib.imaging.draw import as_picture, save_picture, truth_beside_prediction
from lib.imaging.geometry import Box
from lib.imaging.reader import open_image
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.sliding_window import predict_windows
from lib.inference.sources import limits_of, source_of, windows_of
from lib.inference.windows import Block
from lib.label_cleaning.expected_agreement import Agreement, calibrated_rates, count_by_level, mean_label_iou, union
from lib.oof.codes import from_planes, to_planes, to_probs_u8
from lib.oof.evaluate import outside_values
from lib.pseudo.soft_labels import label_kind, most_likely, resized_probs, stored_size, write_label
from lib.pseudo.tiles import assemble_boxes
from lib.tables import CLEAN_IMAGES, CLEAN_TILES
from lib.workspace import write_table

TILE_BOX = ["y", "x", "height", "width"]
PART_SIDE = 400  # longer side of each part of a picture, pixels


@dataclass(frozen=True)
class FoldImages:
    """The images of one fold, and their tiles.

    `paths`, `group_of`: image id → file, and group. `tiles`: image id → box → tile id.
    """

    paths: dict[str, str]
    group_of: dict[str, str]
    tiles: dict[str, dict[Box, str]]

    @classmethod
    def of(cls, images: list[tuple[str, str]], group_of: dict[str, str], tiles: pd.DataFrame) -> FoldImages:
        """`images`: (id, path). `tiles`: rows of tiles.csv."""
        boxes = {i: group.set_index(TILE_BOX)["tile_id"].to_dict() for i, group in tiles.groupby("image_id")}
        return cls(dict(images), group_of, {image_id: boxes.get(image_id, {}) for image_id, _ in images})


@dataclass
class LabelJudge:
    """Judges images and their tiles, fold by fold. Corrected labels are written to `folder`/tiles."""

    config: Config
    competition: Competition
    folder: Path
    images: list[dict] = field(default_factory=list)
    tiles: list[dict] = field(default_factory=list)

    def __post_init__(self):
        self.open_label = lru_cache(1)(self.competition.labels.open)
        self.first = self.competition.settings.first_class
        self.extra = self.config.clean.min_foreground / self.config.preprocess.scale**2

    def judge(self, fold: FoldImages, unseen: Ensemble, in_sample: Ensemble | None = None, title: str = "") -> None:
        """Judge the labels of a fold.

        `unseen`: members that never saw these images. `in_sample`: members that trained on them; without them the
        former judge alone. `title`: of the progress bar.
        """
        trained = self._agreement(fold, in_sample, f"{title}, seen") if in_sample else None

        def correct(image_id: str, tile_id: str, box: Box, counts: np.ndarray, probs: np.ndarray) -> None:
            """Store the prediction of a tile that may be a suspect, because the IoU to expect is at most 1."""
            trained_short = trained.iou_and_shortfall(image_id, tile_id)[1] if trained else None
            if self._doubt(1 - mean_label_iou(counts, self.extra), trained_short) > self.config.clean.list_below:
                (self.folder / "tiles").mkdir(parents=True, exist_ok=True)
                of_image = zoomed(self.config, zoom_of(self.config, image_id))
                write_label(self._corrected(tile_id), resized_probs(probs, box, of_image), self.config)

        agreement = self._agreement(fold, unseen, title, correct)
        for image_id, path in fold.paths.items():
            self.images.append({"image_id": image_id, **self._row(agreement, trained, image_id)})
            for box, tile_id in fold.tiles[image_id].items():
                row = self._row(agreement, trained, image_id, tile_id)
                mask_path = self._corrected(tile_id).relative_to(self.folder) if row["action"] == "relabel" else ""
                place = dict(zip(TILE_BOX, box, strict=True))
                start = {"tile_id": tile_id, "image_id": image_id, **place, "path": path}
                self.tiles.append({**start, **row, "mask_path": str(mask_path)})

    def _agreement(
        self, fold: FoldImages, ensemble: Ensemble, title: str, visit: Callable[..., None] = lambda *_: None
    ) -> Agreement:
        """How an ensemble agrees with the labels of a fold.

        `visit`: called with image id, tile id, box, counts and probabilities (K, h, w) uint8 of every tile.
        """
        config, images, tiles = self.config, {}, {}
        outside = outside_values(self.competition.settings)
        sources = [source_of(config, image_id, path) for image_id, path in fold.paths.items()]
        blocks = predict_windows(sources, ScaleGroup(windows_of(config), ensemble), outside, limits_of(config), title)

        def boxes(block: Block) -> np.ndarray:
            return np.array([*fold.tiles[block.image_id]], np.int64).reshape(-1, 4)

        for block, box, probs in assemble_boxes(self._counted(blocks, images), boxes, limits_of(config)):
            label, tile_id = self.open_label(block.image_id, block.height, block.width), fold.tiles[block.image_id][box]
            counts = count_by_level(label.read(*box), probs[-1], self.first)
            tiles[tile_id] = counts.astype(np.int32)  # held for all tiles of the fold
            visit(block.image_id, tile_id, box, tiles[tile_id], probs[-1])
        return Agreement(images, tiles, calibrated_rates(images, fold.group_of), self.extra)

    def _counted(self, blocks: Iterator[Block], images: dict[str, np.ndarray]) -> Iterator[Block]:
        """The same blocks; meanwhile the counts of each image are added up in `images`."""
        for block in blocks:
            label = self.open_label(block.image_id, block.height, block.width)
            truth = label.read(block.y, block.x, *block.probs.shape[2:])
            counts = count_by_level(truth, to_probs_u8(block.probs[-1]), self.first)
            images[block.image_id] = images.get(block.image_id, 0) + counts
            yield block

    def _row(self, unseen: Agreement, in_sample: Agreement | None, image_id: str, tile_id: str = "") -> dict:
        """Columns of the tables: agreement of an image or tile, whether it is a suspect, and what to do with it."""
        miou, short = unseen.iou_and_shortfall(image_id, tile_id)
        seen_miou, seen_short = in_sample.iou_and_shortfall(image_id, tile_id) if in_sample else (None, None)
        pixels = int(union(unseen.counts(image_id, tile_id)).sum() * self.config.preprocess.scale**2)
        doubt, config = self._doubt(short, seen_short), self.config.clean
        suspect = pixels >= config.min_foreground and doubt > config.list_below
        return {
            "miou": miou, "short": short, "seen_miou": seen_miou, "seen_short": seen_short, "doubt": doubt,
            "object_pixels": pixels, "suspect": suspect, "action": action_for(miou, config) if suspect else "keep",
        }  # fmt: skip

    def _doubt(self, short: float, seen_short: float | None) -> float:
        """Mean shortfall of the agreement, weighed by `clean.in_sample_weight` if members judged in sample."""
        share = self.config.clean.in_sample_weight
        return round(short if seen_short is None else (1 - share) * short + share * seen_short, 4)

    def _corrected(self, tile_id: str) -> Path:
        return self.folder / f"tiles/{tile_id}_{label_kind(self.config)}.png"

    def finish(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Write and return the tables (tiles, images), the worst first, and draw the worst tiles.

        Each picture shows the image, the label and the out-of-fold prediction.
        """
        ordered = sorted(self.tiles, key=worst_first)
        suspects = [row for row in ordered if row["suspect"]]
        for number, row in enumerate(suspects[: self.config.clean.pictures]):
            save_picture(self.folder / f"{number + 1:02}_{row['tile_id']}.jpg", self._picture(row))
        for row in self.tiles:
            if not row["mask_path"]:
                self._corrected(row["tile_id"]).unlink(missing_ok=True)
        tiles = pd.DataFrame(ordered, columns=list(CLEAN_TILES))
        images = pd.DataFrame(sorted(self.images, key=worst_first), columns=list(CLEAN_IMAGES))
        write_table(self.folder / "images.csv", images)
        write_table(self.folder / "tiles.csv", tiles)
        return tiles, images

    def _picture(self, row: dict) -> np.ndarray:
        box = tuple(row[name] for name in TILE_BOX)
        step = max(1, max(box[2:]) // PART_SIDE)
        height, width = (-(-side // step) for side in box[2:])
        with open_image(row["path"], self.config.competition.pixels) as reader:
            image = as_picture(reader.shrunk(height, width, *box), self.config.competition.pixels)
            truth = self.open_label(row["image_id"], reader.height, reader.width).read(*box)[..., ::step, ::step]
        rows, columns = stored_size(*box[2:], self.config.preprocess)
        planes = read_planes(self._corrected(row["tile_id"]), self.competition.channels)
        probs = np.stack([plane[:rows, :columns] for plane in planes])
        multilabel = self.competition.settings.multilabel
        resized = [
            cv2.resize(plane, (width, height), interpolation=cv2.INTER_NEAREST)
            for plane in to_planes(most_likely(probs, multilabel))
        ]
        labels = from_planes(np.stack(resized), multilabel)
        return truth_beside_prediction(image, truth, labels, self.competition.settings.background)


def worst_first(row: dict) -> tuple[bool, float]:
    return not row["suspect"], -row["doubt"]


def action_for(miou: float, config: Clean) -> str:
    """What happens to a suspect: `drop`, `relabel`, `weigh` or `keep`."""
    if miou < config.drop_below:
        return "drop"
    return config.on_bad_label if miou < config.relabel_below else "keep"
