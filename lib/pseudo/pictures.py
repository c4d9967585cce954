"""Pictures of pseudo-labels for the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.config.competition import CompetitionSettings
from lib.data.tile_files import read_image, read_planes
from lib.imaging.draw import as_picture, heat, overlay, save_picture
from lib.pseudo.soft_labels import most_likely


def draw_kept(rows: list[dict], folder: Path, pictures: Path, competition: CompetitionSettings, count: int) -> None:
    """Draw the `count` most and the `count` least confident tiles as `pictures`/<tile_id>.jpg.

    Each picture shows the image, the most likely label, and its probability (brighter is higher). Tiles with objects
    are preferred. `rows`: tiles whose files lie in `folder`.
    """
    ordered = sorted([row for row in rows if row["has_object"]] or rows, key=lambda row: row["confidence"])
    for row in [*ordered[:count], *ordered[max(count, len(ordered) - count) :]]:
        image = as_picture(read_image(folder / row["image_path"]), competition.pixels)
        probs = np.stack(read_planes(folder / row["mask_path"], competition.channels))
        labels = most_likely(probs, competition.multilabel)
        gap = np.full((len(image), 8, 3), 255, np.uint8)
        parts = [image, gap, overlay(image, labels, competition.background), gap, heat(probs.max(0))]
        save_picture(pictures / f"{row['tile_id']}.jpg", np.hstack(parts))
