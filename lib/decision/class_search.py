"""Gates and factors of classes, fitted on whole maps: the effect of every class's value is counted exactly.

A pass over the maps takes a state, which is one value for each class. It counts what any other value of any single
class would change in every image. The best change of one class is therefore known exactly, however few pixels decide
it. Changes of several classes at once are estimated from the same counts, and kept where the next pass confirms them.

Memory: for each image, the combinations of class, other class, value and truth that occur; never a map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from lib.competition import metrics
from lib.competition.scoring import count_classes
from lib.config.competition import CompetitionSettings
from lib.decision.ensemble_weights import EnsembleWeights
from lib.decision.search import MIN_GAIN, search_in_passes

CLASS_PASSES = 6  # rounds of passes over the maps, at most
COUNTS_PER_PASS = 2**22  # images x classes x states that one pass counts

Affected = tuple[int, np.ndarray, np.ndarray, np.ndarray]
"""(label, the pixels that depend on its value (P,) bool, their labels without it, the index of the value from which on
they have it)"""


class ClassState(NamedTuple):
    """What a pass counts: the ensemble's weights, gates that are already fixed, and the index of each class's value."""

    mix: EnsembleWeights | None
    gates: tuple[float, ...] | None
    indices: tuple[int, ...]


class ValueGrid(Protocol):
    """The `values` that a class may take, in an order in which a pixel that has the class keeps it at all later values.

    `neutral` is the index of the value that changes nothing.
    """

    values: np.ndarray
    neutral: int

    def unaffected(self, probs: np.ndarray, presence: np.ndarray, states: list[ClassState]) -> np.ndarray:
        """Pixels (P,) bool that no value of any class would change; `probs` and `presence` are (K, P)."""

    def affected(
        self, probs: np.ndarray, presence: np.ndarray, indices: tuple[int, ...]
    ) -> tuple[np.ndarray, Iterator[Affected]]:
        """The labels (P,) that are decided with the values at `indices`, and the affected pixels of each class."""


@dataclass(frozen=True)
class ValueChanges:
    """The counts of one state, and what other values of its classes would change.

    `counts` (N, C, 3) are the state's own. Each of R rows says: `pixels` of an `image` have the `label` where the index
    of its value is `step` or more, and the `other` label below. `kind` is 1 where `label` is their truth, 2 where
    `other` is, else 0.
    """

    counts: np.ndarray
    image: np.ndarray
    label: np.ndarray
    other: np.ndarray
    kind: np.ndarray
    step: np.ndarray
    pixels: np.ndarray

    def of(self, label: int, chosen: np.ndarray) -> ValueChanges:
        """The rows of one label and of the chosen images, (N,) bool."""
        rows = (self.label == label) & chosen[self.image]
        return ValueChanges(self.counts, *(column[rows] for column in list(vars(self).values())[1:]))

    def changes(self, index: int, steps: int) -> tuple[np.ndarray, Iterator[np.ndarray]]:
        """For rows of one label: their images (M,), and the change of these images' counts (M, C, 3) for each of the
        `steps` values in turn, where the value now is the one at `index`."""
        images, position = np.unique(self.image, return_inverse=True)
        change = np.zeros((len(images), *self.counts.shape[1:]), np.int64)

        def add(rows: np.ndarray, sign: int) -> None:
            image, label, other = position[rows], self.label[rows], self.other[rows]
            pixels = sign * self.pixels[rows]
            np.add.at(change, (image, label, 2), pixels)
            np.add.at(change, (image, other, 2), -pixels)
            np.add.at(change, (image, label, 0), pixels * (self.kind[rows] == 1))
            np.add.at(change, (image, other, 0), -pixels * (self.kind[rows] == 2))

        def each() -> Iterator[np.ndarray]:
            add(np.flatnonzero(self.step <= index), -1)
            for step in range(steps):
                add(np.flatnonzero(self.step == step), 1)
                yield change.copy()

        return images, each()


class ImageCounter:
    """Counts the value changes of several `states` in one image, block by block, for `n` labels.

    `blend(probs_u8, mix, gates)` returns probabilities and presences (K, P) of pixels.
    """

    def __init__(self, blend: Callable, grid: ValueGrid, states: list[ClassState], n: int):
        self.blend, self.grid, self.states, self.n = blend, grid, states, n
        self.shape = n, n, 3, len(grid.values)
        self.cells = np.zeros((len(states), np.prod(self.shape)), np.int64)
        self.counts = np.zeros((len(states), n, 3), np.int64)
        self.same_blend: dict[tuple, list[int]] = {}
        for i, state in enumerate(states):
            self.same_blend.setdefault((state.mix, state.gates), []).append(i)

    def add(self, probs_u8: np.ndarray, truth: np.ndarray) -> None:
        """Count a block: the models' probabilities (S, K, P) uint8 and the truth (P,)."""
        for (mix, gates), members in self.same_blend.items():
            probs, presence = self.blend(probs_u8, mix, gates)
            fixed = self.grid.unaffected(probs, presence, [self.states[i] for i in members])
            self.counts[members] += count_classes(truth[fixed], probs[:, fixed].argmax(0), self.n)
            probs, presence, open_truth = probs[:, ~fixed], presence[:, ~fixed], truth[~fixed]
            for i in members:
                labels, affected = self.grid.affected(probs, presence, self.states[i].indices)
                self.counts[i] += count_classes(open_truth, labels, self.n)
                for label, depends, other, step in affected:
                    true, other = open_truth[depends], other[depends]
                    kind = np.where(true == label, 1, np.where(true == other, 2, 0))
                    cell = np.ravel_multi_index((label, other.astype(np.int64), kind, step[depends]), self.shape)
                    self.cells[i] += np.bincount(cell, minlength=self.cells.shape[1])

    def rows(self, i: int) -> np.ndarray:
        """The cells of state i that are not empty, and their pixels, (2, R)."""
        full = np.flatnonzero(self.cells[i])
        return np.stack([full, self.cells[i][full]])


def count_value_changes(
    images: Iterable[Iterable[tuple[np.ndarray, np.ndarray]]], blend: Callable, grid: ValueGrid,
    states: list[ClassState], n: int,
) -> list[ValueChanges]:  # fmt: skip
    """One pass over the maps, for all `states`. `images`: each image's blocks, as `ImageCounter.add` takes them."""
    rows, counts = [[] for _ in states], [[] for _ in states]
    for number, blocks in enumerate(images):
        counter = ImageCounter(blend, grid, states, n)
        for probs_u8, truth in blocks:
            counter.add(probs_u8, truth)
        for i in range(len(states)):
            found = counter.rows(i)
            rows[i].append(np.concatenate([np.full((1, found.shape[1]), number), found]))
            counts[i].append(counter.counts[i])
    changes, shape = [], (n, n, 3, len(grid.values))
    for parts, total in zip(rows, counts, strict=True):
        image, cell, pixels = np.concatenate(parts, 1)
        changes.append(ValueChanges(np.array(total), image, *np.unravel_index(cell, shape), pixels))
    return changes


@dataclass(frozen=True)
class ClassObjective:
    """The score of class values on the chosen `images` (N,) bool; `labels`: those that have a value."""

    images: np.ndarray
    grid: ValueGrid
    labels: range
    config: CompetitionSettings

    def score(self, changes: ValueChanges) -> float:
        return self._score_of(changes.counts)

    def _score_of(self, counts: np.ndarray) -> float:
        """The metric of counts (N, C, 3) of all images."""
        return metrics.score(self.config, counts[self.images])

    def best_value(self, changes: ValueChanges, counts: np.ndarray, label: int, index: int) -> tuple[float, int]:
        """(score, index) of the label's best value, where it now is the one at `index` and `counts` (N, C, 3) are those
        that a new value changes. Of equally good values, the one nearest to the neutral value."""
        images, each = changes.of(label, self.images).changes(index, len(self.grid.values))
        if not len(images):
            return -np.inf, index
        unchanged = self.images.copy()
        unchanged[images] = False
        score = metrics.changing(self.config, counts[unchanged])
        scores = np.array([score(np.maximum(counts[images] + change, 0)) for change in each])
        top = np.flatnonzero(scores >= scores.max() - 1e-9)
        best = top[np.argmin(np.abs(top - self.grid.neutral))]
        return float(scores[best]), int(best)

    def proposals(self, state: ClassState, changes: ValueChanges) -> list[ClassState]:
        """The state with the changes of all classes that gain, and that with the best change of one class; none where
        nothing gains."""
        start, gains = self._score_of(changes.counts), {}
        for label in self.labels:
            score, index = self.best_value(changes, changes.counts, label, state.indices[label])
            if score > start + MIN_GAIN:
                gains[label] = score, index
        if not gains:
            return []
        order = sorted(gains, key=lambda label: -gains[label][0])
        single, several = list(state.indices), list(state.indices)
        counts, reached = changes.counts.copy(), start
        single[order[0]] = gains[order[0]][1]
        for label in order:
            score, index = self.best_value(changes, counts, label, state.indices[label])
            if score > reached + MIN_GAIN:
                images, each = changes.of(label, self.images).changes(state.indices[label], len(self.grid.values))
                counts[images] += next(islice(each, index, None))
                reached, several[label] = score, index
        return list(dict.fromkeys(state._replace(indices=tuple(found)) for found in (several, single)))


def search_values(
    count: Callable[[list[ClassState]], list[ValueChanges]], starts: list[list[ClassState]],
    objectives: list[ClassObjective],
) -> list[tuple[int, ...]]:  # fmt: skip
    """The indices of the classes' values that score best, for each objective, as `search_in_passes` finds them."""
    per_pass = max(1, COUNTS_PER_PASS // max(1, objectives[0].images.size * len(starts[0][0].indices)))
    return [state.indices for state in search_in_passes(count, starts, objectives, CLASS_PASSES, per_pass)]
