"""Rules of objects (lib/decision/postprocess.py), fitted on whole out-of-fold maps.

Only counts of each map are kept: pixels by class, area and surest pixel of their object. The effect of a rule on an
image is a sum over its counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from lib.competition import metrics
from lib.config import Config
from lib.decision.counting import Counting
from lib.decision.decision import Decision
from lib.decision.object_counts import ObjectCounts, pixels_by_cell
from lib.decision.postprocess import OfLabel, Rule, find_holes
from lib.decision.search import MIN_GAIN, coordinate_ascent
from lib.oof.codes import HALF
from lib.oof.evaluate import Evaluation, count
from lib.oof.map_files import Bands, Maps
from lib.tables import IGNORE

LOW_GRID = np.arange(16, 241, 16)  # low thresholds, in 1/255: pixels from here on belong to an object
HIGH_GRID = np.arange(0, 256, 8)  # high thresholds: its surest pixel reaches this
AREA_GRID = np.array([0, *(2**k for k in range(1, 25))])  # smallest area of an object, and largest of a hole, in pixels
COARSER = slice(1, None, 2), slice(None, None, 4), slice(None, None, 2)  # parts of the grids for several classes
RULE_SWEEPS = 2  # of coordinate ascent over several classes

Change = tuple[np.ndarray, np.ndarray]
"""Images (M,), and how a label's objects change their counts, (M, n, 3)."""


class ObjectRules(Counting):
    """Fits a rule for each label on the chosen images."""

    def __init__(self, oof: Evaluation, maps: Maps | None, n_labels: int, config: Config, folder: Path | None = None):
        super().__init__(oof, maps, n_labels, config, folder)
        background = config.competition.background
        self.labels = range(int(oof.binary or background), n_labels)  # those that have objects
        grids = (LOW_GRID, HIGH_GRID, AREA_GRID)
        if not oof.binary:
            grids = [grid[part] for grid, part in zip(grids, COARSER, strict=True)]
        self.lows, self.highs, self.areas = grids
        if not (oof.binary or background):  # a candidate is at least as likely as the next label
            self.lows = self.lows[self.lows >= HALF]
        self.facts = lru_cache(1)(self.facts)  # they are large

    def facts(self, start: Decision) -> tuple[np.ndarray, list[ObjectCounts]]:
        """Counts (N, n, 3) of all images as if there were no objects, and the objects that each label can have for
        every low threshold. `start` decides all that comes before the rules."""
        n, cells = self.n_labels, len(self.highs) * len(self.areas) + 1
        rest, rows = np.zeros((len(self.oof.image_ids), n, 3), np.int64), [[] for _ in self.labels]
        for i, image_id in enumerate(self.oof.image_ids):
            bands = self.bands(image_id, start)
            for label_rows, label in zip(rows, self.labels, strict=True):
                probs_u8 = bands.channel(0) if self.oof.binary else OfLabel(bands, label)
                confusion = np.zeros(n * n, np.int64)
                for band, kinds in zip(bands, self.kinds(bands), strict=True):
                    counted = kinds < n * n
                    counted &= self.oof.binary or band[0] == label
                    confusion += np.bincount(kinds[counted], minlength=n * n)
                rest[i] += metrics.counts_of(confusion.reshape(n, n))
                for j, low in enumerate(self.lows if confusion.any() else ()):
                    counts = pixels_by_cell(probs_u8, self.kinds(bands), int(low), self.highs, self.areas, n * n)
                    cell, kind = np.nonzero(counts)
                    label_rows.append(np.stack([np.full(len(cell), i), j * cells + cell, kind, counts[cell, kind]]))
        return rest, [
            ObjectCounts(label, n, *np.concatenate([np.zeros((4, 0), np.int64), *label_rows], axis=1))
            for label, label_rows in zip(self.labels, rows, strict=True)
        ]

    def kinds(self, bands: Bands) -> Iterator[np.ndarray]:
        """The kind of each pixel, (h, W) int32: truth x the label that it gets without an object. Larger than any kind
        where the truth is not known."""
        for band in bands:
            yield band[-1].astype(np.int32) * self.n_labels + (0 if self.oof.binary else band[1])

    def rules(self, start: Decision, chosen: np.ndarray) -> tuple[Rule | None, ...]:
        """Each label's best rule on the chosen images, by coordinate ascent over the labels.

        Rules are a plain threshold and, where `infer.postprocess` asks for them, objects and the largest object.
        """
        config = self.config.competition
        if self.oof.binary:
            rest, facts = self.facts(replace(start, threshold=None))
            plain, counts = Rule(start.threshold), self.counts(start.mix, start.gates)
            added = [(np.arange(len(rest)), counts.class_counts(0, start.threshold) - rest)]
        else:
            plain = Rule(HALF)
            rest, facts = self.facts(replace(start, rules=(None,) * self.labels[0] + (plain,) * len(self.labels)))
            added = [self.plain(counts, chosen) for counts in facts]
        total = rest.astype(np.float64)
        for images, change in added:
            total[images] += change
        rules = [plain] * len(facts)

        def improve(i: int, best: float) -> float:
            images, change = added[i]
            total[images] -= change
            for rule, (images, change), score in self.trials(facts[i], total, chosen):
                if score > best + MIN_GAIN:
                    best, rules[i], added[i] = score, rule, (images, change)
            images, change = added[i]
            total[images] += change
            return best

        score = metrics.score(config, total[chosen])
        coordinate_ascent(improve, len(facts), score, RULE_SWEEPS if len(facts) > 1 else 1)
        return (None,) * self.labels[0] + tuple(rules)

    def plain(self, objects: ObjectCounts, chosen: np.ndarray) -> Change:
        """What a label's pixels change from a probability of one half on."""
        low = int(np.searchsorted(self.lows, HALF))
        images, pixels, _, change = objects.confusion_change(low, (len(self.highs), len(self.areas)), chosen)
        return images, np.tensordot(pixels[:, 0, 0], change, 1)

    def trials(
        self, objects: ObjectCounts, total: np.ndarray, chosen: np.ndarray
    ) -> Iterator[tuple[Rule, Change, float]]:
        """All rules for a label: the rule, what it changes, and the score of the chosen images with it. `total`: counts
        (N, n, 3) without the label's objects."""
        decide = self.config.infer.postprocess
        for j, low in enumerate(self.lows):
            images, pixels, largest, change = objects.confusion_change(j, (len(self.highs), len(self.areas)), chosen)
            unchanged, without = chosen.copy(), total[images]
            unchanged[images] = False
            score = metrics.changing(self.config.competition, total[unchanged])
            for p, high in enumerate(self.highs if "objects" in decide else ()):
                if high == 0 or high > low:
                    changes = np.tensordot(pixels[:, p].swapaxes(0, 1), change, 1)
                    for area, with_rule in zip(self.areas, changes, strict=True):
                        if high or area or not self.oof.binary:  # one class's plain threshold is fitted with more care
                            yield Rule(int(low), int(high), int(area)), (images, with_rule), score(without + with_rule)
            if "largest" in decide:
                with_rule = np.tensordot(largest, change, 1)
                yield Rule(int(low), largest=True), (images, with_rule), score(without + with_rule)

    def with_holes(self, decision: Decision, chosen: np.ndarray) -> Rule:
        """The decision's rule for one class, with the best largest area of holes to fill."""
        rule, config = decision.rules[1] if decision.rules else Rule(decision.threshold), self.config.competition
        before, filled = [], []
        for i in np.flatnonzero(chosen):
            bands = self.bands(self.oof.image_ids[i], decision)
            masks = partial(rule.masks, bands.channel(0))
            before.append(_confusion(masks(), bands.channel(1)))
            found = find_holes(masks())
            shade = np.where(found.rim | (found.area > AREA_GRID[-1]), 0, np.searchsorted(AREA_GRID, found.area) + 1)
            sums = np.zeros(2 * len(AREA_GRID), np.int64)
            drawn = found.draw((~mask for mask in masks()), shade.astype(np.int32), 4)
            for numbers, truth in zip(drawn, bands.channel(1), strict=True):
                known = (numbers > 0) & (truth != IGNORE)
                sums += np.bincount((numbers[known] - 1) * 2 + truth[known], minlength=len(sums))
            filled.append(sums.reshape(-1, 2).cumsum(0))
        before, filled = np.stack(before), np.stack(filled)
        scores = []
        for a in range(len(AREA_GRID)):
            after = before.copy()
            after[:, :, 0] -= filled[:, a]
            after[:, :, 1] += filled[:, a]
            scores.append(metrics.score(config, metrics.counts_of(after)))
        best = int(np.argmax(scores))  # of equally good areas the smallest
        return replace(rule, hole=int(AREA_GRID[best]) if scores[best] > scores[0] + MIN_GAIN else 0)


def _confusion(masks: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> np.ndarray:
    return sum(count(truth, mask.view(np.uint8), (2, 2)) for mask, truth in zip(masks, truths, strict=True))
