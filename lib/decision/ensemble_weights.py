"""Ensemble weights: how the maps of several models become one map.

A model is an experiment, a seed and a kind of weights. Its weight in the ensemble is shared over folds, since an image
has an out-of-fold map from one fold only. A sample of pixels (lib/oof/map_files.py) says where to search. The whole
maps decide (lib/decision/weight_search.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from lib.competition import metrics
from lib.config.competition import CompetitionSettings
from lib.inference.tta import SURE
from lib.oof.codes import BINS, HALF
from lib.oof.pixel_sample import PixelSample

GREEDY_ROUNDS = 30  # of the greedy search, at most
GREEDY_PATIENCE = 5  # rounds without a better mixture that end it
THRESHOLD_GRID = np.arange(8, 250, 8)  # thresholds of one class, in 1/255, while mixtures are compared


@dataclass(frozen=True)
class EnsembleWeights:
    """A weighted mean of the models' probabilities.

    `weights`: one per model; they add to 1. `mean`: arithmetic or geometric. The geometric mean is normalised so that
    the probabilities of all classes (of one class: object and background) add to 1.

    >>> probs = np.array([[[0.25]], [[0.75]]], np.float32)  # two models, one class, one pixel
    >>> EnsembleWeights((0.5, 0.5))(probs).tolist(), EnsembleWeights((1.0, 0.0))(probs).tolist()
    ([[0.5]], [[0.25]])
    """

    weights: tuple[float, ...]
    mean: str = "arithmetic"

    def __call__(self, probs: np.ndarray) -> np.ndarray:
        """Probabilities (S, K, …) float of S models → their mean (K, …) float32. Weights of 0 cost no time."""
        total = sum(w * self.to_mean_space(p) for w, p in zip(self.weights, probs, strict=True) if w)
        return self.from_mean_space(total)

    def to_mean_space(self, probs: np.ndarray) -> np.ndarray:
        """One model's probabilities (K, …) → the values whose weighted sum is the mean, such as logarithms."""
        probs = probs.astype(np.float32, copy=False)
        if self.mean == "arithmetic":
            return probs
        clear = np.clip(probs, SURE, 1 - SURE)
        return np.log(clear) - np.log1p(-clear) if len(probs) == 1 else np.log(clear)

    def from_mean_space(self, values: np.ndarray) -> np.ndarray:
        """The weighted sum (K, …) → probabilities (K, …) float32."""
        if self.mean == "arithmetic":
            return values
        return expit(values) if len(values) == 1 else softmax(values, axis=0)


def equal(models: int) -> tuple[float, ...]:
    return (1 / models,) * models


class MixtureScorer:
    """Scores weights of models on a sample of pixels, by the competition's metric.

    One class: at the best threshold of each mixture where thresholds are searched (`search`), else at one half. The
    threshold is fitted on the images that are scored, so these scores compare mixtures and predict nothing about other
    images.
    """

    def __init__(
        self, points: PixelSample, n_labels: int, mix: EnsembleWeights, config: CompetitionSettings, search: bool
    ):
        self._points, self._mix, self._config, self._search = points, mix, config, search
        self._images = int(points.image.max(initial=-1)) + 1
        self._labels = n_labels
        models = points.bins.transpose(1, 0, 2)
        self.values = [mix.to_mean_space(model.T / np.float32(BINS - 1)) for model in models]

    def score(self, weights: np.ndarray) -> float:
        weights = np.asarray(weights, np.float64) / np.sum(weights)
        return self.of_average(sum(np.float32(w) * x for w, x in zip(weights, self.values, strict=True) if w))

    def of_average(self, values: np.ndarray) -> float:
        """The score of a weighted sum (K, P) of `values`."""
        return self.of_probs(self._mix.from_mean_space(values))

    def of_probs(self, probs: np.ndarray) -> float:
        """The score of probabilities (K, P)."""
        if len(probs) > 1:
            found = metrics.counts_of(self.confusions(probs.argmax(0), self._labels))
            return metrics.score(self._config, found)
        counts = self.confusions((probs[0] * (BINS - 1) + 0.5).astype(np.int64), BINS)
        below = np.cumsum(counts, axis=-1)
        thresholds = THRESHOLD_GRID if self._search else np.array([HALF])
        candidates = [np.stack([below[..., t - 1], below[..., -1] - below[..., t - 1]], axis=-1) for t in thresholds]
        return max(metrics.score(self._config, metrics.counts_of(found)) for found in candidates)

    def confusions(self, guess: np.ndarray, columns: int) -> np.ndarray:
        """(N, n, columns): truth x guess of each image."""
        rows = 2 if columns == BINS else self._labels
        flat = (self._points.image * rows + self._points.truth) * columns + guess
        counts = np.bincount(flat, self._points.pixels, self._images * rows * columns)
        return counts.reshape(self._images, rows, columns)


def sampled_weights(scorer: MixtureScorer, models: int) -> tuple[float, ...]:
    """Weights found on a sample of pixels; equal ones where no others score better.

    Models are selected one by one with replacement (greedy ensemble selection, Caruana et al. 2004).
    """
    found = _greedy(scorer, models)
    return tuple(found) if scorer.score(found) > scorer.score(equal(models)) + 1e-9 else equal(models)


def _greedy(scorer: MixtureScorer, models: int) -> np.ndarray:
    taken, total = np.zeros(models), np.float32(0)
    best, best_score, since = taken, -np.inf, 0
    for count in range(1, GREEDY_ROUNDS + 1):
        scores = [scorer.of_average((total + values) / np.float32(count)) for values in scorer.values]
        chosen = int(np.argmax(scores))
        total, taken = total + scorer.values[chosen], taken + np.eye(models)[chosen]
        since += 1
        if scores[chosen] > best_score + 1e-9:
            best, best_score, since = taken / count, scores[chosen], 0
        if since == GREEDY_PATIENCE:
            break
    return best


def leave_one_out_gain(scorer: MixtureScorer, weights: tuple[float, ...]) -> list[float | None]:
    """How much the ensemble's score drops without each model; None where there is no other model."""
    weights, with_all = np.array(weights), scorer.score(weights)
    without = [np.where(np.arange(len(weights)) == i, 0, weights) for i in range(len(weights))]
    return [with_all - scorer.score(rest) if rest.sum() > 0 else None for rest in without]
