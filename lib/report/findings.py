"""What 05 leaves for the report: report/oof.json, and pictures of the best, worst and most uncertain images."""

from __future__ import annotations

import math
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.competition import metrics
from lib.competition.dataset import Competition
from lib.imaging.grid import map_step
from lib.imaging.reader import open_image
from lib.inference.decision import Decision
from lib.inference.evaluate import BINS, HALF, Evaluation
from lib.inference.fitting import Fitted
from lib.report.failures import class_rows, size_rows
from lib.report.figures import error_map, overlay, save_picture
from lib.report.show import small_image, small_truth
from lib.workspace import Workspace, replacing_dir, write_json

PANEL = 720  # longest side of a picture, pixels
SPOT = 512  # side of a crop at full resolution, pixels
OBJECTS = 400  # of the chart of objects, at most
PARTS = 20  # of the calibration curve


def write_findings(
    oof: Evaluation, fitted: Fitted, members: list[dict], ensemble: list[dict], objects: pd.DataFrame,
    folds: pd.DataFrame, count: int, images: pd.DataFrame, competition: Competition, workspace: Workspace,
    until: float = math.inf,
) -> None:  # fmt: skip
    """Write the ensemble's scores and tables, curves of the mean of all networks, and draw `count` images of each kind.

    `members`, `ensemble`: as lib/report/ensemble.py makes them. `objects`: as `shown_objects` finds them. `folds`:
    folds.csv. No picture is begun after `until`, by the monotonic clock.
    """
    config = competition.settings
    decision, confusions = fitted.decision, fitted.confusions
    about = folds.set_index("image_id").loc[oof.image_ids]
    scores, doubts = metrics.image_scores(config, confusions), uncertainty(oof, decision, competition)
    errors = [1 - np.trace(one) / max(1, one.sum()) for one in confusions]
    table = pd.DataFrame(
        {
            "image": oof.image_ids, "score": scores, "wrong pixels": errors, "uncertainty": doubts,
            "fold": list(about["fold"]), "group": list(about["group"]),
        }
    ).sort_values("score", kind="stable")  # fmt: skip
    per_member = np.array([metrics.image_scores(config, oof.confusions(s)) for s in range(len(members))])
    write_json(
        workspace.report / "oof.json",
        {
            "metric": config.metric, "score": decision.score, "half_score": decision.half_score,
            "cross_score": decision.cross_score,
            "threshold": None if decision.threshold is None else decision.threshold / (BINS - 1),
            "names": competition.label_names, "confusion": confusions.sum(0).tolist(),
            "classes": class_rows(confusions.sum(0), competition.label_names), "sizes": size_rows(objects),
            "objects": object_points(objects), "images": table.to_dict("records"),
            **{
                f"{name}s": [
                    {name: value, "images": int(here.sum()), "score": metrics.score(config, confusions[here])}
                    for value in sorted(set(about[name]))
                    for here in [(about[name] == value).to_numpy()]
                ]
                for name in ("fold", "group")
            },
            "calibration": calibration(oof.counts[:, -1].sum(0)) if oof.binary else [],
            "thresholds": threshold_curve(oof, competition) if oof.binary else [],
            "members": members, "ensemble": ensemble, "correlation": correlation(per_member),
            "gallery": draw_gallery(table, oof, decision, count, images, competition, workspace, until),
        },
    )  # fmt: skip


def uncertainty(oof: Evaluation, decision: Decision, competition: Competition) -> np.ndarray:
    """Of each image (N,), how little is sure.

    One class: the mean nearness of its pixels to the threshold, 0 to 1. Otherwise the spread of the members' scores.
    """
    if not oof.binary:
        scores = [metrics.image_scores(competition.settings, oof.confusions(s)) for s in range(oof.counts.shape[1])]
        return np.std(scores, axis=0)
    middle = HALF if decision.threshold is None else decision.threshold
    bins = np.arange(BINS)
    nearness = 1 - np.abs(bins - middle) / np.where(bins < middle, middle, BINS - 1 - middle).clip(1)
    pixels = oof.counts[:, -1].sum(1)
    return pixels @ nearness / pixels.sum(1).clip(1)


def calibration(counts: np.ndarray) -> list[dict]:
    """Of counts (2, BINS), truth x bin: predicted probability and true share, in `PARTS` equal parts.

    >>> counts = np.zeros((2, 256), int); counts[:, 204] = 1, 3
    >>> calibration(counts)
    [{'predicted': 0.8, 'true': 0.75, 'pixels': 4}]
    """
    bins, rows = np.arange(BINS), []
    part = bins * PARTS // BINS
    for i in range(PARTS):
        here = counts[:, part == i]
        pixels = int(here.sum())
        if pixels:
            predicted = float((here.sum(0) * bins[part == i]).sum() / pixels / (BINS - 1))
            rows.append({"predicted": round(predicted, 6), "true": float(here[1].sum() / pixels), "pixels": pixels})
    return rows


def threshold_curve(oof: Evaluation, competition: Competition) -> list[tuple[float, float]]:
    """(threshold, the metric) of the ensemble."""
    last = oof.counts.shape[1] - 1
    return [
        (t / (BINS - 1), metrics.score(competition.settings, oof.confusions(last, t))) for t in range(3, BINS - 2, 3)
    ]


def correlation(scores: np.ndarray) -> list[list[float | None]]:
    """Of the members' scores (M, N) over the images; None where a member's are all alike."""
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.atleast_2d(np.corrcoef(scores))
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]


def object_points(objects: pd.DataFrame) -> list[tuple[float, float]]:
    """(side of the square of an object's area, share found), of at most `OBJECTS`, evenly by size."""
    ordered = objects.sort_values("pixels", ignore_index=True)
    places = np.unique(np.linspace(0, len(ordered) - 1, min(OBJECTS, len(ordered))).round().astype(int))
    chosen = ordered.iloc[places]
    return list(zip(np.sqrt(chosen["pixels"].astype(float)).tolist(), chosen["hit"].tolist(), strict=True))


def draw_gallery(
    table: pd.DataFrame, oof: Evaluation, decision: Decision, count: int, images: pd.DataFrame,
    competition: Competition, workspace: Workspace, until: float,
) -> list[dict]:  # fmt: skip
    """Draw `count` of the worst, best and most uncertain images whose map was kept; `table`: worst first.

    Returns what is drawn, before the time `until`; `places`: kind → the image's place among them.
    """
    shown = table[table["image"].isin(list(oof.maps))]
    orders = {
        "worst": shown["image"], "best": shown["image"][::-1],
        "uncertain": shown.sort_values("uncertainty", ascending=False, kind="stable")["image"],
    }  # fmt: skip
    chosen: dict[str, dict] = {}
    for kind, ids in orders.items():
        for place, image_id in enumerate(ids[:count]):
            chosen.setdefault(image_id, {"places": {}})["places"][kind] = place
    rows, facts, drawn = images.set_index("image_id"), table.set_index("image"), []
    with replacing_dir(workspace.report / "gallery") as folder:
        for image_id, item in chosen.items():
            if time.monotonic() > until:
                break
            guess = decision.labels(oof.maps[image_id])
            item["spot"] = draw_panels(image_id, rows.loc[image_id], guess, competition, folder)
            item |= {"image_id": image_id, "score": facts["score"][image_id], "fold": int(facts["fold"][image_id])}
            drawn.append(item)
    return drawn


def draw_panels(image_id: str, row: pd.Series, guess: np.ndarray, competition: Competition, folder: Path) -> str:
    """Image, truth, prediction and error map beside each other; and of an image that had to be shrunk, the worst spot.

    Returns where that is, in words, or an empty text.
    """
    truth, image = small_truth(image_id, row, competition), small_image(row, guess.shape, competition)
    background = competition.settings.background
    save_panels(folder, image_id, image, truth, guess, background)
    height, width = int(row["height"]), int(row["width"])
    step = map_step(height, width)
    if step == 1:
        return ""
    y, x = worst_spot(error_map(image, truth, guess, background)[1], max(1, SPOT // step))
    h, w = min(SPOT, height), min(SPOT, width)
    y, x = min(y * step, height - h), min(x * step, width - w)
    with open_image(row["path"], competition.settings.pixels) as reader:
        pixels = reader.read(y, x, h, w)
    label = competition.labels.open(image_id, height, width).read(y, x, h, w)
    rows, columns = (np.minimum((start + np.arange(n)) // step, size - 1)
                     for start, n, size in zip((y, x), (h, w), guess.shape, strict=True))  # fmt: skip
    save_panels(folder, f"{image_id}_spot", pixels, label, guess[np.ix_(rows, columns)], background)
    return f"worst spot at full resolution: y {y}, x {x} (one prediction shown for {step} x {step} pixels)"


def save_panels(
    folder: Path, name: str, image: np.ndarray, truth: np.ndarray, guess: np.ndarray, background: bool
) -> None:
    """Four pictures of at most `PANEL` pixels, <name>_{image,truth,prediction,error}.jpg."""
    panels = {
        "image": image, "truth": overlay(image, truth, background), "prediction": overlay(image, guess, background),
        "error": error_map(image, truth, guess, background)[0],
    }  # fmt: skip
    shrink = min(1.0, PANEL / max(image.shape[:2]))
    size = tuple(max(1, round(side * shrink)) for side in image.shape[1::-1])
    for kind, panel in panels.items():
        save_picture(folder / f"{name}_{kind}.jpg", cv2.resize(panel, size, interpolation=cv2.INTER_AREA))


def worst_spot(wrong: np.ndarray, side: int) -> tuple[int, int]:
    """Top left of the square of `side` with most errors, these in its middle where they can be; `wrong` (h, w) bool.

    >>> wrong = np.zeros((9, 9), bool); wrong[3:5, 5:7] = True
    >>> worst_spot(wrong, 2), worst_spot(wrong, 4)
    ((3, 5), (2, 4))
    """
    side = min(side, *wrong.shape)
    sums = cv2.integral(wrong.astype(np.uint8))
    found = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    y, x = np.unravel_index(found.argmax(), found.shape)
    inside = np.argwhere(wrong[y : y + side, x : x + side])
    middle = inside.mean(0) + (y, x) if len(inside) else np.array([y, x]) + side / 2
    return tuple(int(np.clip(round(m - (side - 1) / 2), 0, n - side)) for m, n in zip(middle, wrong.shape, strict=True))
