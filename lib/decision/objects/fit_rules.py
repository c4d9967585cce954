"""Rules of objects (lib/decision/objects/postprocess.py), fitted on whole out-of-fold maps.

Only counts of each map are kept: pixels by class, area and surest pixel of their object. The effect of a rule on an
image is a sum over its counts. Labels that exclude one another are fitted together. Each of several classes that
overlap is fitted for itself, as one class is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from lib.competition import metrics
from lib.config import Config
from lib.config.competition import CompetitionSettings
from lib.decision.counting import Counting
from lib.decision.decision import Decision
from lib.decision.objects.counts import ObjectCounts, pixels_by_cell
from lib.decision.objects.postprocess import OfLabel, Rule, find_holes
from lib.decision.search import MIN_GAIN, coordinate_ascent
from lib.decision.thresholds import settings_of_class
from lib.oof.codes import HALF
from lib.oof.evaluation import Evaluation, count
from lib.oof.map_files import Bands, Maps
from lib.tables import IGNORE

LOW_GRID = np.arange(16, 241, 16)  # low thresholds, in 1/255: pixels from here on belong to an object
HIGH_GRID = np.arange(0, 256, 8)  # high thresholds: its surest pixel reaches this
AREA_GRID = np.array([0, *(2**k for k in range(1, 25))])  # smallest area of an object, and largest of a hole, in pixels
COARSER = slice(1, None, 2), slice(None, None, 4), slice(None, None, 2)  # parts of the grids for several classes
RULE_SWEEPS = 2  # of coordinate ascent over several classes

Change = tuple[np.ndarray, np.ndarray]
"""Images (M,), and how a label's objects change their counts, (M, n, 3)."""


@dataclass(frozen=True)
class Candidates:
    """Labels whose rules are fitted together, with all objects that they can have.

    `rest` (N, n, 3): counts of all images as if there were no objects. `objects`: those of each label, for every low
    threshold. `settings`: whose metric is to be raised.
    """

    settings: CompetitionSettings
    rest: np.ndarray
    objects: list[ObjectCounts]


@dataclass(frozen=True)
class Mapped:
    """Bands with a function applied to each, as often as wanted."""

    bands: Iterable[np.ndarray]
    function: Callable[[np.ndarray], np.ndarray]

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.function, self.bands)


@dataclass(frozen=True)
class LabelView:
    """What one label's objects in an image are counted from: bands (h, W) that can be iterated again.

    `probs_u8`: its probabilities in 1/255. `kinds`: see `ObjectCounts`. `may_get` bool: the pixels that it may get.
    """

    probs_u8: Iterable[np.ndarray]
    kinds: Iterable[np.ndarray]
    may_get: Iterable[np.ndarray]


class ObjectRules(Counting):
    """Fits a rule for each label on the chosen images."""

    def __init__(self, oof: Evaluation, maps: Maps | None, n_labels: int, config: Config, folder: Path | None = None):
        super().__init__(oof, maps, n_labels, config, folder)
        self.labels = range(config.competition.first_class, n_labels)  # those that have objects
        grids = (LOW_GRID, HIGH_GRID, AREA_GRID)
        if not oof.binary or len(self.labels) > 1:
            grids = [grid[part] for grid, part in zip(grids, COARSER, strict=True)]
        self.lows, self.highs, self.areas = grids
        if not (oof.binary or self.labels[0]):  # a candidate is at least as likely as the next label
            self.lows = self.lows[self.lows >= HALF]
        self.candidates = lru_cache(1)(self.candidates)  # they are large

    def candidates(self, start: Decision) -> list[Candidates]:
        """The labels that exclude one another together, or each class that overlaps for itself. `start` decides all
        that comes before the rules."""
        n, cells = self.table[0], len(self.highs) * len(self.areas) + 1
        rest = np.zeros((len(self.labels), len(self.oof.image_ids), n, 3), np.int64)
        rows = [[np.zeros((4, 0), np.int64)] for _ in self.labels]
        for i, image_id in enumerate(self.oof.image_ids):
            for place, view in enumerate(self._views(self.bands(image_id, start))):
                table = np.zeros(n * n, np.int64)
                for kinds, may_get in zip(view.kinds, view.may_get, strict=True):
                    table += np.bincount(kinds[may_get & (kinds < n * n)], minlength=n * n)
                rest[place, i] = metrics.counts_of(table.reshape(n, n))
                for j, low in enumerate(self.lows if table.any() else ()):
                    counts = pixels_by_cell(view.probs_u8, view.kinds, int(low), self.highs, self.areas, n * n)
                    cell, kind = np.nonzero(counts)
                    rows[place].append(np.stack([np.full(len(cell), i), j * cells + cell, kind, counts[cell, kind]]))
        columns, settings = [np.concatenate(parts, axis=1) for parts in rows], self.config.competition
        if self.oof.overlap:
            return [
                Candidates(settings_of_class(settings, k), rest[k], [ObjectCounts(1, n, *columns[k])])
                for k in self.labels
            ]
        objects = [ObjectCounts(label, n, *found) for label, found in zip(self.labels, columns, strict=True)]
        return [Candidates(settings, rest.sum(0), objects)]

    def _views(self, bands: Bands) -> Iterator[LabelView]:
        """Of each label, what its objects in an image are counted from; `bands` as `bands` gives them."""
        if self.oof.binary:
            for k in range(len(self.labels)):
                truth = bands.plane(k - self.truths)
                kinds = Mapped(truth, lambda band: band.astype(np.int32) * 2)
                yield LabelView(bands.plane(k), kinds, Mapped(truth, lambda band: band != IGNORE))
            return
        codes = bands.planes(0, -1)
        kinds = Mapped(bands, lambda band: band[-1].astype(np.int32) * self.n_labels + band[1])
        for label in self.labels:
            yield LabelView(OfLabel(codes, label), kinds, Mapped(codes, lambda band, label=label: band[0] == label))

    def rules(self, start: Decision, chosen: np.ndarray) -> tuple[Rule | None, ...]:
        """Each label's best rule on the chosen images, by coordinate ascent over labels that exclude one another.

        Rules are a plain threshold and, where `infer.postprocess` asks for them, objects and the largest object.
        """
        none, plain = (None,) * self.labels[0], Rule(HALF)
        if not self.oof.binary:
            (labels,) = self.candidates(replace(start, rules=none + (plain,) * len(self.labels)))
            added = [self.plain(objects, chosen) for objects in labels.objects]
            return none + tuple(self._improved(labels, plain, added, chosen))
        found, counts = [], self.counts(start.mix, start.gates)
        for k, candidates in enumerate(self.candidates(replace(start, thresholds=self.oof.halves))):
            threshold = start.thresholds[k]
            change = counts.of_class(k).class_counts(0, (threshold,)) - candidates.rest
            found += self._improved(candidates, Rule(threshold), [(np.arange(len(change)), change)], chosen)
        return none + tuple(found)

    def _improved(self, labels: Candidates, plain: Rule, added: list[Change], chosen: np.ndarray) -> list[Rule]:
        """The labels' best rules, from `plain` on; `added`: what the plain rule of each label changes."""
        total = labels.rest.astype(np.float64)
        for images, change in added:
            total[images] += change
        rules = [plain] * len(labels.objects)

        def improve(i: int, best: float) -> float:
            images, change = added[i]
            total[images] -= change
            for rule, (images, change), score in self.trials(labels.objects[i], total, chosen, labels.settings):
                if score > best + MIN_GAIN:
                    best, rules[i], added[i] = score, rule, (images, change)
            images, change = added[i]
            total[images] += change
            return best

        score = metrics.score(labels.settings, total[chosen])
        coordinate_ascent(improve, len(rules), score, RULE_SWEEPS if len(rules) > 1 else 1)
        return rules

    def plain(self, objects: ObjectCounts, chosen: np.ndarray) -> Change:
        """What a label's pixels change from a probability of one half on."""
        low = int(np.searchsorted(self.lows, HALF))
        images, pixels, _, change = objects.confusion_change(low, (len(self.highs), len(self.areas)), chosen)
        return images, np.tensordot(pixels[:, 0, 0], change, 1)

    def trials(
        self, objects: ObjectCounts, total: np.ndarray, chosen: np.ndarray, settings: CompetitionSettings
    ) -> Iterator[tuple[Rule, Change, float]]:
        """All rules for a label: the rule, what it changes, and the score of the chosen images with it. `total`: counts
        (N, n, 3) without the label's objects."""
        decide = self.config.infer.postprocess
        for j, low in enumerate(self.lows):
            images, pixels, largest, change = objects.confusion_change(j, (len(self.highs), len(self.areas)), chosen)
            unchanged, without = chosen.copy(), total[images]
            unchanged[images] = False
            score = metrics.changing(settings, total[unchanged])
            for p, high in enumerate(self.highs if "objects" in decide else ()):
                if high == 0 or high > low:
                    changes = np.tensordot(pixels[:, p].swapaxes(0, 1), change, 1)
                    for area, with_rule in zip(self.areas, changes, strict=True):
                        if high or area or not self.oof.binary:  # one class's plain threshold is fitted with more care
                            yield Rule(int(low), int(high), int(area)), (images, with_rule), score(without + with_rule)
            if "largest" in decide:
                with_rule = np.tensordot(largest, change, 1)
                yield Rule(int(low), largest=True), (images, with_rule), score(without + with_rule)

    def with_holes(self, decision: Decision, chosen: np.ndarray) -> tuple[Rule | None, ...]:
        """The decision's rules, of one class or of classes that overlap, each with the best largest area of holes."""
        none = (None,) * self.labels[0]
        rules = list((decision.rules or none + tuple(map(Rule, decision.thresholds)))[len(none) :])
        tables, filled = ([[] for _ in rules] for _ in range(2))
        for i in np.flatnonzero(chosen):
            bands = self.bands(self.oof.image_ids[i], decision)
            for k, rule in enumerate(rules):
                table, by_area = _counted_holes(partial(rule.masks, bands.plane(k)), bands.plane(k - self.truths))
                tables[k].append(table)
                filled[k].append(by_area)
        for k, rule in enumerate(rules):
            settings = settings_of_class(self.config.competition, k)
            rules[k] = replace(rule, hole=_best_hole(np.stack(tables[k]), np.stack(filled[k]), settings))
        return none + tuple(rules)


def _counted_holes(
    masks: Callable[[], Iterable[np.ndarray]], truths: Iterable[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Of one image, truth x mask (2, 2), and (A, 2) what filling holes up to each area of `AREA_GRID` adds to each
    truth. `masks` begins the masks anew at each call."""
    table = sum(count(truth, mask.view(np.uint8), (2, 2)) for mask, truth in zip(masks(), truths, strict=True))
    found = find_holes(masks())
    shade = np.where(found.rim | (found.area > AREA_GRID[-1]), 0, np.searchsorted(AREA_GRID, found.area) + 1)
    sums = np.zeros(2 * len(AREA_GRID), np.int64)
    drawn = found.draw((~mask for mask in masks()), shade.astype(np.int32), 4)
    for numbers, truth in zip(drawn, truths, strict=True):
        known = (numbers > 0) & (truth != IGNORE)
        sums += np.bincount((numbers[known] - 1) * 2 + truth[known], minlength=len(sums))
    return table, sums.reshape(-1, 2).cumsum(0)


def _best_hole(tables: np.ndarray, filled: np.ndarray, settings: CompetitionSettings) -> int:
    """The largest area of holes to fill, 0 where filling gains nothing; arrays (M, …) as `_counted_holes` gives."""
    scores = []
    for a in range(len(AREA_GRID)):
        after = tables.copy()
        after[:, :, 0] -= filled[:, a]
        after[:, :, 1] += filled[:, a]
        scores.append(metrics.score(settings, metrics.counts_of(after)))
    best = int(np.argmax(scores))  # of equally good areas the smallest
    return int(AREA_GRID[best]) if scores[best] > scores[0] + MIN_GAIN else 0
