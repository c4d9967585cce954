"""What 05 writes for the report: report/oof.json, and a gallery of the best, worst and most uncertain images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.competition import metrics
from lib.competition.dataset import Competition
from lib.decision.decision import Decision
from lib.decision.ensemble_weights import EnsembleWeights, equal
from lib.imaging.draw import as_picture, error_map, outline, overlay, save_picture
from lib.imaging.reader import open_image
from lib.oof.codes import BINS, from_planes, to_probs_u8
from lib.oof.evaluation import Evaluation
from lib.oof.pixel_sample import PixelSample
from lib.oof.previews import Preview
from lib.predict.evaluate_ensemble import EvaluatedEnsemble
from lib.report.failures import class_rows, size_rows
from lib.report.show import small_image, small_truth
from lib.report.summary import Summary
from lib.session import Session
from lib.workspace import replacing_dir, write_json

GALLERY_PANEL_SIDE = 720  # longest side of a picture, pixels
MAX_CHART_OBJECTS = 400  # points of the chart of objects, at most
CALIBRATION_PARTS = 20  # points of the calibration curve
SAMPLE_PIXELS_AT_ONCE = 2**16  # of the sample that are averaged together


def write_findings(evaluated: EvaluatedEnsemble, summary: Summary, until: float = math.inf) -> None:
    """Write report/oof.json, and draw `report.pictures` images of each kind.

    The scores and tables are the ensemble's; the curves are those of the mean of all networks. No picture is begun
    after `until`, on the monotonic clock.
    """
    session, oof, fitted = evaluated.session, evaluated.oof, evaluated.fitted
    objects, findings = summary.objects, summary.findings
    competition, workspace, config = session.competition, session.workspace, session.config.competition
    decision, counts = fitted.decision, fitted.counts
    about = session.folds.set_index("image_id").loc[oof.image_ids]
    scores, doubts = metrics.image_scores(config, counts), uncertainty(oof, decision)
    errors = wrong_share(oof, counts)
    table = pd.DataFrame(
        {
            "image": oof.image_ids, "score": scores, "wrong pixels": errors, "uncertainty": doubts,
            "fold": list(about["fold"]), "group": list(about["group"]),
        }
    ).sort_values("score", kind="stable")  # fmt: skip
    per_member = np.array([metrics.image_scores(config, oof.class_counts(s)) for s in range(len(findings["members"]))])
    write_json(
        workspace.report / "oof.json",
        {
            "metric": config.metric, "score": decision.score, "half_score": decision.half_score,
            "cross_score": decision.cross_score, "crossed_by": fitted.crossed.by if fitted.crossed else None,
            "threshold": threshold_of(decision),
            "names": competition.label_names, "confusion": [] if oof.overlap else fitted.tables[0].tolist(),
            "classes": class_rows(fitted.tables, competition.label_names, oof.overlap), "sizes": size_rows(objects),
            "objects": object_points(objects), "images": table.to_dict("records"),
            **{
                f"{name}s": [
                    {name: value, "images": int(images.sum()), "score": metrics.score(config, counts[images])}
                    for value in sorted(set(about[name]))
                    for images in [(about[name] == value).to_numpy()]
                ]
                for name in ("fold", "group")
            },
            "calibration": curves(oof, decision, competition),
            "thresholds": threshold_curve(oof, competition) if oof.binary and not oof.overlap else [],
            **findings, "correlation": correlation(per_member),
            "gallery": draw_gallery(table, oof, decision, session, until),
        },
    )  # fmt: skip


def wrong_share(oof: Evaluation, counts: np.ndarray) -> np.ndarray:
    """The share of wrong pixels of each image (N,), from counts (N, n, 3); of classes that overlap, of all planes."""
    if oof.overlap:
        both, truth, guess = np.moveaxis(counts, -1, 0)
        return (truth + guess - 2 * both).sum(1) / np.maximum(oof.known().sum(1), 1)
    right, pixels, _ = counts.sum(1).T
    return 1 - right / np.maximum(pixels, 1)


def threshold_of(decision: Decision) -> float | None:
    """The threshold of one class; None for argmax, and where each class has its own."""
    single = decision.thresholds is not None and len(decision.thresholds) == 1
    return decision.thresholds[0] / (BINS - 1) if single else None


def uncertainty(oof: Evaluation, decision: Decision) -> np.ndarray:
    """The uncertainty of each image (N,), 0 to 1.

    One class, or classes that overlap: how near the pixels are to the thresholds, on average. Other classes: how near
    the likeliest class is to the second one, on a sample of pixels.
    """
    if not oof.binary:
        points, images = oof.points, len(oof.image_ids)
        doubts = np.zeros(images)
        for part, probs in mixed_sample(points, decision):
            second, first = np.partition(probs, -2, axis=0)[-2:]
            doubts += np.bincount(points.image[part], (1 - first + second) * points.pixels[part], images)
        return doubts / np.bincount(points.image, points.pixels, images).clip(1)
    pixels, count = oof.counts[:, -1].sum(2, dtype=np.int64), oof.counts.shape[-1]
    bins, near = np.arange(0, BINS, BINS // count), 0
    for k, middle in enumerate(decision.thresholds or oof.halves):
        nearness = 1 - np.abs(bins - middle) / np.where(bins < middle, middle, BINS - 1 - middle).clip(1)
        near = near + pixels[:, k] @ nearness
    return near / pixels.sum((1, 2)).clip(1)


def curves(oof: Evaluation, decision: Decision, competition: Competition) -> list[dict]:
    """Rows of `calibration`, for each of several classes. Those of classes that exclude one another are made from the
    sample of pixels."""
    names, points = competition.label_names, oof.points
    if oof.binary:
        counts = oof.counts[:, -1].sum(0, dtype=np.int64)
        if not oof.overlap:
            return calibration(counts[0])
        return [{"class": name, **row} for name, pair in zip(names, counts, strict=True) for row in calibration(pair)]
    counts = np.zeros((len(names), 2, BINS))
    for part, probs in mixed_sample(points, decision):
        for i, codes in enumerate(to_probs_u8(probs)):
            place = (points.truth[part] == i) * BINS + codes
            counts[i] += np.bincount(place, points.pixels[part], 2 * BINS).reshape(2, BINS)
    return [{"class": name, **row} for name, pair in zip(names, counts, strict=True) for row in calibration(pair)]


def mixed_sample(points: PixelSample, decision: Decision) -> Iterator[tuple[slice, np.ndarray]]:
    """(a slice of the points, their probabilities (K, P) with the decision's ensemble weights), over all points."""
    mix = decision.mix or EnsembleWeights(equal(points.bins.shape[1]))
    for start in range(0, len(points.truth), SAMPLE_PIXELS_AT_ONCE):
        part = slice(start, start + SAMPLE_PIXELS_AT_ONCE)
        yield part, mix(points.bins[part].transpose(1, 2, 0) / np.float32(BINS - 1))


def calibration(counts: np.ndarray) -> list[dict]:
    """Predicted probability and true share in `CALIBRATION_PARTS` equal parts, from counts (2, B) of truth x bin.

    >>> counts = np.zeros((2, 256), int); counts[:, 204] = 1, 3
    >>> calibration(counts)
    [{'predicted': 0.8, 'true': 0.75, 'pixels': 4}]
    """
    width, rows = BINS // counts.shape[1], []
    bins = np.arange(counts.shape[1]) * width + (width - 1) / 2  # their middles
    part = (bins * CALIBRATION_PARTS // BINS).astype(int)
    for i in range(CALIBRATION_PARTS):
        in_part = counts[:, part == i]
        pixels = int(in_part.sum())
        if pixels:
            predicted = float((in_part.sum(0) * bins[part == i]).sum() / pixels / (BINS - 1))
            rows.append({"predicted": round(predicted, 6), "true": float(in_part[1].sum() / pixels), "pixels": pixels})
    return rows


def threshold_curve(oof: Evaluation, competition: Competition) -> list[tuple[float, float]]:
    """(threshold, score) of the mean of all networks."""
    last = oof.counts.shape[1] - 1
    return [
        (t / (BINS - 1), metrics.score(competition.settings, oof.class_counts(last, (t,))))
        for t in range(3, BINS - 2, 3)
    ]


def correlation(scores: np.ndarray) -> list[list[float | None]]:
    """Correlation of the models' scores (M, N) over images; None where all scores of a model are equal."""
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.atleast_2d(np.corrcoef(scores))
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]


def object_points(objects: pd.DataFrame) -> list[tuple[float, float]]:
    """(square root of the area, share found) of at most `MAX_CHART_OBJECTS` objects, evenly taken by size."""
    ordered = objects.sort_values("pixels", ignore_index=True)
    places = np.unique(np.linspace(0, len(ordered) - 1, min(MAX_CHART_OBJECTS, len(ordered))).round().astype(int))
    chosen = ordered.iloc[places]
    return list(zip(np.sqrt(chosen["pixels"].astype(float)).tolist(), chosen["hit"].tolist(), strict=True))


def draw_gallery(
    table: pd.DataFrame, oof: Evaluation, decision: Decision, session: Session, until: float
) -> list[dict]:
    """Draw `report.pictures` of the worst, best and most uncertain images; `table` lists the worst image first.

    Returns a row for each image drawn before the time `until`; its `places` are its ranks by kind.
    """
    orders = {
        "worst": table["image"], "best": table["image"][::-1],
        "uncertain": table.sort_values("uncertainty", ascending=False, kind="stable")["image"],
    }  # fmt: skip
    chosen: dict[str, dict] = {}
    for kind, ids in orders.items():
        for place, image_id in enumerate(ids[: session.config.report.pictures]):
            chosen.setdefault(image_id, {"places": {}})["places"][kind] = place
    rows, facts, drawn = session.images.set_index("image_id"), table.set_index("image"), []
    with replacing_dir(session.workspace.report / "gallery") as folder:
        for image_id, item in chosen.items():
            if time.monotonic() > until:
                break
            row, preview = rows.loc[image_id], oof.previews[image_id]
            item |= draw_panels(image_id, row, preview, decision, session.competition, folder)
            item |= {"image_id": image_id, "score": facts["score"][image_id], "fold": int(facts["fold"][image_id])}
            drawn.append(item)
    return drawn


def draw_panels(
    image_id: str, row: pd.Series, preview: Preview, decision: Decision, competition: Competition, folder: Path
) -> dict:
    """Save image, truth, prediction and error map, and for a down-sampled image also those of its worst region.

    Returns `spot`, where the worst region is, in words, or an empty text; and, where classes overlap, their `layers`:
    what `save_panels` returns, by the pictures' name.
    """
    settings = competition.settings
    guess, background = from_planes(decision.labels(preview.map), settings.multilabel), settings.background
    image, truth = small_image(row, guess.shape[-2:], competition), small_truth(image_id, row, competition)
    layers, spot = {image_id: save_panels(folder, image_id, image, truth, guess, background)}, ""
    if preview.worst_crop.size:
        box, name = (*preview.corner, *preview.worst_crop.shape[1:]), f"{image_id}_spot"
        with open_image(row["path"], settings.pixels) as reader:
            pixels = as_picture(reader.read(*box), settings.pixels)
        truth = competition.labels.open(image_id, int(row["height"]), int(row["width"])).read(*box)
        guess = from_planes(decision.labels(preview.worst_crop), settings.multilabel)
        layers[name] = save_panels(folder, name, pixels, truth, guess, background)
        spot = "worst spot at full resolution: y {}, x {}".format(*preview.corner)
    return {"spot": spot, **({"layers": layers} if settings.multilabel else {})}


def save_panels(
    folder: Path, name: str, image: np.ndarray, truth: np.ndarray, guess: np.ndarray, background: bool
) -> dict:
    """Four pictures of at most `GALLERY_PANEL_SIDE` pixels, <name>_{image,truth,prediction,error}.jpg.

    Returns, where classes overlap, the `size` (width, height) of the pictures and the outlines of the classes in
    `truth` and `prediction`; else nothing.
    """
    panels = {
        "image": image, "truth": overlay(image, truth, background), "prediction": overlay(image, guess, background),
        "error": error_map(image, truth, guess, background)[0],
    }  # fmt: skip
    shrink = min(1.0, GALLERY_PANEL_SIDE / max(image.shape[:2]))
    size = tuple(max(1, round(side * shrink)) for side in image.shape[1::-1])
    for kind, panel in panels.items():
        save_picture(folder / f"{name}_{kind}.jpg", cv2.resize(panel, size, interpolation=cv2.INTER_AREA))
    if truth.ndim == 2:
        return {}
    sides = {"truth": truth, "prediction": guess}
    return {"size": size, **{side: [_outline(plane == 1, size) for plane in planes] for side, planes in sides.items()}}


def _outline(mask: np.ndarray, size: tuple[int, int]) -> str:
    return outline(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST))
