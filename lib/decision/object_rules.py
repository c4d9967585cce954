"""Rules of objects (lib/decision/postprocess.py), fitted on whole maps.

Of each map only counts stay: pixels of all that are alike in class, area and surest pixel. What a rule makes of an
image is then a sum over its counts.
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
from lib.decision.object_counts import Pieces, pixels_by_cell
from lib.decision.postprocess import OfLabel, Rule, find_holes
from lib.oof.evaluate import HALF, Evaluation, count
from lib.oof.map_files import Bands, Maps
from lib.tables import IGNORE

LOWS = np.arange(16, 241, 16)  # bins from which pixels belong to an object
HIGHS = np.arange(0, 256, 8)  # bins that its surest pixel reaches
AREAS = np.array([0, *(2**k for k in range(1, 25))])  # pixels of an object at least; of a hole at most
COARSER = slice(1, None, 2), slice(None, None, 4), slice(None, None, 2)  # of these, where there are several classes
SWEEPS = 2  # over several classes' objects

Change = tuple[np.ndarray, np.ndarray]
"""Images (M,), and by how much a label's objects change their counts, (M, n, 3)."""


class ObjectRules(Counting):
    """Fits each label's rule on some images."""

    def __init__(self, oof: Evaluation, maps: Maps | None, n_labels: int, config: Config, folder: Path | None = None):
        super().__init__(oof, maps, n_labels, config, folder)
        background = config.competition.background
        self.labels = range(int(oof.binary or background), n_labels)  # that objects have
        grids = (LOWS, HIGHS, AREAS)
        if not oof.binary:
            grids = [grid[part] for grid, part in zip(grids, COARSER, strict=True)]
        self.lows, self.highs, self.areas = grids
        if not (oof.binary or background):  # the likeliest label is likelier than the next one
            self.lows = self.lows[self.lows >= HALF]
        self.facts = lru_cache(1)(self.facts)  # they are large

    def facts(self, start: Decision) -> tuple[np.ndarray, list[Pieces]]:
        """Of all images' `start`ing maps: counts (N, n, 3) as if there were no objects, and the objects that each label
        can have, by every low bin."""
        n, cells = self.n_labels, len(self.highs) * len(self.areas) + 1
        rest, rows = np.zeros((len(self.oof.image_ids), n, 3), np.int64), [[] for _ in self.labels]
        for i, image_id in enumerate(self.oof.image_ids):
            bands = self.bands(image_id, start)
            for own, label in zip(rows, self.labels, strict=True):
                bins, kept = bands.channel(0) if self.oof.binary else OfLabel(bands, label), np.zeros(n * n, np.int64)
                for band, kinds in zip(bands, self.kinds(bands), strict=True):
                    mine = kinds < n * n
                    mine &= self.oof.binary or band[0] == label
                    kept += np.bincount(kinds[mine], minlength=n * n)
                rest[i] += metrics.counts_of(kept.reshape(n, n))
                for j, low in enumerate(self.lows if kept.any() else ()):
                    counts = pixels_by_cell(bins, self.kinds(bands), int(low), self.highs, self.areas, n * n)
                    cell, kind = np.nonzero(counts)
                    place = np.full(len(cell), i), j * cells + cell
                    own.append(np.stack([*place, kind, counts[cell, kind]]))
        return rest, [
            Pieces(label, n, *np.concatenate([np.zeros((4, 0), np.int64), *own], axis=1))
            for label, own in zip(self.labels, rows, strict=True)
        ]

    def kinds(self, bands: Bands) -> Iterator[np.ndarray]:
        """Of every pixel, truth x the label that stands there if its candidate does not, (h, W) int32; where the truth
        is not known, more than there are."""
        for band in bands:
            yield band[-1].astype(np.int32) * self.n_labels + (0 if self.oof.binary else band[1])

    def rules(self, start: Decision, chosen: np.ndarray) -> tuple[Rule | None, ...]:
        """The best of plain pixels, objects, and the largest object, whatever of these is asked for, of each label; one
        label at a time, the others as they are."""
        config = self.config.competition
        if self.oof.binary:
            rest, facts = self.facts(replace(start, threshold=None))
            plain, counts = Rule(start.threshold), self.counts(start.mix, start.gates)
            added = [(np.arange(len(rest)), counts.class_counts(0, start.threshold) - rest)]
        else:
            plain = Rule(HALF)
            rest, facts = self.facts(replace(start, rules=(None,) * self.labels[0] + (plain,) * len(self.labels)))
            added = [self.plain(pieces, chosen) for pieces in facts]
        total = rest.astype(np.float64)
        for images, change in added:
            total[images] += change
        rules, best = [plain] * len(facts), metrics.score(config, total[chosen])
        for _ in range(SWEEPS if len(facts) > 1 else 1):
            before = best
            for i, pieces in enumerate(facts):
                images, change = added[i]
                total[images] -= change
                for rule, (images, change), here in self.trials(pieces, total, chosen):
                    if here > best + 1e-6:
                        best, rules[i], added[i] = here, rule, (images, change)
                images, change = added[i]
                total[images] += change
            if best <= before + 1e-6:
                break
        return (None,) * self.labels[0] + tuple(rules)

    def plain(self, pieces: Pieces, chosen: np.ndarray) -> Change:
        """What a label's pixels change that are as likely as not, and more."""
        low = int(np.searchsorted(self.lows, HALF))
        images, moved, _, change = pieces.moved(low, (len(self.highs), len(self.areas)), chosen)
        return images, np.tensordot(moved[:, 0, 0], change, 1)

    def trials(self, pieces: Pieces, total: np.ndarray, chosen: np.ndarray) -> Iterator[tuple[Rule, Change, float]]:
        """Rules for a label, what they change, and the score of the chosen images; `total`: counts (N, n, 3) without
        the label's objects."""
        decide = self.config.infer.postprocess
        for j, low in enumerate(self.lows):
            images, moved, largest, change = pieces.moved(j, (len(self.highs), len(self.areas)), chosen)
            still, here = chosen.copy(), total[images]
            still[images] = False
            score = metrics.changing(self.config.competition, total[still])
            for p, high in enumerate(self.highs if "objects" in decide else ()):
                if high == 0 or high > low:
                    changes = np.tensordot(moved[:, p].swapaxes(0, 1), change, 1)
                    for area, own in zip(self.areas, changes, strict=True):
                        if high or area or not self.oof.binary:  # one class's plain threshold is fitted with more care
                            yield Rule(int(low), int(high), int(area)), (images, own), score(here + own)
            if "largest" in decide:
                own = np.tensordot(largest, change, 1)
                yield Rule(int(low), largest=True), (images, own), score(here + own)

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


def _confusion(masks: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> np.ndarray:
    return sum(count(truth, mask.view(np.uint8), (2, 2)) for mask, truth in zip(masks, truths, strict=True))
