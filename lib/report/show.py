"""Pictures of out-of-fold predictions beside their truth."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd

from lib.competition.dataset import Competition
from lib.imaging.reader import open_image
from lib.inference.decision import Decision
from lib.inference.evaluate import Evaluation, map_step
from lib.inference.score import Scored
from lib.report.figures import save_picture, truth_beside_prediction
from lib.report.trackers import Picture
from lib.workspace import Workspace

BAND = 512  # rows of a label looked at together: a row at a time would look through all runs for each


def show_predictions(
    oof: Evaluation, fold_of: np.ndarray, decision: Decision, count: int, images: pd.DataFrame,
    competition: Competition, workspace: Workspace,
) -> None:  # fmt: skip
    """Draw `count` validation images, spread over the folds: image, truth, prediction."""
    rows = images.set_index("image_id")
    table = pd.DataFrame({"image_id": oof.image_ids, "fold": fold_of})
    table["turn"] = table.groupby("fold").cumcount()
    for image_id in table.sort_values(["turn", "fold"], kind="stable")["image_id"][:count]:
        if image_id in oof.maps:
            row = rows.loc[image_id]
            draw(image_id, row, decision.labels(oof.maps[image_id]), competition, workspace)


def worst_pictures(scored: Scored, count: int, images: pd.DataFrame, competition: Competition) -> list[Picture]:
    """Of the images with a map, the `count` that score worst, the worst first, at their map's size."""
    rows, pictures = images.set_index("image_id"), []
    for image_id in sorted(scored.maps, key=scored.images.get)[:count]:
        row, guess = rows.loc[image_id], scored.maps[image_id]
        truth = small_truth(image_id, row, competition)
        image = small_image(row, guess.shape, competition)
        pictures.append(Picture(image_id, image, truth, guess, scored.images[image_id]))
    return pictures


def draw(image_id: str, row: pd.Series, guess: np.ndarray, competition: Competition, workspace: Workspace) -> None:
    """Truth beside prediction, at the prediction's (shrunken) size."""
    image = small_image(row, guess.shape, competition)
    truth = small_truth(image_id, row, competition)
    save_picture(
        workspace.report / f"{image_id}.jpg",
        truth_beside_prediction(image, truth, guess, competition.settings.background),
    )


def small_image(row: pd.Series, size: tuple[int, int], competition: Competition) -> np.ndarray:
    """An image at `size` (h, w), (h, w, 3) uint8."""
    with open_image(row["path"], competition.settings.pixels) as reader:
        return cv2.resize(reader.thumbnail(max(size)), size[::-1], interpolation=cv2.INTER_AREA)


def small_truth(image_id: str, row: pd.Series, competition: Competition) -> np.ndarray:
    """An image's label indices, every so many pixels as in `Evaluation.maps`; `row`: of images.csv."""
    height, width = int(row["height"]), int(row["width"])
    step = map_step(height, width)
    label = competition.labels.open(image_id, height, width)
    band = step * max(1, BAND // step)
    # Copies: a view would keep its whole band alive.
    bands = (label.read(y, 0, min(band, height - y), width)[::step, ::step].copy() for y in range(0, height, band))
    return np.concatenate(list(bands))
