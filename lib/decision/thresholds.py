"""Thresholds, and labels that are never answered: fitted on counts, and how such fits are cross-fitted.

Classes that overlap are fitted one by one, each as the only class of a competition.
"""

from __future__ import annotations

import numpy as np

from lib.competition import metrics
from lib.config.competition import CompetitionSettings
from lib.oof.codes import BINS, HALF
from lib.oof.evaluation import Evaluation

JACKKNIFE_BLOCKS = 10  # of groups of images, one of which is left out at a time
HOLD_OUT_PARTS = 5  # parts of one fold's groups: each is decided by what was fitted on the rest
STANDARD_ERRORS = 0.5  # that are subtracted from what a threshold gains
FIRST_THRESHOLD, LAST_THRESHOLD, THRESHOLD_STEP = 5, 250, 5  # in 1/255
EMPTY_THRESHOLD = BINS  # the threshold that no pixel reaches, so that the answer is empty
SCORE_ROUNDING = 1e-9  # smaller differences between scores are rounding


def settings_of_class(config: CompetitionSettings, k: int) -> CompetitionSettings:
    """The settings of a competition of the k-th class alone, where classes overlap; else `config` itself."""
    if not config.multilabel:
        return config
    scoring = config.scoring.model_copy(update={"classes": []})
    alone = {"multilabel": False, "classes": [config.classes[k]], "score_background": False, "scoring": scoring}
    return config.model_copy(update=alone)


def crossed_by_threshold(
    evaluation: Evaluation, model: int, folds: np.ndarray, config: CompetitionSettings
) -> np.ndarray | None:
    """Counts (N, C, 3) of one model, each image decided by the threshold fitted on images of other groups.

    `folds` (N,): each image's fold. None where `cross_parts` cannot split the images.
    """
    crossed, parts = evaluation.class_counts(model).copy(), cross_parts(folds, evaluation.groups)
    for decided, others in parts:
        thresholds = fitted_thresholds(evaluation, model, others, config)
        crossed[decided] = evaluation.class_counts(model, thresholds)[decided]
    return crossed if parts else None


def cross_parts(folds: np.ndarray, groups: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Splits for cross-fitting: (images decided, images fitted on), (N,) bool each, with no group in common.

    Several folds: each fold's images are decided by the others. One fold (a hold-out): its `groups` (N,) are split into
    at most `HOLD_OUT_PARTS` parts, always in the same way. There is no split for a single group, since every decision
    would then be scored on images like those that it was fitted on. Without `groups`, each image is a group.
    """
    names, part = np.unique(folds, return_inverse=True)
    if len(names) < 2:
        names, group = np.unique(np.arange(len(folds)) if groups is None else groups, return_inverse=True)
        order = np.random.default_rng(0).permutation(len(names))
        part = (order % HOLD_OUT_PARTS)[group]
    splits = [(part == i, part != i) for i in range(part.max(initial=-1) + 1)]
    return splits if len(splits) > 1 else []


def crossed_by(folds: np.ndarray) -> str:
    """What `cross_parts` fits on, in words."""
    return "other folds" if len(np.unique(folds)) > 1 else "other groups of the fold"


def fitted_thresholds(
    evaluation: Evaluation, model: int, images: np.ndarray, config: CompetitionSettings
) -> tuple[int, ...]:
    """The threshold of each class, in 1/255, with the largest certain gain (`sure_gains`) over one half on the chosen
    images (N,).

    Of equally good thresholds the middle one is taken. Where few groups of images decide, the very best threshold is
    mostly chance. First every `THRESHOLD_STEP`th value is tried, then those between; where the counts have fewer bins,
    every bin. Last comes `EMPTY_THRESHOLD`, an empty answer, if there is any object.
    """
    classes, samples = range(evaluation.counts.shape[2]), jackknife(evaluation, images)
    return tuple(_fitted(evaluation.counts[images, model, k], samples, settings_of_class(config, k)) for k in classes)


def _fitted(counts: np.ndarray, samples: np.ndarray, config: CompetitionSettings) -> int:
    """The threshold of one class with counts (M, 2, B); `samples` (D, M) as `jackknife` gives them."""
    below, width = np.cumsum(counts, axis=-1, dtype=np.int64), BINS // counts.shape[-1]

    def scores(threshold: int) -> np.ndarray:
        """Of all chosen images, and without each block."""
        first = threshold // width
        found = np.stack([below[..., first - 1], below[..., -1] - below[..., first - 1]], axis=-1)
        return metrics.resampled(config, metrics.counts_of(found), samples)

    def best(thresholds: np.ndarray) -> int:
        gains = sure_gains(np.stack([scores(int(threshold)) for threshold in thresholds]) - half)
        top = thresholds[gains >= gains.max() - SCORE_ROUNDING]
        return int(top[len(top) // 2])

    half = scores(HALF)
    if width == 1:
        near = best(np.arange(FIRST_THRESHOLD, LAST_THRESHOLD + 1, THRESHOLD_STEP))
        first, last = near - THRESHOLD_STEP + 1, near + THRESHOLD_STEP - 1
        near = best(np.arange(max(FIRST_THRESHOLD, first), min(LAST_THRESHOLD, last) + 1))
    else:
        near = best(np.arange(width, BINS, width))
    return best(np.array([EMPTY_THRESHOLD, near])) if counts[:, 1].any() else near  # of equals the last one


def jackknife(evaluation: Evaluation, images: np.ndarray) -> np.ndarray:
    """Jackknife samples (D, M) bool of the M chosen images: all of them, then all but each block of groups.

    There are at most `JACKKNIFE_BLOCKS` blocks, and none where all images are of one group.
    """
    groups = np.arange(len(images)) if evaluation.groups is None else evaluation.groups
    block = np.unique(groups[images], return_inverse=True)[1] % JACKKNIFE_BLOCKS
    rests = [block != i for i in range(block.max() + 1)] if block.max() else []
    return np.stack([np.ones(len(block), bool), *rests])


def sure_gains(gains: np.ndarray) -> np.ndarray:
    """Gains (C, D) of C choices on the samples of `jackknife` → gains on all images (C,), minus `STANDARD_ERRORS` times
    the jackknife's standard error."""
    rests = gains.shape[1] - 1
    return gains[:, 0] - (STANDARD_ERRORS * np.sqrt((rests - 1) * gains[:, 1:].var(1)) if rests else 0)


def fitted_left_out(evaluation: Evaluation, images: np.ndarray, config: CompetitionSettings) -> tuple[int, ...]:
    """Of several classes with background: the labels that `sure_gains` says are better never answered.

    These are all labels that gain on their own, or all labels, which is an empty answer. Many metrics give a class 1 in
    an image where neither truth nor answer has it, so that a few false pixels can cost more than hits gain. A label
    that occurs in no truth stays, since nothing is known about it.
    """
    samples, occurs = jackknife(evaluation, images), evaluation.counts[images, 0, :, 1].any(0)

    def scores(labels: tuple[int, ...]) -> np.ndarray:
        return metrics.resampled(config, evaluation.leaving_out(labels).class_counts(0)[images], samples)

    labels, plain = range(1, evaluation.counts.shape[2]), scores(())
    single = sure_gains(np.stack([scores((label,)) for label in labels]) - plain)
    better = [label for label, gain in zip(labels, single, strict=True) if gain > SCORE_ROUNDING and occurs[label]]
    choices = [(), tuple(better), *[tuple(labels)] * bool(occurs[1:].all())]
    gains = sure_gains(np.stack([scores(choice) for choice in choices]) - plain)
    return choices[int(np.argmax(gains > gains.max() - SCORE_ROUNDING))]  # of equally good choices the first
