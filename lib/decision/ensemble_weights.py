"""One map of several systems' (experiment x seed x weights): which mean, and how much each counts.

Weights belong to systems and are shared over folds, since an image has an out-of-fold map from one fold only. A sample
of pixels (lib/oof/map_files.py) says where to search. The whole maps decide (lib/decision/weight_search.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

from lib.competition import metrics
from lib.config.competition import Competition
from lib.inference.tta import SURE
from lib.oof.evaluate import BINS, HALF
from lib.oof.map_files import Points

ROUNDS = 30  # of the greedy search
CUTS = np.arange(8, 250, 8)  # bins that are thresholds of one class while mixtures are compared
PATIENCE = 5  # of them without a better mixture end it


@dataclass(frozen=True)
class Mix:
    """`weights` of the systems, which add to 1; `mean`: arithmetic, geometric or power (of `power`).

    The geometric mean is normalised, so that the classes' probabilities (one class: its own and the rest's) add to 1.
    """

    weights: tuple[float, ...]
    mean: str = "arithmetic"
    power: float = 2.0

    def __call__(self, probs: np.ndarray) -> np.ndarray:
        """(S, K, …) float → (K, …) float32; systems of weight 0 are not looked at."""
        total = sum(w * self.lift(p) for w, p in zip(self.weights, probs, strict=True) if w)
        return self.lower(total)

    def lift(self, probs: np.ndarray) -> np.ndarray:
        """(K, …) → what is averaged with weights."""
        probs = probs.astype(np.float32, copy=False)
        if self.mean == "arithmetic":
            return probs
        if self.mean == "power":
            return probs**self.power
        clear = np.clip(probs, SURE, 1 - SURE)
        return np.log(clear) - np.log1p(-clear) if len(probs) == 1 else np.log(clear)

    def lower(self, values: np.ndarray) -> np.ndarray:
        """The average → probabilities (K, …) float32."""
        if self.mean == "arithmetic":
            return values
        if self.mean == "power":
            return values ** np.float32(1 / self.power)
        return expit(values) if len(values) == 1 else softmax(values, axis=0)


def equal(systems: int) -> tuple[float, ...]:
    return (1 / systems,) * systems


class Judge:
    """Scores mixtures on a sample of pixels of some images, by the competition's metric.

    One class: by the threshold that is best for each, where thresholds are searched (`search`), else at one half. It is
    best on the images that are scored, so such scores compare mixtures and say nothing of other images.
    """

    def __init__(self, points: Points, n_labels: int, mix: Mix, config: Competition, search: bool):
        self._points, self._mix, self._config, self._search = points, mix, config, search
        self._images = int(points.image.max(initial=-1)) + 1
        self._labels = n_labels
        self.lifted = [mix.lift(system.T / np.float32(BINS - 1)) for system in points.bins.transpose(1, 0, 2)]

    def score(self, weights: np.ndarray) -> float:
        weights = np.asarray(weights, np.float64) / np.sum(weights)
        return self.of_average(sum(np.float32(w) * x for w, x in zip(weights, self.lifted, strict=True) if w))

    def of_average(self, values: np.ndarray) -> float:
        """The score of an average (K, P) of `lifted`."""
        return self.of_probs(self._mix.lower(values))

    def of_probs(self, probs: np.ndarray) -> float:
        """The score of probabilities (K, P)."""
        if len(probs) > 1:
            found = metrics.counts_of(self.confusions(probs.argmax(0), self._labels))
            return metrics.score(self._config, found)
        counts = self.confusions((probs[0] * (BINS - 1) + 0.5).astype(np.int64), BINS)
        below = np.cumsum(counts, axis=-1)
        cuts = CUTS if self._search else np.array([HALF])
        candidates = [np.stack([below[..., t - 1], below[..., -1] - below[..., t - 1]], axis=-1) for t in cuts]
        return max(metrics.score(self._config, metrics.counts_of(found)) for found in candidates)

    def confusions(self, guess: np.ndarray, columns: int) -> np.ndarray:
        """(N, n, columns): truth x guess of every image."""
        rows = 2 if columns == BINS else self._labels
        flat = (self._points.image * rows + self._points.truth) * columns + guess
        counts = np.bincount(flat, self._points.pixels, self._images * rows * columns)
        return counts.reshape(self._images, rows, columns)


def sampled_weights(judge: Judge, systems: int, how: str) -> tuple[float, ...]:
    """`equal`; `greedy`: selected one by one with replacement (Caruana 2004); `simplex`: Powell's search from equal.

    Equal weights are kept where nothing found scores better.
    """
    if how == "equal" or systems == 1:
        return equal(systems)
    found = _greedy(judge, systems) if how == "greedy" else _simplex(judge, systems)
    return tuple(found) if judge.score(found) > judge.score(equal(systems)) + 1e-9 else equal(systems)


def _greedy(judge: Judge, systems: int) -> np.ndarray:
    taken, total = np.zeros(systems), np.float32(0)
    best, best_score, since = taken, -np.inf, 0
    for count in range(1, ROUNDS + 1):
        scores = [judge.of_average((total + lifted) / np.float32(count)) for lifted in judge.lifted]
        chosen = int(np.argmax(scores))
        total, taken = total + judge.lifted[chosen], taken + np.eye(systems)[chosen]
        since += 1
        if scores[chosen] > best_score + 1e-9:
            best, best_score, since = taken / count, scores[chosen], 0
        if since == PATIENCE:
            break
    return best


def _simplex(judge: Judge, systems: int) -> np.ndarray:
    found = minimize(
        lambda x: -judge.score(np.abs(x) + 1e-9), np.ones(systems), method="Powell", bounds=[(0, 1)] * systems,
        options={"maxfev": 60 * systems, "xtol": 0.01, "ftol": 1e-5},
    ).x  # fmt: skip
    weights = found / found.sum() if found.sum() > 0 else np.ones(systems) / systems
    weights[weights < 0.01] = 0
    return weights / weights.sum()


def adds(judge: Judge, weights: tuple[float, ...]) -> list[float | None]:
    """What each system adds to the mixture: its score less that without the system; None for one that stands alone."""
    weights, with_all = np.array(weights), judge.score(weights)
    without = [np.where(np.arange(len(weights)) == i, 0, weights) for i in range(len(weights))]
    return [with_all - judge.score(rest) if rest.sum() > 0 else None for rest in without]
