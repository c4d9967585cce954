"""Metrics of pixel counts. Higher is better.

Counts are an array (N, C, 3) int64: for each of N images and C label indices, the number of pixels of the intersection
of truth and prediction, of the truth, and of the prediction. Ignored pixels are not counted.

A metric is a function `metric(counts, classes, rules) -> float`. `classes`: the label indices that are scored. `rules`:
the section `competition.scoring`. One image with 10 true pixels, of which 8 of 12 predicted ones are right:

>>> counts = np.array([[[80, 90, 88], [8, 10, 12]]])
>>> round(find("metric", "mean_dice", "metric")(counts, [1], Scoring()), 4)
0.7273

A new one, in a plugin:

    @register("metric", "recall")
    def recall(counts, classes, rules):
        intersection, truth, _ = parts(counts.sum(0), classes)
        return float((intersection / np.maximum(truth, 1)).mean())

Bootstrap intervals need the metric of hundreds of samples of the images. They are fast where a metric says how it
averages: `@per_image` or `@pooled` around a function that returns a value for each image and class, as below.

A metric that needs more than counts is a class. `needs` says in words what it needs. `stand_in` is the metric of counts
that scores out-of-fold maps, and by which decisions are fitted. `score(ids, open_case, classes, rules)` scores
submissions. See lib/competition/metrics/objects_and_surfaces.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, wraps

import numpy as np

from lib.competition.metrics import objects_and_surfaces
from lib.config.competition import CompetitionSettings, Scoring
from lib.plugins import find, register

Classes = Sequence[int]


def score(config: CompetitionSettings, counts: np.ndarray) -> float:
    """The competition's metric of counts (N, C, 3), or of its stand-in, about which a line is printed once."""
    return float(_of_counts(config)(counts, scored_classes(config), config.scoring))


def resampled(config: CompetitionSettings, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`score` of D samples of the images, (D,); `weights` (D, N): how many times each image is in each sample."""
    metric, classes = _of_counts(config), scored_classes(config)
    values = getattr(metric, "values", None)
    if values is None:  # how a plugin's metric averages is not known
        times = weights.astype(np.int64)
        return np.array([metric(np.repeat(counts, each, 0), classes, config.scoring) for each in times], np.float64)
    weights = weights.astype(np.float64)
    if metric.pooled:
        sums = weights @ counts.reshape(len(counts), -1)
        found = values(sums.reshape(-1, *counts.shape[1:]), classes, config.scoring)
        totals, known = np.nansum(found, 1), (~np.isnan(found)).sum(1)
    else:
        found = values(counts, classes, config.scoring)
        totals, known = weights @ np.nansum(found, 1), weights @ (~np.isnan(found)).sum(1)
    return np.where(known > 0, totals / np.maximum(known, 1), 0.0)


def changing(config: CompetitionSettings, fixed: np.ndarray) -> Callable[[np.ndarray], float]:
    """`score` of images of which those with counts `fixed` (N, C, 3) stay as they are: a function of the others' counts
    (M, C, 3). It takes no longer however many are fixed, unless a plugin's metric does not say how it averages."""
    metric, classes = _of_counts(config), scored_classes(config)
    values = getattr(metric, "values", None)
    if values is None:
        return lambda others: float(metric(np.concatenate([fixed, others]), classes, config.scoring))
    if metric.pooled:
        total = fixed.sum(0)
        return lambda others: _mean(values((total + others.sum(0))[None], classes, config.scoring))
    found = values(fixed, classes, config.scoring)
    total, number = np.nansum(found), (~np.isnan(found)).sum()

    def score_with(others: np.ndarray) -> float:
        here = values(others, classes, config.scoring)
        return float((total + np.nansum(here)) / max(1, number + (~np.isnan(here)).sum()))

    return score_with


def _of_counts(config: CompetitionSettings) -> Callable:
    """The metric, or its stand-in where it needs more than counts."""
    metric = metric_of(config)
    if not hasattr(metric, "needs"):
        return metric
    _say_stand_in(config.metric, metric.needs, metric.stand_in)
    return find("metric", metric.stand_in, "stand_in")


def metric_of(config: CompetitionSettings) -> Callable:
    """What is registered as `competition.metric`."""
    return find("metric", config.metric, "competition.metric")


def scored_classes(config: CompetitionSettings) -> list[int]:
    """The label indices that count."""
    first = config.first_class
    if config.scoring.classes:
        return [config.classes.index(name) + first for name in config.scoring.classes]
    return list(range(0 if config.score_background else first, len(config.classes) + first))


@cache
def _say_stand_in(name: str, needs: str, stand_in: str) -> None:
    print(
        f"{name} needs {needs}, not only counts of pixels: out-of-fold scores, and what is fitted on them, use "
        f"{stand_in}; submissions are scored by {name}",
        flush=True,
    )


def image_scores(config: CompetitionSettings, counts: np.ndarray) -> list[float]:
    """The competition's metric of each image alone; 1 for one without a wrong pixel, whatever the metric says of it.

    (Of an image without object that is found to have none, IoU knows nothing.)
    """
    both, truth, guess = np.moveaxis(counts.sum(1), -1, 0)
    wrong = (both < truth) | (both < guess)
    metric, found, rest = _of_counts(config), np.ones(len(counts)), counts[wrong]
    if values := getattr(metric, "values", None):
        each = values(rest, scored_classes(config), config.scoring)
        found[wrong] = np.nansum(each, 1) / np.maximum((~np.isnan(each)).sum(1), 1)
    else:
        found[wrong] = [score(config, one[None]) for one in rest]
    return found.tolist()


def counts_of(confusions: np.ndarray) -> np.ndarray:
    """Confusion matrices (..., C, M), truth x prediction, M >= C → counts (..., C, 3).

    >>> counts_of(np.array([[5, 1], [2, 3]])).tolist()
    [[5, 6, 7], [3, 5, 4]]
    """
    square = confusions[..., : confusions.shape[-2]]
    return np.stack([np.diagonal(square, axis1=-2, axis2=-1), confusions.sum(-1), square.sum(-2)], -1)


def parts(counts: np.ndarray, classes: int | Classes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(intersection, truth, prediction) in pixels of one class, or of several, from counts (..., C, 3)."""
    both, truth, guess = np.moveaxis(counts[..., classes, :], -1, 0)
    return both, truth, guess


def per_image(values: Callable) -> Callable:
    """The metric that is the mean of `values(counts, classes, rules)`, (N, C), over all images and classes.

    NaN is left out; 0 when all is.
    """
    return _averaged(values, pooled=False)


def pooled(values: Callable) -> Callable:
    """The same of the pixels of all images together, as if they were one image."""
    return _averaged(values, pooled=True)


def _averaged(values: Callable, pooled: bool) -> Callable:
    @wraps(values)
    def metric(counts: np.ndarray, classes: Classes, rules: Scoring) -> float:
        return _mean(values(counts.sum(0, keepdims=True) if pooled else counts, classes, rules))

    metric.values, metric.pooled = values, pooled
    return metric


def _shares(part: np.ndarray, whole: np.ndarray, truth: np.ndarray, empty: str) -> np.ndarray:
    """`part / whole`; NaN for what is left out, as `competition.scoring.empty` says."""
    nothing = {"one": 1.0, "zero": 0.0}.get(empty, np.nan)
    values = np.where(whole > 0, part / np.maximum(whole, 1e-9), nothing)
    return np.where(truth > 0, values, np.nan) if empty == "skip_truth" else values


def _mean(values: np.ndarray) -> float:
    """Over all that is not left out; 0 when nothing is."""
    return 0.0 if np.isnan(values).all() else float(np.nanmean(values))


def _f_beta(counts: np.ndarray, classes: Classes, beta: float, empty: str) -> np.ndarray:
    """F-beta of each image and class, (N, C); beta 1 is Dice."""
    both, truth, guess = parts(counts, classes)
    return _shares((1 + beta**2) * both, beta**2 * truth + guess, truth, empty)


def _iou(counts: np.ndarray, classes: Classes, empty: str) -> np.ndarray:
    """IoU of each image and class, (N, C)."""
    both, truth, guess = parts(counts, classes)
    return _shares(both, truth + guess - both, truth, empty)


@register("metric", "mean_dice")
@per_image
def mean_dice(counts: np.ndarray, classes: Classes, rules: Scoring) -> np.ndarray:
    """Dice of each image and class, averaged (Severstal, Clouds); one without object and prediction counts 1."""
    return _f_beta(counts, classes, 1, rules.empty or "one")


@register("metric", "dice")
@pooled
def dice(counts: np.ndarray, classes: Classes, rules: Scoring) -> np.ndarray:
    """Dice of the pooled pixels of all images, mean over classes; 1 for a class that neither side has."""
    return _f_beta(counts, classes, 1, rules.empty or "one")


@register("metric", "image_f_beta")
@per_image
def image_f_beta(counts: np.ndarray, classes: Classes, rules: Scoring) -> np.ndarray:
    """F-beta of each image and class, averaged; one without object and prediction counts 1."""
    return _f_beta(counts, classes, rules.beta, rules.empty or "one")


@register("metric", "f_beta")
@pooled
def f_beta(counts: np.ndarray, classes: Classes, rules: Scoring) -> np.ndarray:
    """F-beta of the pooled pixels of all images, mean over classes; 1 for a class that neither side has."""
    return _f_beta(counts, classes, rules.beta, rules.empty or "one")


@register("metric", "image_iou")
@per_image
def image_iou(counts: np.ndarray, classes: Classes, rules: Scoring) -> np.ndarray:
    """IoU of each image and class, averaged; one without object and prediction is left out."""
    return _iou(counts, classes, rules.empty or "skip")


@register("metric", "iou_precision")
@per_image
def iou_precision(counts: np.ndarray, classes: Classes, rules: Scoring) -> np.ndarray:
    """Share of the thresholds .50, .55, … .95 that the IoU of each image and class exceeds, averaged (TGS).

    One without object and prediction counts 1.
    """
    ious = _iou(counts, classes, rules.empty or "one")
    hits = (ious[..., None] > objects_and_surfaces.THRESHOLDS).mean(-1)
    return np.where(np.isnan(ious), np.nan, hits)


@register("metric", "mean_iou")
@register("metric", "iou")
@pooled
def mean_iou(counts: np.ndarray, classes: Classes, rules: Scoring) -> np.ndarray:
    """IoU of the pooled pixels of all images, mean over the classes that occur."""
    return _iou(counts, classes, rules.empty or "skip")


@register("metric", "pixel_accuracy")
@pooled
def pixel_accuracy(counts: np.ndarray, classes: Classes, rules: Scoring) -> np.ndarray:
    """Share of right pixels among all that are scored, background included."""
    both, truth, _ = counts.sum(-2).T
    return (both / np.maximum(truth, 1))[:, None]
