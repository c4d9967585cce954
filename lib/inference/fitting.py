"""Mixture and decision, found on out-of-fold maps, and what they are worth on images they were not found on.

Whole maps are gone through an image at a time; of each only counts stay: a histogram of bins, and, for objects, pixels
of all that are alike in class, area and surest pixel. The decision for test images is fitted on all out-of-fold images.
Its worth is told by others: those of each fold decided by what was fitted on the other folds or, in a hold-out, those
of some groups by what was fitted on its other groups (`cross_parts`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np

from lib.competition import metrics
from lib.competition.dataset import Competition
from lib.config import Config
from lib.errors import UserError
from lib.inference.decision import Decision, cross_parts, crossed_by, fitted_threshold
from lib.inference.evaluate import BINS, HALF, Evaluation, count
from lib.inference.gate import fit_gates, gated
from lib.inference.glimpse import Album, AlbumWriter, Glimpser
from lib.inference.maps import Bands, Maps, Points, in_rows
from lib.inference.members import Part
from lib.inference.mix import Judge, Mix, equal, fitted_weights
from lib.inference.objects import OfLabel, Rule, find_holes
from lib.inference.pieces import Pieces, pixels_by_cell
from lib.inference.priors import fit_factors
from lib.tables import IGNORE

LOWS = np.arange(16, 241, 16)  # bins from which pixels belong to an object
HIGHS = np.arange(0, 256, 8)  # bins that its surest pixel reaches
AREAS = np.array([0, *(2**k for k in range(1, 25))])  # pixels of an object at least; of a hole at most
COARSER = slice(1, None, 2), slice(None, None, 4), slice(None, None, 2)  # of these, where there are several classes
SWEEPS = 2  # over several classes' objects


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
    return bool(config.infer.decide) or config.infer.gated or mixes(config, systems)


def mixes(config: Config, systems: int) -> bool:
    return systems > 1 and (config.infer.members != "equal" or config.infer.mean != "arithmetic")


def check_decide(config: Config, competition: Competition) -> None:
    """Raises UserError when `infer.decide` asks for what this competition's labels cannot have."""
    one = competition.channels == 1
    wrong = [word for word in config.infer.decide if word == ("priors" if one else "holes")]
    if wrong:
        raise UserError(
            f"infer.decide {wrong[0]}: this is for competitions of {'several classes' if one else 'one class'}, and "
            f"{config.competition.name} has {'one' if one else 'several'}; leave it out"
        )


def without_idle(parts: list[Part], systems: list[str], decision: Decision) -> tuple[list[Part], Decision]:
    """The parts whose system counts, and the decision that mixes these alone."""
    if decision.mix is None:
        return parts, decision
    counting = {name: weight for name, weight in zip(systems, decision.mix.weights, strict=True) if weight}
    mix = replace(decision.mix, weights=tuple(counting.values()))
    return [part for part in parts if part.system in counting], replace(decision, mix=mix)


def judge_of(oof: Evaluation, fitted: Fitted, config: Config) -> Judge:
    """Scores mixtures of the evaluation's systems, averaged as the decision does."""
    systems = oof.counts.shape[1] - 1
    mix = fitted.decision.mix or Mix(equal(systems))
    search = oof.binary and config.infer.threshold == "fit"
    return Judge(oof.points, oof.counts.shape[2], mix, config.competition, search)


class Fitting:
    """Fits on some images of an evaluation and decides others."""

    def __init__(self, oof: Evaluation, maps: Maps | None, n_labels: int, config: Config, folder: Path | None = None):
        self.oof, self.maps, self.n_labels, self.config, self.folder = oof, maps, n_labels, config, folder
        self.systems = oof.counts.shape[1] - 1
        self.search = oof.binary and config.infer.threshold == "fit"
        background = config.competition.background
        self.labels = range(int(oof.binary or background), n_labels)  # that objects have
        self.open = (0.0,) * (1 if oof.binary else n_labels) if config.infer.gated else None
        grids = (LOWS, HIGHS, AREAS)
        if not oof.binary:
            grids = [grid[part] for grid, part in zip(grids, COARSER, strict=True)]
        self.lows, self.highs, self.areas = grids
        if not (oof.binary or background):  # the likeliest label is likelier than the next one
            self.lows = self.lows[self.lows >= HALF]
        self.counts, self.facts = cache(self.counts), lru_cache(1)(self.facts)  # facts are large

    def fit(self, chosen: np.ndarray) -> Decision:
        """The mixture and decision found on the images where `chosen` (N,) is true."""
        decide, mix = self.config.infer.decide, self.mix(chosen)
        gates = self.gates(mix, chosen)
        decision = Decision(None, mix=mix, gates=gates)
        if self.oof.binary:
            counts = self.counts(mix, gates)
            threshold = fitted_threshold(counts, 0, chosen, self.config.competition) if self.search else HALF
            decision = replace(decision, threshold=threshold)
        elif "priors" in decide:
            decision = replace(decision, factors=self.factors(mix, gates, chosen))
        if {"objects", "largest"} & set(decide):
            decision = replace(decision, rules=self.rules(decision, chosen))
        if "holes" in decide:
            decision = replace(decision, rules=(None, self.with_holes(decision, chosen)))
        return decision

    def mix(self, chosen: np.ndarray) -> Mix | None:
        """The mixture, with weights found on the chosen images' points; None for the mean of all networks."""
        infer = self.config.infer
        if not mixes(self.config, self.systems):
            return None
        mix = Mix(equal(self.systems), infer.mean, infer.power)
        if infer.members == "equal":
            return mix
        judge = Judge(self.oof.points.of(chosen), self.n_labels, mix, self.config.competition, self.search)
        return replace(mix, weights=fitted_weights(judge, self.systems, infer.members))

    def counts(self, mix: Mix | None, gates: tuple[float, ...] | None = None) -> Evaluation:
        """Counts of one system, the mixture behind its gates, over all images' whole maps."""
        if mix is None and not any(gates or ()):
            return replace(self.oof, counts=self.oof.counts[:, -1:], points=None, shown=None)
        found = np.zeros((len(self.oof.image_ids), 1, *self.oof.counts.shape[2:]), np.int64)
        shape = found.shape[2:] if self.oof.binary else (self.n_labels,) * 2
        matrix = None if self.oof.binary else np.zeros(shape, np.int64)
        for i, image_id in enumerate(self.oof.image_ids):
            for _, _, map_, truth in self.blocks(image_id, Decision(None, mix=mix, gates=gates or self.open)):
                here = count(truth, map_, shape)
                found[i, 0] += here if self.oof.binary else metrics.counts_of(here)
                if not self.oof.binary:
                    matrix += here
        return Evaluation(self.oof.image_ids, found, groups=self.oof.groups, confusion=matrix)

    def blocks(self, image_id: str, decision: Decision) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """(y, x, what is `quantised` (…, h, w), truth (h, w)) of an image's blocks, before what is fitted on bins."""
        for y, x, bins, truth in self.maps.blocks(image_id):
            yield y, x, decision.quantised(bins / np.float32(BINS - 1)), truth

    def bands(self, image_id: str, decision: Decision) -> Bands:
        """Bands (…, h, W): what is `quantised`, and, last, truth."""
        blocks = (
            (y, x, np.concatenate([map_.reshape(-1, *truth.shape), truth[None]]))
            for y, x, map_, truth in self.blocks(image_id, decision)
        )
        return Bands((rows for _, rows in in_rows(blocks, self.maps.size(image_id)[1])), self.folder)

    def gates(self, mix: Mix | None, chosen: np.ndarray) -> tuple[float, ...] | None:
        """Each class's gate, `infer.gate` or what is best; background has none. None where none is asked for."""
        if self.open is None:
            return None
        gate, labels = self.config.infer.gate, range(1 if self.config.competition.background else 0, len(self.open))
        labels = range(1) if self.oof.binary else labels
        if gate != "fit":
            return tuple(gate * (label in labels) for label in range(len(self.open)))
        points, probs, presence = self.sampled(mix, chosen)
        judge = Judge(points, self.n_labels, Mix(equal(self.systems)), self.config.competition, self.search)
        return fit_gates(probs, presence, labels, judge.of_probs)

    def factors(self, mix: Mix | None, gates: tuple[float, ...] | None, chosen: np.ndarray) -> tuple[float, ...]:
        points, probs, presence = self.sampled(mix, chosen)
        return fit_factors(points, gated(probs, presence, gates or ()), self.config.competition)

    def sampled(self, mix: Mix | None, chosen: np.ndarray) -> tuple[Points, np.ndarray, np.ndarray]:
        """The chosen images' points, and of these the mixture's probabilities and presences, each (K, P)."""
        points, mix = self.oof.points.of(chosen), mix or Mix(equal(self.systems))
        probs, presence = (
            values.transpose(1, 2, 0) / np.float32(BINS - 1) for values in (points.bins, points.presence)
        )
        return points, mix(probs), np.tensordot(np.array(mix.weights, np.float32), presence, 1)

    def facts(self, start: Decision) -> list[Pieces]:
        """Of each label that objects have: those of all images' `start`ing maps, by every low bin."""
        n, cells = self.n_labels, len(self.highs) * len(self.areas) + 1
        rests, rows = np.zeros((len(self.labels), len(self.oof.image_ids), n * n), np.int64), [[] for _ in self.labels]
        for i, image_id in enumerate(self.oof.image_ids):
            bands = self.bands(image_id, start)
            for rest, own, label in zip(rests, rows, self.labels, strict=True):
                bins = bands.channel(0) if self.oof.binary else OfLabel(bands, label)
                for band, kinds in zip(bands, self.kinds(bands), strict=True):
                    mine = kinds < n * n
                    mine &= self.oof.binary or band[0] == label
                    rest[i] += np.bincount(kinds[mine], minlength=n * n)
                for j, low in enumerate(self.lows if rest[i].any() else ()):
                    counts = pixels_by_cell(bins, self.kinds(bands), int(low), self.highs, self.areas, n * n)
                    cell, kind = np.nonzero(counts)
                    place = np.full(len(cell), i), j * cells + cell
                    own.append(np.stack([*place, kind, counts[cell, kind]]))
        return [
            Pieces(label, rest.reshape(-1, n, n), *np.concatenate([np.zeros((4, 0), np.int64), *own], axis=1))
            for label, rest, own in zip(self.labels, rests, rows, strict=True)
        ]

    def kinds(self, bands: Bands) -> Iterator[np.ndarray]:
        """Of every pixel, truth x the label that stands there if its candidate does not, (h, W) int32; where the truth
        is not known, more than there are."""
        for band in bands:
            yield band[-1].astype(np.int32) * self.n_labels + (0 if self.oof.binary else band[1])

    def rules(self, start: Decision, chosen: np.ndarray) -> tuple[Rule | None, ...]:
        """The best of plain pixels, objects, and the largest object, whatever of these is asked for, of each label; one
        label at a time, the others as they are."""
        score = partial(metrics.score, self.config.competition)
        if self.oof.binary:
            facts, plain = self.facts(replace(start, threshold=None)), Rule(start.threshold)
            parts = [self.counts(start.mix, start.gates).class_counts(0, start.threshold)[chosen]]
        else:
            plain = Rule(HALF)
            facts = self.facts(replace(start, rules=(None,) * self.labels[0] + (plain,) * len(self.labels)))
            parts = [self.plain(pieces, chosen) for pieces in facts]
        rules, best = [plain] * len(facts), score(sum(parts))
        for _ in range(SWEEPS if len(facts) > 1 else 1):
            before = best
            for i, pieces in enumerate(facts):
                others = sum(parts) - parts[i]
                for rule, part in self.trials(pieces, chosen):
                    here = score(others + part)
                    if here > best + 1e-6:
                        best, rules[i], parts[i] = here, rule, part
            if best <= before + 1e-6:
                break
        return (None,) * self.labels[0] + tuple(rules)

    def plain(self, pieces: Pieces, chosen: np.ndarray) -> np.ndarray:
        """Counts (M, n, 3) of a label's pixels that are as likely as not, and more."""
        low = int(np.searchsorted(self.lows, HALF))
        moved, _, change = pieces.moved(low, (len(self.highs), len(self.areas)), chosen)
        return metrics.counts_of(pieces.rest[chosen] + np.tensordot(moved[:, 0, 0], change, 1))

    def trials(self, pieces: Pieces, chosen: np.ndarray) -> Iterator[tuple[Rule, np.ndarray]]:
        """Rules for a label, and the counts (M, n, 3) that its pixels then come to."""
        decide, rest = self.config.infer.decide, pieces.rest[chosen]
        for j, low in enumerate(self.lows):
            moved, largest, change = pieces.moved(j, (len(self.highs), len(self.areas)), chosen)
            for p, high in enumerate(self.highs if "objects" in decide else ()):
                if high == 0 or high > low:
                    changes = np.tensordot(moved[:, p].swapaxes(0, 1), change, 1)
                    for area, here in zip(self.areas, changes, strict=True):
                        if high or area or not self.oof.binary:  # one class's plain threshold is fitted with more care
                            yield Rule(int(low), int(high), int(area)), metrics.counts_of(rest + here)
            if "largest" in decide:
                yield Rule(int(low), largest=True), metrics.counts_of(rest + np.tensordot(largest, change, 1))

    def with_holes(self, decision: Decision, chosen: np.ndarray) -> Rule:
        """The decision's rule for one class, with the area up to which filling holes scores best."""
        rule, config = decision.rules[1] if decision.rules else Rule(decision.threshold), self.config.competition
        before, filled = [], []
        for i in np.flatnonzero(chosen):
            bands = self.bands(self.oof.image_ids[i], decision)
            masks = partial(rule.masks, bands.channel(0))
            before.append(_confusion(masks(), bands.channel(1)))
            found = find_holes(masks())
            shade = np.where(found.rim | (found.area > AREAS[-1]), 0, np.searchsorted(AREAS, found.area) + 1)
            sums = np.zeros(2 * len(AREAS), np.int64)
            drawn = found.draw((~mask for mask in masks()), shade.astype(np.int32), 4)
            for at, truth in zip(drawn, bands.channel(1), strict=True):
                known = (at > 0) & (truth != IGNORE)
                sums += np.bincount((at[known] - 1) * 2 + truth[known], minlength=len(sums))
            filled.append(sums.reshape(-1, 2).cumsum(0))
        before, filled = np.stack(before), np.stack(filled)
        scores = []
        for a in range(len(AREAS)):
            after = before.copy()
            after[:, :, 0] -= filled[:, a]
            after[:, :, 1] += filled[:, a]
            scores.append(metrics.score(config, metrics.counts_of(after)))
        best = int(np.argmax(scores))  # the smallest of those that are alike
        return replace(rule, hole=int(AREAS[best]) if scores[best] > scores[0] + 1e-6 else 0)

    def decide(
        self, decision: Decision, chosen: np.ndarray, shown: AlbumWriter | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Counts (M, n, 3) of the chosen images, and the confusion matrix (n, n) of all of them. Their glimpses go to
        `shown`: label indices, of one class times 255."""
        rules = decision.rules if self.oof.binary else None
        threshold = rules[1].low if rules else decision.threshold or HALF
        plain = decision.factors is None and decision.by_pixel and (self.oof.binary or decision.rules is None)
        if plain and shown is None:
            counts = self.counts(decision.mix, decision.gates)
            return counts.class_counts(0, threshold)[chosen], counts.pooled(threshold)
        shape, found = (self.n_labels,) * 2, []
        matrix = np.zeros(shape, np.int64)
        for i in np.flatnonzero(chosen):
            image_id, y = self.oof.image_ids[i], 0
            bands, total = self.bands(image_id, decision), np.zeros(shape, np.int64)
            glimpser = Glimpser(*self.maps.size(image_id))
            several = not self.oof.binary and decision.rules is not None
            labels = decision.bands(bands.channel(slice(3) if several else 0), self.folder)
            for here, truth in zip(labels, bands.channel(-1), strict=True):
                total += count(truth, here, shape)
                if shown:
                    shade = here * np.uint8(BINS - 1) if self.oof.binary else here
                    glimpser.add(y, 0, shade, (truth != IGNORE) & (truth != here))
                y += len(here)
            found.append(metrics.counts_of(total))
            matrix += total
            if shown:
                shown.add(image_id, glimpser.glimpse())
        return np.array(found).reshape(-1, self.n_labels, 3), matrix


def _confusion(masks: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> np.ndarray:
    return sum(count(truth, mask.view(np.uint8), (2, 2)) for mask, truth in zip(masks, truths, strict=True))


def fit_ensemble(fitting: Fitting, folds: np.ndarray) -> Fitted:
    """Fits on all images, and crosses: `folds` (N,) names each image's fold."""
    everything = np.ones(len(folds), bool)
    oof, config = fitting.oof, fitting.config
    decision = fitting.fit(everything)
    if fitting.maps is None:
        counts, confusion = fitting.decide(decision, everything)
    else:  # what is shown is what was decided
        file = tempfile.TemporaryFile(dir=fitting.folder)  # noqa: SIM115 (for the album's life)
        with AlbumWriter(file) as album:
            counts, confusion = fitting.decide(decision, everything, album)
        oof.shown = Album([file])
    crossed = cross(fitting, folds)
    score = partial(metrics.score, config.competition)
    decision = replace(
        decision, score=score(counts), half_score=score(fitting.counts(None).class_counts(0)),
        cross_score=None if crossed is None else score(crossed.decided),
    )  # fmt: skip
    return Fitted(decision, counts, confusion, crossed)


def cross(fitting: Fitting, folds: np.ndarray) -> Crossed | None:
    """Fits on each of `cross_parts`, and decides the images that were left out."""
    parts, competition = cross_parts(folds, fitting.oof.groups), fitting.config.competition
    if not parts:
        return None
    plain, weights = fitting.counts(None), []
    equal_, mixed_half, mixed, gated_, decided = (plain.class_counts(0).copy() for _ in range(5))
    for here, others in parts:
        own = fitting.fit(others)
        counts, threshold = fitting.counts(own.mix), own.threshold or HALF
        gated_[here] = fitting.counts(own.mix, own.gates).class_counts(0, threshold)[here]
        if fitting.search:
            equal_[here] = plain.class_counts(0, fitted_threshold(plain, 0, others, competition))[here]
            threshold = fitted_threshold(counts, 0, others, competition)
        mixed_half[here] = counts.class_counts(0)[here]
        mixed[here] = counts.class_counts(0, threshold)[here]
        decided[here] = fitting.decide(own, here)[0]
        weights.append(own.mix.weights if own.mix else equal(fitting.systems))
    return Crossed(equal_, mixed_half, mixed, gated_, decided, weights, crossed_by(folds))
