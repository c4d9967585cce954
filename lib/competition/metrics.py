"""Metrics, all from per-image confusion matrices (N, n, n): rows are truth, columns prediction.

Ignored pixels are not in the matrices. Higher is better. A metric is
`metric(confusions, classes) -> float`, with `classes` the label indices that are scored.
"""

from __future__ import annotations

import numpy as np

from lib.config.competition import Competition
from lib.plugins import find, register


def score(config: Competition, confusions: np.ndarray) -> float:
    """The competition's metric of confusion matrices (N, n, n)."""
    n = len(config.classes) + config.background  # a last, unscored column may count pixels of no class
    first = 1 if config.background and not config.score_background else 0
    return float(find("metric", config.metric, "competition.metric")(confusions, range(first, n)))


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


def _dice(confusion: np.ndarray, index: int) -> np.ndarray:
    """2 |A ∩ B| / (|A| + |B|); 1 where both are empty."""
    both, truth, guess = parts(confusion.astype(np.float64), index)
    return np.where(truth + guess > 0, 2 * both / np.maximum(truth + guess, 1), 1.0)


def _iou(confusion: np.ndarray, index: int) -> np.ndarray:
    """|A ∩ B| / |A ∪ B|; NaN where both are empty."""
    both, truth, guess = parts(confusion.astype(np.float64), index)
    union = truth + guess - both
    return np.where(union > 0, both / np.maximum(union, 1), np.nan)


def per_class_iou(confusion: np.ndarray) -> np.ndarray:
    """IoU of every label index from one matrix (n, n); NaN for a class that neither side has."""
    return np.array([_iou(confusion, i) for i in range(confusion.shape[-1])])


@register("metric", "mean_dice")
def mean_dice(confusions: np.ndarray, classes: range) -> float:
    """Dice of each image and class, averaged; an image without object and prediction counts as 1."""
    return np.mean([_dice(confusions, i).mean() for i in classes])


@register("metric", "dice")
def dice(confusions: np.ndarray, classes: range) -> float:
    """Dice of the pooled pixels of all images, mean over classes."""
    return np.mean([_dice(confusions.sum(0), i) for i in classes])


@register("metric", "mean_iou")
@register("metric", "iou")
def mean_iou(confusions: np.ndarray, classes: range) -> float:
    """IoU from one confusion matrix over all images, mean over the classes that occur."""
    values = [float(_iou(confusions.sum(0), i)) for i in classes]
    return float(np.nanmean(values)) if not np.isnan(values).all() else 0.0
