"""Pictures of out-of-fold predictions and their truth."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd

from lib.competition.dataset import Competition
from lib.data.preprocess.tile_labels import subsampled_label
from lib.imaging.draw import as_picture
from lib.imaging.reader import open_image
from lib.oof.score_images import Scored
from lib.report.trackers import TrackedImage


def worst_pictures(scored: Scored, images: pd.DataFrame, competition: Competition) -> list[TrackedImage]:
    """The images with the lowest scores, the lowest first, at the size of their maps."""
    rows, pictures = images.set_index("image_id"), []
    for image_id, guess in scored.worst.items():
        row = rows.loc[image_id]
        truth = small_truth(image_id, row, competition)
        image = small_image(row, guess.shape[-2:], competition)
        pictures.append(TrackedImage(image_id, image, truth, guess, scored.images[image_id]))
    return pictures


def small_image(row: pd.Series, size: tuple[int, int], competition: Competition) -> np.ndarray:
    """An image resized to `size` (h, w), as (h, w, 3) uint8."""
    with open_image(row["path"], competition.settings.pixels) as reader:
        small = as_picture(reader.thumbnail(max(size)), competition.settings.pixels)
        return cv2.resize(small, size[::-1], interpolation=cv2.INTER_AREA)


def small_truth(image_id: str, row: pd.Series, competition: Competition) -> np.ndarray:
    """An image's label indices (h, w), or planes (K, h, w), down-sampled as its preview is; `row`: of images.csv."""
    height, width = int(row["height"]), int(row["width"])
    return subsampled_label(competition.labels.open(image_id, height, width), height, width)
