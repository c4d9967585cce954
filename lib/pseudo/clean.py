"""Noisy labels: every training tile beside what members say that never saw its image."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.dataset import Competition
from lib.competition.metrics import per_class_iou
from lib.config import Config
from lib.imaging.reader import open_image
from lib.inference.evaluate import background_fill, count
from lib.inference.forward import Ensemble
from lib.inference.members import limits_of, source_of, windows_of
from lib.inference.predictor import predict
from lib.pseudo.cut import boxes_of
from lib.pseudo.write import decided, kind, shrunken, write_label
from lib.report.figures import save_picture, truth_beside_prediction
from lib.tables import CLEAN_TILES, IGNORE
from lib.workspace import write_table

Box = tuple[int, int, int, int]


@dataclass
class Cleaner:
    """Judges the tiles of images as their out-of-fold maps arrive; the worst ones' pictures are kept."""

    config: Config
    competition: Competition
    folder: Path
    """Mended labels go to `folder`/tiles."""
    rows: list[dict] = field(default_factory=list)
    _worst: list[tuple[tuple[float, int], str, np.ndarray]] = field(default_factory=list)

    def judge(self, images: list[tuple[str, str]], forward: Ensemble, tiles: pd.DataFrame, description: str) -> None:
        """Predict `images` (id, path) by members that never saw them, and judge their `tiles` (rows of tiles.csv)."""
        config, paths = self.config, dict(images)
        fill = background_fill(self.competition.channels, len(self.competition.label_names))
        sources = [source_of(config, image_id, path) for image_id, path in images]
        blocks = predict(sources, forward, windows_of(config), fill, 1, limits_of(config), description)
        own = dict(list(tiles[tiles["image_id"].isin(paths)].groupby("image_id")))
        columns = ["y", "x", "height", "width"]
        boxes = {image_id: group[columns].to_numpy(np.int64) for image_id, group in own.items()}
        names = {
            (image_id, *box): tile_id
            for image_id, group in own.items()
            for tile_id, *box in group[["tile_id", *columns]].itertuples(index=False)
        }
        none, label, opened = np.zeros((0, 4), np.int64), None, None
        for block, box, bins in boxes_of(blocks, lambda block: boxes.get(block.image_id, none), limits_of(self.config)):
            if opened != block.image_id:
                opened = block.image_id
                label = self.competition.labels.open(opened, block.height, block.width)
            tile_id = names[(opened, *box)]
            row = self._row(tile_id, opened, box, label.read(*box), bins[-1])
            self.rows.append(row)
            if row["suspect"]:
                self._keep_picture(row, label.read(*box), bins[-1], paths[opened])

    def _row(self, tile_id: str, image_id: str, box: Box, truth: np.ndarray, bins: np.ndarray) -> dict:
        config, names = self.config.clean, self.competition.label_names
        guess = decided(bins)
        confusion = count(truth, guess, (len(names), len(names)))
        first = 1 if self.competition.settings.background else 0
        wrong = surely_wrong(truth, guess, bins, self.config.pseudo.sure, first)
        objects = (confusion.sum() - confusion[:first, :first].sum()) * self.config.preprocess.scale**2
        row = {
            "tile_id": tile_id, "image_id": image_id, **dict(zip(("y", "x", "height", "width"), box, strict=True)),
            "miou": agreement(confusion, first), "surely_wrong": round(wrong, 4), "object_pixels": int(objects),
        }  # fmt: skip
        judged = objects >= config.min_foreground
        suspect = judged and (row["miou"] < config.list_below or wrong > config.surely_wrong)
        action, mask_path = (verdict(row["miou"], config) if suspect else "keep"), ""
        if action == "relabel":
            mask_path = f"tiles/{tile_id}_{kind(self.config)}.png"
            (self.folder / "tiles").mkdir(parents=True, exist_ok=True)
            write_label(self.folder / mask_path, shrunken(bins, box, self.config), self.config)
        return {**row, "suspect": suspect, "action": action, "mask_path": mask_path}

    def _keep_picture(self, row: dict, truth: np.ndarray, bins: np.ndarray, path: str) -> None:
        worst = (-row["miou"], -len(self.rows))  # of equals the first
        if len(self._worst) >= self.config.clean.pictures and (not self._worst or worst <= self._worst[0][0]):
            return
        step = max(1, max(truth.shape) // 400)
        with open_image(path, self.config.competition.pixels) as reader:
            height, width = (-(-side // step) for side in truth.shape)
            image = reader.shrunk(height, width, row["y"], row["x"], *truth.shape)
        background = self.competition.settings.background
        picture = truth_beside_prediction(image, truth[::step, ::step], decided(bins)[::step, ::step], background)
        push = heapq.heappush if len(self._worst) < self.config.clean.pictures else heapq.heapreplace
        push(self._worst, (worst, row["tile_id"], picture))

    def finish(self) -> pd.DataFrame:
        """Write and return the table of all judged tiles, the worst first, and pictures of the worst suspects.

        A picture: image | label | out-of-fold prediction, numbered from the worst.
        """
        table = pd.DataFrame(self.rows, columns=list(CLEAN_TILES))
        table = table.sort_values(["suspect", "miou"], ascending=[False, True], ignore_index=True, kind="stable")
        write_table(self.folder / "tiles.csv", table)
        for number, (_, tile_id, picture) in enumerate(sorted(self._worst, key=lambda kept: kept[0], reverse=True)):
            save_picture(self.folder / f"{number + 1:02}_{tile_id}.jpg", picture)
        return table


def agreement(confusion: np.ndarray, first: int) -> float:
    """Mean IoU over the classes from index `first` on that label or prediction have; 1 where they have none.

    >>> agreement(np.array([[5, 1], [2, 1]]), 1)
    0.25
    """
    values = per_class_iou(confusion)[first:]
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 4) if len(known) else 1.0


def surely_wrong(truth: np.ndarray, guess: np.ndarray, bins: np.ndarray, sure: float, first: int) -> float:
    """Share of the objects' pixels that `bins` (K, h, w) uint8 decide otherwise than `truth`, with more than `sure`.

    Those are the known pixels (h, w) that label or members give a class from index `first` on: of the whole tile, one
    object that is missing among ten, or one too many, would be next to nothing.
    """
    certain = np.maximum(bins[0], 255 - bins[0]) if len(bins) == 1 else bins.max(0)
    objects = (truth != IGNORE) & ((truth >= first) | (guess >= first))
    return float((objects & (guess != truth) & (certain > 255 * sure)).sum() / max(1, objects.sum()))


def verdict(miou: float, config) -> str:
    """What happens to a suspect: `drop`, `relabel` or `weigh`, else `keep`."""
    if miou < config.drop_below:
        return "drop"
    return config.bad if miou < config.relabel_below else "keep"
