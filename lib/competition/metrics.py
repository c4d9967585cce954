"""Metrics; higher is better. Most are made from per-image confusion matrices (N, n, n): rows truth, columns prediction.

Ignored pixels are not in the matrices. Such a metric is `metric(confusions, classes, rules) -> float`, with `classes`
the label indices that are scored and `rules` the section `competition.scoring`. One that needs more is a class, with
`needs` (what, in words), `stand_in` (the metric of counts that out-of-fold maps are scored and decided by) and
`score(ids, open_case, classes, rules)`, which submissions are scored by: see lib/competition/beyond_counts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

import lib.competition.beyond_counts  # noqa: F401  (registers its metrics)
from lib.config.competition import Competition, Scoring
from lib.plugins import find, register

Classes = Sequence[int]


def score(config: Competition, confusions: np.ndarray) -> float:
    """The competition's metric of confusion matrices (N, n, n), or its stand-in, which is then said once."""
    metric = metric_of(config)
    if hasattr(metric, "needs"):
        _say_stand_in(config.metric, metric.needs, metric.stand_in)
        metric = find("metric", metric.stand_in, "stand_in")
    return float(metric(confusions, scored_classes(config), config.scoring))


def metric_of(config: Competition) -> Callable:
    """What is registered as `competition.metric`."""
    return find("metric", config.metric, "competition.metric")


def scored_classes(config: Competition) -> list[int]:
    """The label indices that count."""
    first = 1 if config.background else 0
    if config.scoring.classes:
        return [config.classes.index(name) + first for name in config.scoring.classes]
    return list(range(0 if config.score_background else first, len(config.classes) + first))


@cache
def _say_stand_in(name: str, needs: str, stand_in: str) -> None:
    print(
        f"{name} needs {needs}, not only counts of pixels: out-of-fold scores, and what is fitted on them, are "
        f"{stand_in}; submissions are scored by {name}",
        flush=True,
    )


def image_scores(config: Competition, confusions: np.ndarray) -> list[float]:
    """The competition's metric of each image alone; 1 for one without a wrong pixel, whatever the metric says of it.

    (Of an image without object that is found to have none, IoU knows nothing.)
    """
    right = [np.trace(one) == one.sum() for one in confusions]
    return [1.0 if all_right else score(config, one[None]) for all_right, one in zip(right, confusions, strict=True)]


def parts(confusion: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(intersection, truth, prediction) in pixels of one class, over any leading axes."""
    return (
        confusion[..., index, index],
        confusion[..., index, :].sum(-1),
        confusion[..., :, index].sum(-1),
    )


def per_class_iou(confusion: np.ndarray) -> np.ndarray:
    """IoU of every label index from one matrix (n, n); NaN for a class that neither side has."""
    both, truth, guess = np.array([parts(confusion, i) for i in range(confusion.shape[-1])], np.float64).T
    return _shares(both, truth + guess - both, truth, "skip")


def _shares(part: np.ndarray, whole: np.ndarray, truth: np.ndarray, empty: str) -> np.ndarray:
    """`part / whole`; NaN for what is left out, as `competition.scoring.empty` says."""
    nothing = {"one": 1.0, "zero": 0.0}.get(empty, np.nan)
    values = np.where(whole > 0, part / np.maximum(whole, 1e-9), nothing)
    return np.where(truth > 0, values, np.nan) if empty == "skip_truth" else values


def _mean(values: np.ndarray) -> float:
    """Over all that is not left out; 0 when nothing is."""
    return 0.0 if np.isnan(values).all() else float(np.nanmean(values))


def _overlap(confusions: np.ndarray, classes: Classes, beta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of F-beta, each (N, C): numerator, denominator, pixels of the truth. Beta 1 is Dice."""
    both, truth, guess = (np.stack(p, -1) for p in zip(*(parts(confusions, i) for i in classes), strict=True))
    return (1 + beta**2) * both, beta**2 * truth + guess, truth


def _union(confusions: np.ndarray, classes: Classes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of IoU, each (N, C): intersection, union, pixels of the truth."""
    both, truth, guess = (np.stack(p, -1) for p in zip(*(parts(confusions, i) for i in classes), strict=True))
    return both, truth + guess - both, truth


def _all_images(confusions: np.ndarray) -> np.ndarray:
    """Pixels of all images in one matrix, as if they were one image."""
    return confusions.sum(0, keepdims=True)


@register("metric", "mean_dice")
def mean_dice(confusions: np.ndarray, classes: Classes, rules: Scoring) -> float:
    """Dice of each image and class, averaged (Severstal, Clouds); one without object and prediction counts 1."""
    return _mean(_shares(*_overlap(confusions, classes, 1), rules.empty or "one"))


@register("metric", "dice")
def dice(confusions: np.ndarray, classes: Classes, rules: Scoring) -> float:
    """Dice of the pooled pixels of all images, mean over classes; 1 for a class that neither side has."""
    return mean_dice(_all_images(confusions), classes, rules)


@register("metric", "image_f_beta")
def image_f_beta(confusions: np.ndarray, classes: Classes, rules: Scoring) -> float:
    """F-beta of each image and class, averaged; one without object and prediction counts 1."""
    return _mean(_shares(*_overlap(confusions, classes, rules.beta), rules.empty or "one"))


@register("metric", "f_beta")
def f_beta(confusions: np.ndarray, classes: Classes, rules: Scoring) -> float:
    """F-beta of the pooled pixels of all images, mean over classes; 1 for a class that neither side has."""
    return image_f_beta(_all_images(confusions), classes, rules)


@register("metric", "image_iou")
def image_iou(confusions: np.ndarray, classes: Classes, rules: Scoring) -> float:
    """IoU of each image and class, averaged; one without object and prediction is left out."""
    return _mean(_shares(*_union(confusions, classes), rules.empty or "skip"))


@register("metric", "mean_iou")
@register("metric", "iou")
def mean_iou(confusions: np.ndarray, classes: Classes, rules: Scoring) -> float:
    """IoU from one confusion matrix over all images, mean over the classes that occur."""
    return image_iou(_all_images(confusions), classes, rules)


@register("metric", "pixel_accuracy")
def pixel_accuracy(confusions: np.ndarray, classes: Classes, rules: Scoring) -> float:
    """Share of right pixels among all that are scored, background included."""
    total = confusions.sum(0)
    return np.trace(total) / max(1, total.sum())
