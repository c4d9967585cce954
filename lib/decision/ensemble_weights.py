"""Ensemble weights: how the maps of several models become one map.

A model is an experiment, a seed and a kind of weights. Its weight in the ensemble is shared over folds, since an image
has an out-of-fold map from one fold only. A sample of pixels (lib/oof/map_files.py) says where to search. The whole
maps decide (lib/decision/weight_search.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax

from lib.competition import metrics
from lib.config.competition import CompetitionSettings
from lib.decision.thresholds import settings_of_class
from lib.inference.tta import MIN_PROBABILITY
from lib.oof.codes import BINS, HALF
from lib.oof.pixel_sample import PixelSample
from lib.tables import IGNORE

GREEDY_ROUNDS = 30  # of the greedy search, at most
GREEDY_PATIENCE = 5  # rounds without a better mixture that end it
THRESHOLD_GRID = np.arange(8, 250, 8)  # thresholds of a class, in 1/255, while mixtures are compared


@dataclass(frozen=True)
class EnsembleWeights:
    """A weighted mean of the models' probabilities.

    `weights`: one per model; they add to 1. `mean`: arithmetic, geometric, or odds. The geometric mean is normalised so
    that the probabilities of all classes (of one class: object and background) add to 1. `odds` is the geometric mean
    of classes that overlap: each one and the rest add to 1.

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
        clear = np.clip(probs, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        return np.log(clear) - np.log1p(-clear) if self._of_odds(probs) else np.log(clear)

    def from_mean_space(self, values: np.ndarray) -> np.ndarray:
        """The weighted sum (K, …) → probabilities (K, …) float32."""
        if self.mean == "arithmetic":
            return values
        return expit(values) if self._of_odds(values) else softmax(values, axis=0)

    def _of_odds(self, values: np.ndarray) -> bool:
        return self.mean == "odds" or len(values) == 1


def equal(models: int) -> tuple[float, ...]:
    return (1 / models,) * models


def score_at_best_thresholds(counts: np.ndarray, places: Iterable[int], config: CompetitionSettings) -> float:
    """The score of counts (N, K, 2, M), truth x bin, where each class has the best of its own thresholds.

    `places`: a threshold after each of these bins is tried.
    """
    best = []
    for k in range(counts.shape[1]):
        below, settings = counts[:, k].cumsum(-1, dtype=np.int64), settings_of_class(config, k)
        tables = (np.stack([below[..., i], below[..., -1] - below[..., i]], -1) for i in places)
        best.append(max(map(metrics.counts_of, tables), key=lambda found: metrics.score(settings, found)))
    return metrics.score(config, np.stack([found[:, 1] for found in best], 1) if config.multilabel else best[0])


class MixtureScorer:
    """Scores weights of models on a sample of pixels, by the competition's metric.

    Classes that thresholds decide: at the best thresholds of each mixture where they are searched (`search`), else at
    one half. They are fitted on the images that are scored, so these scores compare mixtures and predict nothing about
    other images.
    """

    def __init__(
        self, points: PixelSample, n_labels: int, mix: EnsembleWeights, config: CompetitionSettings, search: bool
    ):
        self._points, self._mix, self._config = points, mix, config
        self._places = (THRESHOLD_GRID if search else np.array([HALF])) - 1
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
        if not self._config.binary:
            shape = self._labels, self._labels
            found = metrics.counts_of(self._counts(self._points.truth, probs.argmax(0), shape))
            return metrics.score(self._config, found)
        truth = self._points.truth.reshape(len(probs[0]), -1).T
        codes = (probs * (BINS - 1) + 0.5).astype(np.int64)
        counts = np.stack([self._counts(*one, (2, BINS)) for one in zip(truth, codes, strict=True)], 1)
        return score_at_best_thresholds(counts, self._places, self._config)

    def _counts(self, truth: np.ndarray, guess: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """(N, *shape): truth x guess of each image."""
        points, known = self._points, truth != IGNORE
        flat = (points.image[known] * shape[0] + truth[known]) * shape[1] + guess[known]
        counts = np.bincount(flat, points.pixels[known], self._images * shape[0] * shape[1])
        return counts.reshape(self._images, *shape)


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
