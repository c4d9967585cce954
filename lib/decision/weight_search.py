"""Weights of models, fitted on whole maps.

All means (lib/decision/ensemble_weights.py) lie between the models' own values. Pixels for which all models say the
same, which are most, are therefore counted once. Only the others are averaged again for each of the weights tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from lib.competition import metrics
from lib.competition.scoring import count_classes
from lib.config.competition import CompetitionSettings
from lib.decision.ensemble_weights import THRESHOLD_GRID, EnsembleWeights, equal, score_at_best_thresholds
from lib.decision.search import search_in_passes
from lib.oof.codes import BINS, HALF, to_probs_u8
from lib.oof.evaluation import COUNT_TYPE
from lib.tables import IGNORE

Weights = tuple[float, ...]
WEIGHT_PASSES = 4  # rounds of passes over the maps, at most
NUMBERS_PER_PASS = 2**25  # numbers that a pass counts: weights x images x counts of each
THRESHOLDS_REACHED = np.searchsorted(THRESHOLD_GRID, np.arange(BINS), "right").astype(np.uint8)  # by each uint8 value


@dataclass(frozen=True)
class MixtureCounter:
    """Counts what weighted means, averaged as `mix` does, decide of some pixels.

    `labels`: how many label indices there are. `settings` say what decides among them.
    """

    mix: EnsembleWeights
    labels: int
    settings: CompetitionSettings

    def count(self, images: Iterable[Iterable[tuple[np.ndarray, np.ndarray]]], tried: list[Weights]) -> np.ndarray:
        """One pass over the maps: counts (T, N, …) of each of the T weights `tried`.

        `images`: the blocks of each image, the models' probabilities (S, K, P) uint8 and the truth planes (T, P).
        Several classes: `count_classes` (n, 3). Classes that thresholds decide: (K, 2, M), truth x how many values of
        `THRESHOLD_GRID` the average reaches.
        """
        return np.stack([sum(self._of_block(*block, tried) for block in blocks) for blocks in images], 1)

    def _of_block(self, probs_u8: np.ndarray, truth: np.ndarray, tried: list[Weights]) -> np.ndarray:
        if not self.settings.binary:
            return self._of_plane(probs_u8, truth[0], tried)
        planes = zip(probs_u8.swapaxes(0, 1)[:, :, None], truth, strict=True)
        counts = [self._of_plane(probs, true, tried) for probs, true in planes]
        return np.stack(counts, 1).astype(COUNT_TYPE if self.settings.multilabel else np.int64)

    def _of_plane(self, probs_u8: np.ndarray, truth: np.ndarray, tried: list[Weights]) -> np.ndarray:
        """(T, …) of the labels of one plane: probabilities (S, C, P) and truth (P,)."""
        known, binary = truth != IGNORE, self.settings.binary
        probs_u8, truth = (probs_u8, truth) if known.all() else (probs_u8[:, :, known], truth[known])
        decided = THRESHOLDS_REACHED[probs_u8[:, 0]] if binary else probs_u8.argmax(1)
        undisputed = (decided == decided[0]).all(0)
        counts = np.array([self._counts(decided[0, undisputed], truth[undisputed])] * len(tried))
        if not undisputed.all():
            values = [self.mix.to_mean_space(model[:, ~undisputed] / np.float32(BINS - 1)) for model in probs_u8]
            for i, weights in enumerate(tried):
                weighted = (weight * value for weight, value in zip(weights, values, strict=True) if weight)
                probs = self.mix.from_mean_space(sum(weighted))
                mixed = THRESHOLDS_REACHED[to_probs_u8(probs[0])] if binary else probs.argmax(0)
                counts[i] += self._counts(mixed, truth[~undisputed])
        return counts

    def _counts(self, decided: np.ndarray, truth: np.ndarray) -> np.ndarray:
        if not self.settings.binary:
            return count_classes(truth, decided, self.labels)
        columns = len(THRESHOLD_GRID) + 1
        flat = truth.astype(np.int64) * columns + decided
        return np.bincount(flat, minlength=2 * columns).reshape(2, columns)


def neighbours(weights: Weights) -> list[Weights]:
    """The same weights without each model, and with half and twice the weight of each."""
    found = []
    for i in range(len(weights)):
        for factor in (0.0, 0.5, 2.0):
            changed = np.array(weights)
            changed[i] = changed[i] * factor if weights[i] else (factor == 2.0) * changed.max() / 2
            if changed.sum() > 0:
                found.append(normalised(changed))
    return [changed for changed in dict.fromkeys(found) if changed != tuple(weights)]


def normalised(weights: np.ndarray | Weights) -> Weights:
    """Weights that add to 1."""
    return tuple((np.array(weights, np.float64) / np.sum(weights)).round(9).tolist())


@dataclass(frozen=True)
class WeightObjective:
    """The score of weights on the chosen `images` (N,) bool.

    Classes that thresholds decide: at the best of `THRESHOLD_GRID` where these are searched (`search`), else at 0.5.
    """

    images: np.ndarray
    config: CompetitionSettings
    search: bool

    def score(self, counts: np.ndarray) -> float:
        """Of counts (N, …) as `MixtureCounter` makes them."""
        counts = counts[self.images]
        if not self.config.binary:
            return metrics.score(self.config, counts)
        places = range(len(THRESHOLD_GRID)) if self.search else [int(np.searchsorted(THRESHOLD_GRID, HALF))]
        return score_at_best_thresholds(counts, places, self.config)

    def proposals(self, state: Weights, counts: np.ndarray) -> list[Weights]:
        return neighbours(state)


def search_weights(
    count: Callable[[list[Weights]], np.ndarray], starts: list[list[Weights]], objectives: list[WeightObjective]
) -> list[Weights]:
    """The weights that score best, for each objective; equal ones where none is better.

    `starts`: each objective's weights to try first, after equal ones. `count` makes a pass, as `MixtureCounter`.
    """
    config, images = objectives[0].config, len(objectives[0].images)
    each = 2 * len(THRESHOLD_GRID) + 2
    each = each * len(config.classes) if config.multilabel else max(each, 3 * len(config.classes) + 3)
    per_pass = NUMBERS_PER_PASS // max(1, images * each)
    starts = [list(dict.fromkeys([equal(len(first)), first, *others])) for first, *others in starts]
    return search_in_passes(count, starts, objectives, WEIGHT_PASSES, max(1, per_pass))
