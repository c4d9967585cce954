"""Pictures of out-of-fold predictions beside their truth."""

from __future__ import annotations

import cv2
import numpy as np

from lib.imaging.reader import open_image
from lib.inference.evaluate import background_fill
from lib.inference.forward import Ensemble
from lib.inference.members import limits_of, source_of, windows_of
from lib.inference.predictor import full_rows, predict
from lib.report.figures import save_picture, truth_beside_prediction

SIDE = 900  # longest side of a picture's image


def show_predictions(parts, folds, images, config, competition, workspace, load, decision, device, engine) -> None:
    """Draw `report.pictures` validation images, spread over the folds: image, truth, prediction."""
    chosen = (
        folds[folds["fold"] >= 0].groupby("fold", sort=True).head(-(-config.report.pictures // folds["fold"].nunique()))
    )
    paths = images.set_index("image_id")["path"]
    for fold, table in chosen.head(config.report.pictures).groupby("fold"):
        nets = [load(part) for part in parts if part.member.fold == fold]
        if not nets:
            continue
        forward = Ensemble(nets, device, tta=config.infer.tta, engine=engine)
        fill = background_fill(competition.channels, len(competition.label_names))
        sources = [source_of(config, i, paths[i]) for i in table["image_id"]]
        blocks = predict(sources, forward, windows_of(config), fill, 1, limits_of(config))
        rows: list[np.ndarray] = []
        for block, y, labels in full_rows(blocks, lambda probs: decision.apply(probs[0])):
            step = max(1, max(block.height, block.width) // SIDE)
            rows.append(labels[-y % step :: step, ::step])  # what a picture at this step shows
            if block.last:
                guess, rows = np.concatenate(rows), []
                draw(block, guess, step, competition, workspace, paths[block.image_id])


def draw(block, guess: np.ndarray, step: int, competition, workspace, path: str) -> None:
    """Truth beside prediction, at the prediction's (shrunken) size."""
    label = competition.labels.open(block.image_id, block.height, block.width)
    with open_image(path, competition.settings.pixels) as reader:
        small = reader.thumbnail(max(guess.shape))
    image = cv2.resize(small, guess.shape[::-1], interpolation=cv2.INTER_AREA)
    band = step * max(1, 512 // step)  # a row at a time would look through all runs for each
    truth = np.concatenate(
        [
            label.read(y, 0, min(band, block.height - y), block.width)[::step, ::step]
            for y in range(0, block.height, band)
        ]
    )
    picture = truth_beside_prediction(image, truth, guess, competition.settings.background)
    save_picture(workspace.report / f"{block.image_id}.jpg", picture)
