"""Fits ensemble weights and decision on out-of-fold maps, and scores them by cross-fitting.

Whole maps are read one image at a time, and only counts are kept (lib/decision/counting.py). The decision for test
images is fitted on all out-of-fold images. To score it, the same steps are fitted on the other folds and decide each
fold's images; in a hold-out of one fold, groups of images take the place of folds (`cross_parts`).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lib.competition import metrics
from lib.config import Config
from lib.decision.decision import Decision
from lib.decision.ensemble_weights import EnsembleWeights, MixtureScorer, equal
from lib.decision.objects.fit_rules import ObjectRules
from lib.decision.thresholds import cross_parts, crossed_by, fitted_left_out, fitted_thresholds
from lib.decision.whole_maps import WholeMaps
from lib.errors import UserError
from lib.inference.checkpoints import Checkpoint
from lib.oof.evaluation import Evaluation
from lib.oof.map_files import Maps
from lib.oof.previews import PreviewFile, PreviewWriter


@dataclass(frozen=True)
class Fitted:
    """A decision fitted on all images, and its counts on the same images, whose scores therefore flatter it.

    `counts` (N, C, 3) are those that metrics take. `tables`: truth x decision, over all images (`Evaluation.tables`).
    `crossed`: the same steps on images that they were not fitted on; None where all images are of one group.
    """

    decision: Decision
    counts: np.ndarray
    tables: np.ndarray
    crossed: Crossed | None


@dataclass(frozen=True)
class Crossed:
    """Counts (N, C, 3) of the decision and of simpler ones, on images that they were not fitted on (`cross_parts`).

    `equal`: the mean of all networks with a fitted threshold, or argmax. `mixed_half`: the weighted ensemble at 0.5, or
    argmax. `mixed`: with a fitted threshold. `gated`: with its presence gate, too. `decided`: the whole decision.
    `weights`: the models' weights for each part of the images. `by`: what was fitted on, in words.
    """

    equal: np.ndarray
    mixed_half: np.ndarray
    mixed: np.ndarray
    gated: np.ndarray
    decided: np.ndarray
    weights: list[tuple[float, ...]]
    by: str


def needs_maps(config: Config, models: int) -> bool:
    """Whether the options ask for more than a threshold on the mean of all networks, so that maps must be kept."""
    return bool(config.infer.postprocess) or config.infer.gated or mixes(config, models)


def mixes(config: Config, models: int) -> bool:
    """Whether the options ask for another average than the mean of all networks."""
    return models > 1 and (config.infer.ensemble_weights != "equal" or config.infer.averaging != "arithmetic")


def check_decide(config: Config) -> None:
    """Raises UserError when `infer.postprocess` asks for what this competition's labels cannot have."""
    settings = config.competition
    wrong = [word for word in config.infer.postprocess if word == ("priors" if settings.binary else "holes")]
    if wrong and settings.multilabel:
        raise UserError(
            "infer.postprocess priors: factors of classes choose among classes that exclude one another, and those of "
            f"{settings.name} overlap (competition.multilabel), so that each has a threshold of its own; leave it out"
        )
    if wrong:
        wanted, has = ("several classes", "one") if settings.binary else ("one class", "several")
        raise UserError(
            f"infer.postprocess {wrong[0]}: this is for competitions of {wanted}, and {settings.name} has {has}; leave "
            "it out"
        )


def without_idle(parts: list[Checkpoint], models: list[str], decision: Decision) -> tuple[list[Checkpoint], Decision]:
    """The networks whose model has a weight above 0, and the decision with these weights alone."""
    if decision.mix is None:
        return parts, decision
    counting = {name: weight for name, weight in zip(models, decision.mix.weights, strict=True) if weight}
    mix = replace(decision.mix, weights=tuple(counting.values()))
    return [part for part in parts if part.model in counting], replace(decision, mix=mix)


def mixture_scorer(oof: Evaluation, fitted: Fitted, config: Config) -> MixtureScorer:
    """Scores weights of the evaluation's models, averaged as the decision does."""
    mix = fitted.decision.mix or EnsembleWeights(equal(oof.counts.shape[1] - 1))
    search = oof.binary and config.infer.threshold == "fit"
    return MixtureScorer(oof.points, len(config.competition.label_names), mix, config.competition, search)


class Fitting(ObjectRules):
    """Fits decisions on some images of an evaluation and decides others.

    Arguments:
        oof: counts of each model on N images; the mean of all networks comes last.
        maps: the whole out-of-fold maps; None where `needs_maps` is false.
        n_labels: how many label indices there are.
        folder: where large intermediate results are kept in files.
    """

    def __init__(self, oof: Evaluation, maps: Maps | None, n_labels: int, config: Config, folder: Path | None = None):
        super().__init__(oof, maps, n_labels, config, folder)
        self.models = oof.counts.shape[1] - 1
        self.search = oof.binary and config.infer.threshold == "fit"
        self.whole = WholeMaps(oof, maps, n_labels, config)
        # Rules of objects can leave out a class themselves. With factors, the counts of argmax are not what is decided.
        fitted = {"objects", "largest", "priors"} & set(config.infer.postprocess) or config.infer.threshold == "half"
        self.may_leave_out = oof.beside is not None and config.competition.background and not fitted

    def fit(self, chosen: list[np.ndarray]) -> list[Decision]:
        """A decision for each choice of images, (N,) bool; passes over the maps serve all choices."""
        mixes = self.mixes(chosen)
        gates = self.gates(mixes, chosen)
        factors = [None] * len(chosen)
        if not self.oof.binary and "priors" in self.config.infer.postprocess:
            factors = self.whole.factors(mixes, gates, chosen)
        made = zip(mixes, gates, factors, chosen, strict=True)
        halves = self.oof.halves
        return [self.decision(Decision(halves, mix=m, gates=g, factors=f), images) for m, g, f, images in made]

    def decision(self, decision: Decision, chosen: np.ndarray) -> Decision:
        """The decision with the thresholds and the rules of objects fitted on the `chosen` images (N,) bool."""
        decide = self.config.infer.postprocess
        if self.search:
            counts = self.counts(decision.mix, decision.gates)
            decision = replace(decision, thresholds=fitted_thresholds(counts, 0, chosen, self.config.competition))
        elif self.may_leave_out:
            counts = self.counts(decision.mix, decision.gates)
            decision = replace(decision, left_out=fitted_left_out(counts, chosen, self.config.competition))
        if {"objects", "largest"} & set(decide):
            decision = replace(decision, rules=self.rules(decision, chosen))
        if "holes" in decide:
            decision = replace(decision, rules=self.with_holes(decision, chosen))
        return decision

    def mixes(self, chosen: list[np.ndarray]) -> list[EnsembleWeights | None]:
        """The ensemble weights for each choice of images; None for the mean of all networks."""
        infer = self.config.infer
        if not mixes(self.config, self.models):
            return [None] * len(chosen)
        of_odds = infer.averaging == "geometric" and self.oof.overlap
        mix = EnsembleWeights(equal(self.models), "odds" if of_odds else infer.averaging)
        if infer.ensemble_weights == "equal":
            return [mix] * len(chosen)
        return [replace(mix, weights=weights) for weights in self.whole.weights(mix, chosen)]

    def gates(self, mixes: list[EnsembleWeights | None], chosen: list[np.ndarray]) -> list[tuple[float, ...] | None]:
        """The classes' gates for each choice of images: `infer.gate`, or fitted; 0 for background. None without."""
        if self.open is None:
            return [None] * len(chosen)
        gate, labels = self.config.infer.gate, range(len(self.open))
        if not self.oof.binary:
            labels = range(self.config.competition.first_class, len(self.open))
        if gate != "fit":
            return [tuple(gate * (label in labels) for label in range(len(self.open)))] * len(chosen)
        return self.whole.gates(mixes, labels, chosen)


def fit_ensemble(fitting: Fitting, folds: np.ndarray) -> Fitted:
    """Fit the decision on all images, and cross-fit it; `folds` (N,): each image's fold."""
    everything = np.ones(len(folds), bool)
    oof, config = fitting.oof, fitting.config
    parts = cross_parts(folds, oof.groups)
    decision, *others = fitting.fit([everything, *(others for _, others in parts)])
    if fitting.maps is None:
        counts, tables = fitting.decide(decision, everything)
    else:  # what is shown is what was decided
        file = tempfile.TemporaryFile(dir=fitting.folder)  # noqa: SIM115 (for the album's life)
        with PreviewWriter(file) as album:
            counts, tables = fitting.decide(decision, everything, album)
        oof.previews = PreviewFile([file])
    crossed = cross(fitting, parts, others, crossed_by(folds)) if parts else None
    score = partial(metrics.score, config.competition)
    decision = replace(
        decision, score=score(counts), half_score=score(fitting.counts(None).class_counts(0)),
        cross_score=None if crossed is None else score(crossed.decided),
    )  # fmt: skip
    return Fitted(decision, counts, tables, crossed)


def cross(fitting: Fitting, parts: list[tuple[np.ndarray, np.ndarray]], decisions: list[Decision], by: str) -> Crossed:
    """Counts of each part of the images, decided by the decision that was fitted on the other images.

    `by`: those other images, in words.
    """
    plain, weights, competition = fitting.counts(None), [], fitting.config.competition
    equal_, mixed_half, mixed, gated_, decided = (plain.class_counts(0).copy() for _ in range(5))
    for (images, others), decision in zip(parts, decisions, strict=True):
        counts, thresholds = fitting.counts(decision.mix), decision.thresholds
        gated_[images] = fitting.counts(decision.mix, decision.gates).class_counts(0, thresholds)[images]
        if fitting.search:
            equal_[images] = plain.class_counts(0, fitted_thresholds(plain, 0, others, competition))[images]
            thresholds = fitted_thresholds(counts, 0, others, competition)
        mixed_half[images] = counts.class_counts(0)[images]
        mixed[images] = counts.class_counts(0, thresholds)[images]
        decided[images] = fitting.decide(decision, images)[0]
        weights.append(decision.mix.weights if decision.mix else equal(fitting.models))
    return Crossed(equal_, mixed_half, mixed, gated_, decided, weights, by)
