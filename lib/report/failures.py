"""Where an ensemble fails: scores by class and by the size of the objects."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd

from lib.competition.dataset import Competition
from lib.competition.labels.planes import class_masks
from lib.competition.metrics import counts_of, parts
from lib.decision.decision import Decision
from lib.imaging.grid import map_step
from lib.oof.codes import from_planes
from lib.oof.evaluation import Evaluation
from lib.report.show import small_truth

FOUND_SHARE = 0.5  # an object is found if this share of its pixels is
SMALLEST_OBJECT = 4  # in pixels of a down-sampled map; smaller ones are not counted


def class_rows(tables: np.ndarray, names: list[str], overlap: bool) -> list[dict]:
    """Out-of-fold scores of each class, from tables over all images (`Evaluation.tables`)."""
    counts = counts_of(tables)[:, 1] if overlap else counts_of(tables[0])
    rows, totals = [], np.broadcast_to(tables.sum((1, 2)), len(names))
    for i, name in enumerate(names):
        both, truth, guess = (int(part) for part in parts(counts, i))
        rows.append(
            {
                "class": name, "share of pixels": truth / max(1, totals[i]),
                "IoU": _ratio(both, truth + guess - both), "Dice": _ratio(2 * both, truth + guess),
                "recall": _ratio(both, truth), "precision": _ratio(both, guess),
            }
        )  # fmt: skip
    return rows


def size_rows(objects: pd.DataFrame) -> list[dict]:
    """How many objects are found, and how much of them, by thirds of their size; columns `pixels` and `hit`."""
    if len(objects) < 3:
        return []
    ordered = objects.sort_values("pixels")
    thirds = [ordered.iloc[places] for places in np.array_split(np.arange(len(ordered)), 3)]
    return [
        {
            "objects": name, "count": len(part), "pixels, median": int(part["pixels"].median()),
            "found": float((part["hit"] >= FOUND_SHARE).mean()), "recall": float(part["hit"].mean()),
        }
        for name, part in zip(("small", "middle", "large"), thirds, strict=True)
    ]  # fmt: skip


def object_recall(truth: np.ndarray, guess: np.ndarray, pixels_each: int, first: int) -> pd.DataFrame:
    """The connected components of each class of `truth`: `pixels` of the original image, and `hit`, the share of them
    that `guess` has.

    Both are label indices (h, w), of which those from `first` on are classes, or planes (K, h, w).
    """
    rows, found = [], dict(class_masks(guess, first))
    for label, mask in class_masks(truth, first):
        count, at, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        hits = np.bincount(at[found[label]], minlength=count) if label in found else np.zeros(count)
        for i in range(1, count):
            area = int(stats[i, cv2.CC_STAT_AREA])
            if area >= SMALLEST_OBJECT:
                rows.append({"label": int(label), "pixels": area * pixels_each, "hit": hits[i] / area})
    return pd.DataFrame(rows, columns=["label", "pixels", "hit"])


def all_objects(oof: Evaluation, decision: Decision, images: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    """`object_recall` of all images, measured on their previews."""
    rows, found = images.set_index("image_id"), []
    for image_id in oof.image_ids:
        row, planes = rows.loc[image_id], decision.labels(oof.previews[image_id].map)
        guess = from_planes(planes, oof.overlap)
        each = map_step(int(row["height"]), int(row["width"])) ** 2
        truth = small_truth(image_id, row, competition)
        found.append(object_recall(truth, guess, each, competition.settings.first_class))
    return pd.concat(found, ignore_index=True)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
