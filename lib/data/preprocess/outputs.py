"""What stage 1 writes: images.csv, tiles.csv, fingerprint.json, and a histogram of object sizes for the report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.preprocess.survey import Survey, class_pixels, share_on_blank
from lib.digests import content_of
from lib.files import short_hash, write_json, write_table
from lib.imaging.reader import files_of
from lib.session import Session
from lib.stage import Stage
from lib.tables import foreground_pixels

HISTOGRAM_BINS = 24


def write_outputs(
    session: Session, stage: Stage, surveys: list[Survey], tiles: pd.DataFrame, color_sums: np.ndarray
) -> tuple[pd.DataFrame, dict]:
    """Write all tables; returns (rows of images.csv, fingerprint).

    `tiles`, `color_sums`: as `cut_tiles` returns them. `stage` knows the hashes of the image files.
    """
    workspace, names = session.workspace, session.competition.label_names
    fingerprint = fingerprint_of(surveys, tiles, color_sums, names)
    digests = stage.now["content images"]
    for survey in surveys:
        files = files_of(survey.facts.file, session.config.competition.pixels)
        survey.row["content"] = short_hash(
            [survey.row["content"], [content_of(digests[stage.places.named(path)]) for path in files]]
        )
    images = pd.DataFrame([survey.row for survey in surveys])
    write_table(workspace.images, images)
    write_table(workspace.tiles, tiles)
    write_json(workspace.fingerprint, fingerprint)
    write_object_sizes(workspace.report / "objects.json", (survey.object_areas for survey in surveys), names)
    _remove_old_copies(workspace.root / "spool", {survey.row["path"] for survey in surveys})
    return images, fingerprint


def fingerprint_of(surveys: list[Survey], tiles: pd.DataFrame, color_sums: np.ndarray, label_names: list[str]) -> dict:
    """The fingerprint of the data: image sizes, mean and deviation of channels (0 to 255), pixels by class."""
    images = pd.DataFrame([survey.row for survey in surveys])
    (*total, n), (*squares, _) = color_sums
    mean = np.array(total) / max(1, n)
    pixels = class_pixels(surveys, label_names)
    return {
        "images": {split: int((images["split"] == split).sum()) for split in ("train", "test", "unlabeled")},
        "height": [int(images["height"].min()), int(images["height"].max())],
        "width": [int(images["width"].min()), int(images["width"].max())],
        "mean": mean.round(3).tolist(),
        "std": np.sqrt(np.maximum(0, np.array(squares) / max(1, n) - mean**2)).round(3).tolist(),
        "tiles": len(tiles),
        "tiles_with_object": int(sum(foreground_pixels(row) > 0 for row in tiles.to_dict("records"))),
        "pixels": pixels,
        "objects_on_blank": round(share_on_blank(surveys), 4),
        "share": {name: round(count / max(1, sum(pixels.values())), 6) for name, count in pixels.items()},
    }


def write_object_sizes(path: Path, images: Iterable[dict[int, list[int]]], names: list[str]) -> None:
    """Write a histogram of the `object_areas` of all images, by class name."""
    areas: dict[str, list[int]] = {}
    for areas_of_image in images:
        for index, values in areas_of_image.items():
            areas.setdefault(names[index], []).extend(values)
    every = [area for values in areas.values() for area in values]
    edges = np.geomspace(min(every), max(every) + 1, HISTOGRAM_BINS + 1) if every else np.zeros(0)
    counts = {name: np.histogram(values, edges)[0].tolist() for name, values in areas.items()}
    write_json(path, {"edges": edges.tolist(), "counts": counts})


def _remove_old_copies(folder: Path, used: set[str]) -> None:
    """Delete tiled copies of images that have changed or are gone."""
    for path in folder.glob("*"):
        if str(path) not in used:
            path.unlink()
