"""What turns probabilities into labels. Fitted on out-of-fold counts, saved, applied unchanged to test."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lib.competition import metrics
from lib.config.competition import Competition
from lib.inference.evaluate import BINS, Evaluation, quantised
from lib.workspace import read_json, write_json


@dataclass(frozen=True)
class Decision:
    """`threshold` in bins of 1/255 for one class; None for argmax. Scores are out-of-fold.

    `cross_score`: each image decided by the threshold fitted on the other folds' images, so that the
    gain over 0.5 is not the fit's own.
    """

    threshold: int | None
    score: float
    half_score: float
    cross_score: float

    def apply(self, probs: np.ndarray) -> np.ndarray:
        """Probabilities (K, h, w) → label indices (h, w) uint8."""
        return self.labels(quantised(probs))

    def labels(self, map_: np.ndarray) -> np.ndarray:
        """The same of what is already `quantised` (h, w)."""
        return map_ if self.threshold is None else (map_ >= self.threshold).astype(np.uint8)

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @staticmethod
    def load(path: Path) -> Decision:
        return Decision(**read_json(path, {}))


def fit_decision(evaluation: Evaluation, system: int, folds: np.ndarray, config: Competition, search: bool) -> Decision:
    """The decision that scores best on an evaluation's images; `folds` (N,) names each image's fold."""
    half = metrics.score(config, evaluation.confusions(system))
    if not evaluation.binary:
        return Decision(None, half, half, half)
    if not search:
        return Decision(BINS // 2, half, half, half)
    everything = np.ones(len(folds), bool)
    best = best_threshold(evaluation, system, everything, config)
    score = metrics.score(config, evaluation.confusions(system, best))
    crossed = evaluation.confusions(system, best).copy()
    for fold in np.unique(folds) if len(np.unique(folds)) > 1 else []:
        here = folds == fold
        crossed[here] = evaluation.confusions(system, best_threshold(evaluation, system, ~here, config))[here]
    return Decision(best, score, half, metrics.score(config, crossed))


def best_threshold(evaluation: Evaluation, system: int, images: np.ndarray, config: Competition) -> int:
    """The bin that maximises the metric over the chosen images; the middle of a plateau."""
    candidates = np.arange(5, 251)
    scores = np.array([metrics.score(config, evaluation.confusions(system, int(t))[images]) for t in candidates])
    top = candidates[scores >= scores.max() - 1e-9]
    return int(top[len(top) // 2])
