"""The best constant answer (one label everywhere), and a warning where the ensemble is no better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.competition import metrics
from lib.config.competition import CompetitionSettings
from lib.decision.fit import Fitted
from lib.decision.thresholds import SCORE_ROUNDING, settings_of_class
from lib.oof.evaluation import Evaluation


@dataclass(frozen=True)
class Constant:
    """`labels`: indices of what every pixel of every image gets, one or, of classes that overlap, any number. `score`:
    its score on all out-of-fold images."""

    labels: tuple[int, ...]
    score: float


def best_constant(oof: Evaluation, config: CompetitionSettings) -> Constant:
    """The best constant answer for the images of an evaluation, of which only the truth is used.

    Of classes that overlap, each is everywhere or nowhere, as scores better for the class alone.
    """
    if oof.overlap:
        alone = [best_constant(oof.of_class(k), settings_of_class(config, k)) for k in range(oof.counts.shape[2])]
        labels = tuple(k for k, constant in enumerate(alone) if constant.labels == (1,))
        return Constant(labels, metrics.score(config, _everywhere(oof, labels)))
    scores = [metrics.score(config, _everywhere(oof, (label,))) for label in range(oof.known().shape[1])]
    best = int(np.argmax(scores))
    return Constant((best,), scores[best])


def _everywhere(oof: Evaluation, labels: tuple[int, ...]) -> np.ndarray:
    """Counts (N, n, 3) of the answer that gives every pixel these labels."""
    truth, known, chosen = oof.class_counts(-1)[..., 1], oof.known(), list(labels)
    answer = np.zeros((*known.shape, 3), np.int64)
    answer[..., 1] = truth
    answer[:, chosen, 0], answer[:, chosen, 2] = truth[:, chosen], known[:, chosen]
    return answer


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
    named = [repr(config.label_names[label]) for label in constant.labels if label >= config.first_class]
    answer = f"{', '.join(named)} at every pixel" if named else "an empty answer (no object in any image)"
    nothing = config.background and not fitted.counts[:, config.first_class :, 2].any()
    consequence = ", so answers are left empty" if nothing else ""
    return (
        f"warning: the out-of-fold score is {score:.4f} ({name}{by}), not better than the {constant.score:.4f} of "
        f"{answer}{consequence}; check the labels on the report's worst images and train longer (train.epochs, "
        "train.member_limit) before you upload this"
    )
