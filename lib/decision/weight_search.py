"""Weights of models, fitted on whole maps.

All means (lib/decision/ensemble_weights.py) lie between the models' own values. Pixels for which all models say the
same, which are most, are therefore counted once. Only the others are averaged again for each of the weights tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from lib.competition import metrics
from lib.config.competition import CompetitionSettings
from lib.decision.class_search import class_counts
from lib.decision.ensemble_weights import THRESHOLD_GRID, EnsembleWeights, equal
from lib.decision.search import search_in_passes
from lib.oof.codes import BINS, HALF, to_probs_u8

Weights = tuple[float, ...]
WEIGHT_PASSES = 4  # rounds of passes over the maps, at most
NUMBERS_PER_PASS = 2**25  # numbers that a pass counts: weights x images x counts of each
THRESHOLDS_REACHED = np.searchsorted(THRESHOLD_GRID, np.arange(BINS), "right").astype(np.uint8)  # by each uint8 value


def count_mixtures(
    images: Iterable[Iterable[tuple[np.ndarray, np.ndarray]]], mix: EnsembleWeights, tried: list[Weights], n: int
) -> np.ndarray:
    """One pass over the maps: counts (T, N, …) of each of the T weights `tried`, averaged as `mix` does.

    `images`: the blocks of each image, the models' probabilities (S, K, P) uint8 and the truth (P,). Several classes:
    `class_counts` (n, 3). One class: truth x how many values of `THRESHOLD_GRID` the average reaches.
    """
    found = []
    for blocks in images:
        total: np.ndarray | int = 0
        for probs_u8, truth in blocks:
            channels = probs_u8.shape[1]
            decided = THRESHOLDS_REACHED[probs_u8[:, 0]] if channels == 1 else probs_u8.argmax(1)
            same = (decided == decided[0]).all(0)
            counts = np.array([_counts(decided[0, same], truth[same], channels, n)] * len(tried))
            if not same.all():
                values = [mix.to_mean_space(model[:, ~same] / np.float32(BINS - 1)) for model in probs_u8]
                for i, weights in enumerate(tried):
                    probs = mix.from_mean_space(sum(w * one for w, one in zip(weights, values, strict=True) if w))
                    mixed = THRESHOLDS_REACHED[to_probs_u8(probs[0])] if channels == 1 else probs.argmax(0)
                    counts[i] += _counts(mixed, truth[~same], channels, n)
            total = total + counts
        found.append(total)
    return np.stack(found, 1)


def _counts(decided: np.ndarray, truth: np.ndarray, channels: int, n: int) -> np.ndarray:
    if channels == 1:
        columns = len(THRESHOLD_GRID) + 1
        flat = truth.astype(np.int64) * columns + decided
        return np.bincount(flat, minlength=2 * columns).reshape(2, columns)
    return class_counts(truth, decided, n)


def neighbours(weights: Weights) -> list[Weights]:
    """The same weights without each model, and with half and twice the weight of each."""
    found = []
    for i in range(len(weights)):
        for factor in (0.0, 0.5, 2.0):
            changed = np.array(weights)
            changed[i] = changed[i] * factor if weights[i] else (factor == 2.0) * changed.max() / 2
            if changed.sum() > 0:
                found.append(normalised(changed))
    return [one for one in dict.fromkeys(found) if one != tuple(weights)]


def normalised(weights: np.ndarray | Weights) -> Weights:
    """Weights that add to 1."""
    return tuple((np.array(weights, np.float64) / np.sum(weights)).round(9).tolist())


@dataclass(frozen=True)
class WeightObjective:
    """The score of weights on the chosen `images` (N,) bool.

    One class: at the best of `THRESHOLD_GRID` where thresholds are searched (`search`), else at one half.
    """

    images: np.ndarray
    config: CompetitionSettings
    search: bool

    def score(self, counts: np.ndarray) -> float:
        """Of counts (N, …) as `count_mixtures` makes them."""
        counts = counts[self.images]
        if counts.shape[-1] == 3:
            return metrics.score(self.config, counts)
        places = range(len(THRESHOLD_GRID)) if self.search else [int(np.searchsorted(THRESHOLD_GRID, HALF))]
        below = counts.cumsum(-1)
        matrices = (np.stack([below[..., i], below[..., -1] - below[..., i]], -1) for i in places)
        return max(metrics.score(self.config, metrics.counts_of(one)) for one in matrices)

    def proposals(self, state: Weights, counts: np.ndarray) -> list[Weights]:
        return neighbours(state)


def search_weights(
    count: Callable[[list[Weights]], np.ndarray], starts: list[list[Weights]], objectives: list[WeightObjective]
) -> list[Weights]:
    """The weights that score best, for each objective; equal ones where none is better.

    `starts`: each objective's weights to try first, after equal ones. `count` makes a pass, as `count_mixtures`.
    """
    config, images = objectives[0].config, len(objectives[0].images)
    per_pass = NUMBERS_PER_PASS // max(1, images * max(2 * len(THRESHOLD_GRID) + 2, 3 * len(config.classes) + 3))
    starts = [list(dict.fromkeys([equal(len(first)), first, *others])) for first, *others in starts]
    return search_in_passes(count, starts, objectives, WEIGHT_PASSES, max(1, per_pass))
