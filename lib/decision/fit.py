"""Mixture and decision, found on out-of-fold maps, and what they are worth on images they were not found on.

Whole maps are gone through an image at a time, and of each only counts stay (lib/decision/counting.py). The decision
for test images is fitted on all out-of-fold images. Its worth is told by others: the images of each fold are decided by
what was fitted on the other folds; in a hold-out, those of some groups by what was fitted on its other groups
(`cross_parts`).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lib.competition import metrics
from lib.competition.dataset import Competition
from lib.config import Config
from lib.decision.decision import Decision, cross_parts, crossed_by, fitted_left_out, fitted_threshold
from lib.decision.ensemble_weights import Judge, Mix, equal
from lib.decision.object_rules import ObjectRules
from lib.decision.whole_maps import WholeMaps
from lib.errors import UserError
from lib.inference.checkpoints import Checkpoint
from lib.oof.evaluate import HALF, Evaluation
from lib.oof.map_files import Maps
from lib.oof.previews import Album, AlbumWriter


@dataclass(frozen=True)
class Fitted:
    """The decision, fitted on all images, and what it makes of them: its scores flatter it.

    `counts` (N, C, 3), as metrics take them; `confusion` (C, C): truth x decision of all images. `crossed`: the same
    steps on images that they were not fitted on; None where all images are of one group.
    """

    decision: Decision
    counts: np.ndarray
    confusion: np.ndarray
    crossed: Crossed | None


@dataclass(frozen=True)
class Crossed:
    """How the decision and lesser ones do on images they were not fitted on, as `cross_parts` splits them.

    Counts (N, C, 3). `equal`: the mean of all networks, by a fitted threshold or argmax; `mixed_half`: the mixture, by
    0.5 or argmax; `mixed`: by a fitted threshold; `gated`: with its class gate; `decided`: everything. `weights`: of
    the systems, for each part of the images. `by`: what was fitted on, in words.
    """

    equal: np.ndarray
    mixed_half: np.ndarray
    mixed: np.ndarray
    gated: np.ndarray
    decided: np.ndarray
    weights: list[tuple[float, ...]]
    by: str


def needs_maps(config: Config, systems: int) -> bool:
    """Whether what is asked for is more than thresholds on the mean of all networks."""
    return bool(config.infer.postprocess) or config.infer.gated or mixes(config, systems)


def mixes(config: Config, systems: int) -> bool:
    return systems > 1 and (config.infer.ensemble_weights != "equal" or config.infer.averaging != "arithmetic")


def check_decide(config: Config, competition: Competition) -> None:
    """Raises UserError when `infer.postprocess` asks for what this competition's labels cannot have."""
    one = competition.channels == 1
    wrong = [word for word in config.infer.postprocess if word == ("priors" if one else "holes")]
    if wrong:
        raise UserError(
            f"infer.postprocess {wrong[0]}: this is for competitions of {'several classes' if one else 'one class'}, "
            f"and {config.competition.name} has {'one' if one else 'several'}; leave it out"
        )


def without_idle(parts: list[Checkpoint], systems: list[str], decision: Decision) -> tuple[list[Checkpoint], Decision]:
    """The parts whose system counts, and the decision that mixes these alone."""
    if decision.mix is None:
        return parts, decision
    counting = {name: weight for name, weight in zip(systems, decision.mix.weights, strict=True) if weight}
    mix = replace(decision.mix, weights=tuple(counting.values()))
    return [part for part in parts if part.model in counting], replace(decision, mix=mix)


def judge_of(oof: Evaluation, fitted: Fitted, config: Config) -> Judge:
    """Scores mixtures of the evaluation's systems, averaged as the decision does."""
    systems = oof.counts.shape[1] - 1
    mix = fitted.decision.mix or Mix(equal(systems))
    search = oof.binary and config.infer.threshold == "fit"
    return Judge(oof.points, oof.counts.shape[2], mix, config.competition, search)


class Fitting(ObjectRules):
    """Fits on some images of an evaluation and decides others."""

    def __init__(self, oof: Evaluation, maps: Maps | None, n_labels: int, config: Config, folder: Path | None = None):
        super().__init__(oof, maps, n_labels, config, folder)
        self.systems = oof.counts.shape[1] - 1
        self.search = oof.binary and config.infer.threshold == "fit"
        self.whole = WholeMaps(oof, maps, n_labels, config)
        # Rules of objects can leave out a class themselves; behind factors the counts of argmax are not those decided.
        fitted = {"objects", "largest", "priors"} & set(config.infer.postprocess) or config.infer.threshold == "half"
        self.may_leave_out = oof.beside is not None and config.competition.background and not fitted

    def fit(self, chosen: list[np.ndarray]) -> list[Decision]:
        """The mixtures and decisions found on several choices of images, (N,) bool each, with passes over the maps that
        serve all of them."""
        mixes = self.mixes(chosen)
        gates = self.gates(mixes, chosen)
        factors = [None] * len(chosen)
        if not self.oof.binary and "priors" in self.config.infer.postprocess:
            factors = self.whole.factors(mixes, gates, chosen)
        made = zip(mixes, gates, factors, chosen, strict=True)
        return [self.decision(Decision(None, mix=m, gates=g, factors=f), images) for m, g, f, images in made]

    def decision(self, decision: Decision, chosen: np.ndarray) -> Decision:
        """The decision with threshold and rules of objects that are found on the images where `chosen` (N,) is true."""
        decide = self.config.infer.postprocess
        if self.oof.binary:
            counts = self.counts(decision.mix, decision.gates)
            threshold = fitted_threshold(counts, 0, chosen, self.config.competition) if self.search else HALF
            decision = replace(decision, threshold=threshold)
        elif self.may_leave_out:
            counts = self.counts(decision.mix, decision.gates)
            decision = replace(decision, left_out=fitted_left_out(counts, chosen, self.config.competition))
        if {"objects", "largest"} & set(decide):
            decision = replace(decision, rules=self.rules(decision, chosen))
        if "holes" in decide:
            decision = replace(decision, rules=(None, self.with_holes(decision, chosen)))
        return decision

    def mixes(self, chosen: list[np.ndarray]) -> list[Mix | None]:
        """The mixtures found on several choices of images; None for the mean of all networks."""
        infer = self.config.infer
        if not mixes(self.config, self.systems):
            return [None] * len(chosen)
        mix = Mix(equal(self.systems), infer.averaging, infer.power)
        if infer.ensemble_weights == "equal":
            return [mix] * len(chosen)
        return [replace(mix, weights=weights) for weights in self.whole.weights(mix, chosen)]

    def gates(self, mixes: list[Mix | None], chosen: list[np.ndarray]) -> list[tuple[float, ...] | None]:
        """Each class's gate, `infer.gate` or what is best; background has none. None where none is asked for."""
        if self.open is None:
            return [None] * len(chosen)
        gate, first = self.config.infer.gate, int(self.config.competition.background and not self.oof.binary)
        labels = range(first, len(self.open))
        if gate != "fit":
            return [tuple(gate * (label in labels) for label in range(len(self.open)))] * len(chosen)
        return self.whole.gates(mixes, labels, chosen)


def fit_ensemble(fitting: Fitting, folds: np.ndarray) -> Fitted:
    """Fits on all images, and crosses: `folds` (N,) names each image's fold."""
    everything = np.ones(len(folds), bool)
    oof, config = fitting.oof, fitting.config
    parts = cross_parts(folds, oof.groups)
    decision, *others = fitting.fit([everything, *(others for _, others in parts)])
    if fitting.maps is None:
        counts, confusion = fitting.decide(decision, everything)
    else:  # what is shown is what was decided
        file = tempfile.TemporaryFile(dir=fitting.folder)  # noqa: SIM115 (for the album's life)
        with AlbumWriter(file) as album:
            counts, confusion = fitting.decide(decision, everything, album)
        oof.shown = Album([file])
    crossed = cross(fitting, parts, others, crossed_by(folds)) if parts else None
    score = partial(metrics.score, config.competition)
    decision = replace(
        decision, score=score(counts), half_score=score(fitting.counts(None).class_counts(0)),
        cross_score=None if crossed is None else score(crossed.decided),
    )  # fmt: skip
    return Fitted(decision, counts, confusion, crossed)


def cross(fitting: Fitting, parts: list[tuple[np.ndarray, np.ndarray]], decisions: list[Decision], by: str) -> Crossed:
    """What the `decisions`, each fitted on the other images, make of each of the `parts`; `by`: these images, in
    words."""
    plain, weights, competition = fitting.counts(None), [], fitting.config.competition
    equal_, mixed_half, mixed, gated_, decided = (plain.class_counts(0).copy() for _ in range(5))
    for (here, others), own in zip(parts, decisions, strict=True):
        counts, threshold = fitting.counts(own.mix), own.threshold or HALF
        gated_[here] = fitting.counts(own.mix, own.gates).class_counts(0, threshold)[here]
        if fitting.search:
            equal_[here] = plain.class_counts(0, fitted_threshold(plain, 0, others, competition))[here]
            threshold = fitted_threshold(counts, 0, others, competition)
        mixed_half[here] = counts.class_counts(0)[here]
        mixed[here] = counts.class_counts(0, threshold)[here]
        decided[here] = fitting.decide(own, here)[0]
        weights.append(own.mix.weights if own.mix else equal(fitting.systems))
    return Crossed(equal_, mixed_half, mixed, gated_, decided, weights, by)
