"""Pictures of out-of-fold predictions beside their truth."""

from __future__ import annotations

import cv2
import numpy as np

from lib.imaging.reader import open_image
from lib.inference.evaluate import background_fill
from lib.inference.forward import Ensemble
from lib.inference.members import source_of, windows_of
from lib.inference.predictor import predict
from lib.report.figures import save_picture, truth_beside_prediction

SIDE = 900  # longest side of a picture's image


def show_predictions(parts, folds, images, config, competition, workspace, load, decision, device, precision) -> None:
    """Draw `report.pictures` validation images, spread over the folds: image, truth, prediction."""
    chosen = (
        folds[folds["fold"] >= 0].groupby("fold", sort=True).head(-(-config.report.pictures // folds["fold"].nunique()))
    )
    paths = images.set_index("image_id")["path"]
    for fold, table in chosen.head(config.report.pictures).groupby("fold"):
        nets = [load(part) for part in parts if part.member.fold == fold]
        if not nets:
            continue
        forward = Ensemble(nets, device, tta=config.infer.tta, precision=precision)
        fill = background_fill(competition.channels, len(competition.label_names))
        sources = [source_of(config, i, paths[i]) for i in table["image_id"]]
        rows: list[np.ndarray] = []
        for band in predict(sources, forward, windows_of(config), fill, 1, config.infer.batch_size):
            step = max(1, max(band.height, band.width) // SIDE)
            first = -band.y0 % step  # the rows that a picture at this step shows
            rows.append(decision.apply(band.probs[0][:, first::step, ::step]))
            if band.last:
                guess, rows = np.concatenate(rows), []
                draw(band, guess, step, competition, workspace, paths[band.image_id])


def draw(band, guess: np.ndarray, step: int, competition, workspace, path: str) -> None:
    """Truth beside prediction, at the prediction's (shrunken) size."""
    label = competition.labels.open(band.image_id, band.height, band.width)
    with open_image(path, competition.settings.pixels) as reader:
        small = reader.thumbnail(max(guess.shape))
    image = cv2.resize(small, guess.shape[::-1], interpolation=cv2.INTER_AREA)
    truth = np.concatenate([label.read(y, 0, 1, band.width)[:, ::step] for y in range(0, band.height, step)])
    picture = truth_beside_prediction(image, truth, guess, competition.settings.background)
    save_picture(workspace.report / f"{band.image_id}.jpg", picture)
