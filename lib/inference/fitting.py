"""Mixture and decision, found on out-of-fold maps, and what they are worth on images they were not found on.

Whole maps are gone through an image at a time; of each only counts stay: a histogram of bins, and, for objects, sums
over objects of like area and surest pixel. Each fold has a decision of its own, fitted on the other folds' images.
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
from lib.inference.decision import Decision, best_threshold, cross_folds
from lib.inference.evaluate import BINS, HALF, Evaluation, count
from lib.inference.glimpse import Album, AlbumWriter, Glimpser
from lib.inference.maps import Bands, Maps, in_rows
from lib.inference.members import Part
from lib.inference.mix import Judge, Mix, equal, fitted_weights
from lib.inference.objects import Rule, find_holes, find_objects
from lib.inference.priors import fit_factors
from lib.tables import IGNORE

LOWS = np.arange(16, 241, 16)  # bins from which pixels belong to an object
HIGHS = np.arange(0, 256, 8)  # bins that its surest pixel reaches
AREAS = np.array([0, *(2**k for k in range(1, 25))])  # pixels of an object at least; of a hole at most


@dataclass(frozen=True)
class Fitted:
    """The decision, what it makes of all images, and how it and lesser ones do on images they were not fitted on.

    Confusion matrices (N, n, n). `half`: the mean of all networks, by 0.5 or argmax; `equal`: by a fitted threshold;
    `mixed_half`, `mixed`: the same of the mixture; `decided`: everything. `fold_weights`: what each fold's images met.
    """

    decision: Decision
    confusions: np.ndarray
    half: np.ndarray
    equal: np.ndarray
    mixed_half: np.ndarray
    mixed: np.ndarray
    decided: np.ndarray
    fold_weights: list[tuple[float, ...]]


def needs_maps(config: Config, systems: int) -> bool:
    """Whether what is asked for is more than thresholds on the mean of all networks."""
    return bool(config.infer.decide) or mixes(config, systems)


def mixes(config: Config, systems: int) -> bool:
    return systems > 1 and (config.infer.members != "equal" or config.infer.mean != "arithmetic")


def check_decide(config: Config, competition: Competition) -> None:
    """Raises UserError when `infer.decide` asks for what this competition's labels cannot have."""
    one = competition.channels == 1
    wrong = [word for word in config.infer.decide if (word == "priors") == one]
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
        self.counts, self.facts = cache(self.counts), lru_cache(1)(self.facts)  # facts are large

    def fit(self, chosen: np.ndarray) -> Decision:
        """The mixture and decision that score best on the images where `chosen` (N,) is true."""
        decide, mix = self.config.infer.decide, self.mix(chosen)
        if not self.oof.binary:
            factors = self.factors(mix, chosen) if "priors" in decide else None
            return Decision(None, mix=mix, factors=factors)
        counts = self.counts(mix)
        threshold = best_threshold(counts, 0, chosen, self.config.competition) if self.search else HALF
        decision = Decision(threshold, mix=mix)
        if {"objects", "largest"} & set(decide):
            decision = replace(decision, rule=self.rule(counts, mix, threshold, chosen))
        if "holes" in decide:
            decision = replace(decision, rule=self.with_holes(decision, chosen))
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

    def counts(self, mix: Mix | None) -> Evaluation:
        """Counts of one system, the mixture, over all images' whole maps."""
        if mix is None:
            return Evaluation(self.oof.image_ids, self.oof.counts[:, -1:])
        shape = self.oof.counts.shape[2:]
        found = np.zeros((len(self.oof.image_ids), 1, *shape), np.int64)
        for i, image_id in enumerate(self.oof.image_ids):
            for _, _, map_, truth in self.blocks(image_id, Decision(None, mix=mix)):
                found[i, 0] += count(truth, map_, shape)
        return Evaluation(self.oof.image_ids, found)

    def blocks(self, image_id: str, decision: Decision) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """(y, x, bins or labels (h, w), truth (h, w)) of an image's blocks, before what is fitted on bins."""
        for y, x, bins, truth in self.maps.blocks(image_id):
            yield y, x, decision.quantised(bins / np.float32(BINS - 1)), truth

    def bands(self, image_id: str, decision: Decision) -> Bands:
        """Bands (2, h, W): bins and truth."""
        blocks = ((y, x, np.stack([map_, truth])) for y, x, map_, truth in self.blocks(image_id, decision))
        return Bands((rows for _, rows in in_rows(blocks, self.maps.size(image_id)[1])), self.folder)

    def factors(self, mix: Mix | None, chosen: np.ndarray) -> tuple[float, ...]:
        points = self.oof.points.of(chosen)
        probs = points.bins.transpose(1, 2, 0) / np.float32(BINS - 1)
        return fit_factors(points, (mix or Mix(equal(self.systems)))(probs), self.config.competition)

    def facts(self, mix: Mix | None) -> tuple[np.ndarray, np.ndarray]:
        """Of all images: known and hit pixels of the objects by low bin, surest pixel and area, (N, L, P, A, 2), each
        summed over surer and larger ones; and of the largest object, (N, L, 2)."""
        n = len(self.oof.image_ids)
        sums = np.zeros((n, len(LOWS), len(HIGHS), len(AREAS), 2), np.int64)
        largest = np.zeros((n, len(LOWS), 2), np.int64)
        for i, image_id in enumerate(self.oof.image_ids):
            bands = self.bands(image_id, Decision(None, mix=mix))
            for j, low in enumerate(LOWS):
                found = find_objects((band[0] >= low, *band) for band in bands)
                places = (
                    np.searchsorted(HIGHS, found.peak, "right") - 1,
                    np.searchsorted(AREAS, found.area, "right") - 1,
                )
                for c, column in enumerate((found.known, found.hit)):
                    np.add.at(sums[i, j, :, :, c], places, column)
                keep = Rule(int(low), largest=True).kept(found)
                largest[i, j] = found.known[keep].sum(), found.hit[keep].sum()
        return np.flip(np.flip(sums, (2, 3)).cumsum(2).cumsum(3), (2, 3)), largest

    def rule(self, counts: Evaluation, mix: Mix | None, threshold: int, chosen: np.ndarray) -> Rule:
        """The best of plain pixels, objects, and the largest object, whatever of these is asked for."""
        decide, config = self.config.infer.decide, self.config.competition
        sums, largest = (part[chosen] for part in self.facts(mix))
        totals = counts.confusions(0, threshold)[chosen].sum(-1)  # (N, 2): pixels of each truth
        best = Rule(threshold)
        best_score = metrics.score(config, counts.confusions(0, threshold)[chosen])
        candidates = []
        if "objects" in decide:
            candidates += [
                (Rule(int(low), int(high), int(area)), sums[:, j, p, a])
                for j, low in enumerate(LOWS)
                for p, high in enumerate(HIGHS)
                for a, area in enumerate(AREAS)
                if high == 0 or high > low
            ]
        if "largest" in decide:
            candidates += [(Rule(int(low), largest=True), largest[:, j]) for j, low in enumerate(LOWS)]
        for rule, taken in candidates:
            score = metrics.score(config, _confusions(totals, taken[:, 0], taken[:, 1]))
            if score > best_score + 1e-6:
                best, best_score = rule, score
        return best

    def with_holes(self, decision: Decision, chosen: np.ndarray) -> Rule:
        """The decision's rule, with the area up to which filling holes scores best."""
        rule, config = decision.rule or Rule(decision.threshold), self.config.competition
        before, filled = [], []
        for i in np.flatnonzero(chosen):
            bands = self.bands(self.oof.image_ids[i], decision)
            masks = partial(rule.masks, bands.channel(0))
            before.append(_confusion(masks(), bands.channel(1)))
            found = find_holes(masks(), bands.channel(1))
            inside = ~found.rim & (found.area <= AREAS[-1])
            sums = np.zeros((len(AREAS), 2), np.int64)
            np.add.at(sums, np.searchsorted(AREAS, found.area[inside]), np.stack([found.known, found.hit], 1)[inside])
            filled.append(sums.cumsum(0))
        before, filled = np.stack(before), np.stack(filled)
        totals, taken, hits = before.sum(-1), before[:, :, 1].sum(-1), before[:, 1, 1]
        scores = [
            metrics.score(config, _confusions(totals, taken + filled[:, a, 0], hits + filled[:, a, 1]))
            for a in range(len(AREAS))
        ]
        best = int(np.argmax(scores))  # the smallest of those that are alike
        return replace(rule, hole=int(AREAS[best]) if scores[best] > scores[0] + 1e-6 else 0)

    def decide(self, decision: Decision, chosen: np.ndarray, shown: AlbumWriter | None = None) -> np.ndarray:
        """Confusion matrices (M, n, n) of the chosen images. Their glimpses go to `shown`: label indices, of one class
        times 255."""
        plain = decision.factors is None and (decision.rule is None or decision.rule.by_pixel)
        if plain and shown is None:
            return self.counts(decision.mix).confusions(0, decision.threshold or HALF)[chosen]
        shape, found = (self.n_labels,) * 2, []
        for i in np.flatnonzero(chosen):
            image_id, y = self.oof.image_ids[i], 0
            bands, total = self.bands(image_id, decision), np.zeros(shape, np.int64)
            glimpser = Glimpser(*self.maps.size(image_id))
            labels = decision.bands(bands.channel(0), self.folder)
            for here, truth in zip(labels, bands.channel(1), strict=True):
                total += count(truth, here, shape)
                if shown:
                    shade = here * np.uint8(BINS - 1) if self.oof.binary else here
                    glimpser.add(y, 0, shade, (truth != IGNORE) & (truth != here))
                y += len(here)
            found.append(total)
            if shown:
                shown.add(image_id, glimpser.glimpse())
        return np.array(found).reshape(-1, *shape)


def _confusion(masks: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> np.ndarray:
    return sum(count(truth, mask.view(np.uint8), (2, 2)) for mask, truth in zip(masks, truths, strict=True))


def _confusions(totals: np.ndarray, taken: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """(N, 2, 2) from pixels of each truth (N, 2), and, of what is taken, known pixels and hits (N,)."""
    wrong = taken - hits
    return np.stack(
        [np.stack([totals[:, 0] - wrong, wrong], axis=-1), np.stack([totals[:, 1] - hits, hits], axis=-1)], axis=-2
    )


def fit_ensemble(fitting: Fitting, folds: np.ndarray) -> Fitted:
    """Fits on all images, and for each fold on those of the others; `folds` (N,) names each image's fold."""
    everything = np.ones(len(folds), bool)
    oof, config = fitting.oof, fitting.config
    decision = fitting.fit(everything)
    if fitting.maps is None:
        confusions = fitting.decide(decision, everything)
    else:  # what is shown is what was decided
        file = tempfile.TemporaryFile(dir=fitting.folder)  # noqa: SIM115 (for the album's life)
        with AlbumWriter(file) as album:
            confusions = fitting.decide(decision, everything, album)
        oof.shown = Album([file])
    plain = fitting.counts(None)
    half = plain.confusions(0)
    equal_, mixed, mixed_half, decided = (half.copy() for _ in range(4))
    weights = []
    for here, others in cross_folds(folds):
        own = fitting.fit(others)
        counts = fitting.counts(own.mix)
        if fitting.search:
            equal_[here] = plain.confusions(0, best_threshold(plain, 0, others, config.competition))[here]
        mixed_half[here] = counts.confusions(0)[here]
        mixed[here] = counts.confusions(0, own.threshold or HALF)[here]
        decided[here] = fitting.decide(own, here)
        weights.append(own.mix.weights if own.mix else equal(fitting.systems))
    score = partial(metrics.score, config.competition)
    decision = replace(decision, score=score(confusions), half_score=score(half), cross_score=score(decided))
    return Fitted(decision, confusions, half, equal_, mixed_half, mixed, decided, weights)
