"""The best constant answer (one label everywhere), and a warning where the ensemble is no better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.competition import metrics
from lib.config.competition import CompetitionSettings
from lib.decision.decision import SCORE_ROUNDING
from lib.decision.fit import Fitted


@dataclass(frozen=True)
class Constant:
    """`label` is the index that every pixel of every image gets; `score` is its score on all out-of-fold images."""

    label: int
    score: float


def best_constant(counts: np.ndarray, config: CompetitionSettings) -> Constant:
    """The best constant answer for images with counts (N, n, 3), of which only the truth is used."""
    truth, scores = counts[..., 1], []
    for label in range(truth.shape[1]):
        answer = np.zeros_like(counts)
        answer[..., 1] = truth
        answer[:, label, 0], answer[:, label, 2] = truth[:, label], truth.sum(1)
        scores.append(metrics.score(config, answer))
    best = int(np.argmax(scores))
    return Constant(best, scores[best])


def warning_of(constant: Constant, fitted: Fitted, config: CompetitionSettings) -> str:
    """A sentence where the decision scores no better than the best constant answer, else an empty text.

    The decision's cross-fitted score is compared, where there is one.
    """
    crossed, decision = fitted.crossed, fitted.decision
    score = decision.score if crossed is None else decision.cross_score
    if score > constant.score + SCORE_ROUNDING:
        return ""
    metric = metrics.metric_of(config)
    name = getattr(metric, "stand_in", config.metric)
    by = f", fitted on {crossed.by}" if crossed else ""
    names = (["background"] if config.background else []) + config.classes
    empty = config.background and constant.label == 0
    answer = "an empty answer (no object in any image)" if empty else f"{names[constant.label]!r} at every pixel"
    consequence = ", so answers are left empty" if config.background and not fitted.counts[:, 1:, 2].any() else ""
    return (
        f"warning: the out-of-fold score is {score:.4f} ({name}{by}), not better than the {constant.score:.4f} of "
        f"{answer}{consequence}; check the labels on the report's worst images and train longer (train.epochs, "
        "train.member_limit) before you upload this"
    )
