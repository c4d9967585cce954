"""Gates and factors of classes, fitted on whole maps: what each class's value changes is counted exactly.

A pass over the maps counts, for a state of all classes' values, what every other value of each single class would make
of every image. So the best change of one class is known exactly, however few pixels decide it. Changes of several
classes at once are tried on the same counts, which are then only near the truth, and are kept where the next pass over
the maps confirms them.

Memory: of each image the rows that occur (class, other class, value, whose truth it is); never a map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from lib.competition import metrics
from lib.config.competition import Competition
from lib.decision.ensemble_weights import Mix

ROUNDS = 6  # passes over the maps, at most
GAIN = 1e-6  # of a score, that is no chance of rounding
TOGETHER = 2**22  # images x classes x states that one pass counts
CHUNK = 2**18  # pixels looked at together


class State(NamedTuple):
    """What a pass counts: the mixture, gates that are fixed already, and the place of each class's value in the
    grid."""

    mix: Mix | None
    gates: tuple[float, ...] | None
    places: tuple[int, ...]


class Space(Protocol):
    """Values of classes in a grid of `values`, from which on a pixel goes to the class; `neutral`: the place of the one
    that changes nothing."""

    values: np.ndarray
    neutral: int

    def sure(self, probs: np.ndarray, presence: np.ndarray, states: list[State]) -> np.ndarray:
        """Pixels (P,) of probabilities and presences (K, P) that no value of any class would change."""

    def looks(
        self, probs: np.ndarray, presence: np.ndarray, places: tuple[int, ...]
    ) -> tuple[np.ndarray, Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]]:
        """The decided labels (P,); and for each class that has a value: (label, which pixels depend on it (P,), their
        label without it, the place in the grid from which on they have it)."""


@dataclass(frozen=True)
class Moves:
    """`counts` (N, C, 3) of a state; and in R rows how many `pixels` of an `image` are of the `label` where its value's
    place is `step` at least, and of the `other` label below. `kind`: 1 where `label` is their truth, 2 where `other`
    is."""

    counts: np.ndarray
    image: np.ndarray
    label: np.ndarray
    other: np.ndarray
    kind: np.ndarray
    step: np.ndarray
    pixels: np.ndarray

    def of(self, label: int, chosen: np.ndarray) -> Moves:
        """The rows of one label and of the chosen images (N,)."""
        here = (self.label == label) & chosen[self.image]
        return Moves(self.counts, *(column[here] for column in list(vars(self).values())[1:]))

    def changes(self, place: int, steps: int) -> tuple[np.ndarray, Iterator[np.ndarray]]:
        """Of one label's rows: their images (M,), and how each of the values changes the images' counts (M, C, 3),
        where the value now is at `place`."""
        images, at = np.unique(self.image, return_inverse=True)
        change = np.zeros((len(images), *self.counts.shape[1:]), np.int64)

        def add(rows: np.ndarray, sign: int) -> None:
            image, label, other, pixels = at[rows], self.label[rows], self.other[rows], sign * self.pixels[rows]
            np.add.at(change, (image, label, 2), pixels)
            np.add.at(change, (image, other, 2), -pixels)
            np.add.at(change, (image, label, 0), pixels * (self.kind[rows] == 1))
            np.add.at(change, (image, other, 0), -pixels * (self.kind[rows] == 2))

        def each() -> Iterator[np.ndarray]:
            add(np.flatnonzero(self.step <= place), -1)
            for step in range(steps):
                add(np.flatnonzero(self.step == step), 1)
                yield change.copy()

        return images, each()


class Pass:
    """Counts one image's `states` of a `space` of values, of `n` labels.

    `blend(bins, mix, gates)`: probabilities and presences (K, P) of pixels.
    """

    def __init__(self, blend: Callable, space: Space, states: list[State], n: int):
        self.blend, self.space, self.states, self.n = blend, space, states, n
        self.shape = n, n, 3, len(space.values)
        self.cells = np.zeros((len(states), np.prod(self.shape)), np.int64)
        self.counts = np.zeros((len(states), n, 3), np.int64)
        self.alike: dict[tuple, list[int]] = {}
        for place, state in enumerate(states):
            self.alike.setdefault((state.mix, state.gates), []).append(place)

    def add(self, bins: np.ndarray, truth: np.ndarray) -> None:
        """A block's bins (S, K, P) and truth (P,)."""
        for (mix, gates), own in self.alike.items():
            probs, presence = self.blend(bins, mix, gates)
            sure = self.space.sure(probs, presence, [self.states[place] for place in own])
            self.counts[own] += _counts(truth[sure], probs[:, sure].argmax(0), self.n)
            probs, presence, unsure = probs[:, ~sure], presence[:, ~sure], truth[~sure]
            for place in own:
                labels, found = self.space.looks(probs, presence, self.states[place].places)
                self.counts[place] += _counts(unsure, labels, self.n)
                for label, depends, other, step in found:
                    true, other = unsure[depends], other[depends]
                    kind = np.where(true == label, 1, np.where(true == other, 2, 0))
                    flat = np.ravel_multi_index((label, other.astype(np.int64), kind, step[depends]), self.shape)
                    self.cells[place] += np.bincount(flat, minlength=self.cells.shape[1])

    def rows(self, place: int) -> np.ndarray:
        """The cells of a state that are not empty, and their pixels, (2, R)."""
        full = np.flatnonzero(self.cells[place])
        return np.stack([full, self.cells[place][full]])


def count_moves(
    images: Iterable[Iterable[tuple[np.ndarray, np.ndarray]]], blend: Callable, space: Space, states: list[State],
    n: int,
) -> list[Moves]:  # fmt: skip
    """One pass over the maps; `images`: for each, its blocks' bins and truth; the rest as `Pass` takes it."""
    rows, counts = [[] for _ in states], [[] for _ in states]
    for i, blocks in enumerate(images):
        one = Pass(blend, space, states, n)
        for bins, truth in blocks:
            one.add(bins, truth)
        for place in range(len(states)):
            own = one.rows(place)
            rows[place].append(np.concatenate([np.full((1, own.shape[1]), i), own]))
            counts[place].append(one.counts[place])
    made, shape = [], (n, n, 3, len(space.values))
    for own, total in zip(rows, counts, strict=True):
        image, cell, pixels = np.concatenate(own, 1)
        made.append(Moves(np.array(total), image, *np.unravel_index(cell, shape), pixels))
    return made


def _counts(truth: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
    """(n, 3) of pixels (P,)"""
    sides = truth[truth == labels], truth, labels
    return np.stack([np.bincount(side, minlength=n) for side in sides], -1)


@dataclass(frozen=True)
class Choice:
    """Some `images` (N,) bool, on which values of a `space` are judged; `labels`: those that have values."""

    images: np.ndarray
    space: Space
    labels: range
    config: Competition

    def score(self, counts: np.ndarray) -> float:
        """The metric of counts (N, C, 3) of all images."""
        return metrics.score(self.config, counts[self.images])

    def best_place(self, moves: Moves, counts: np.ndarray, label: int, place: int) -> tuple[float, int]:
        """(score, place in the grid) of the label's best value, where `counts` (N, C, 3) are what it changes and it now
        is at `place`; of a plateau the value nearest to the neutral one."""
        images, changes = moves.of(label, self.images).changes(place, len(self.space.values))
        if not len(images):
            return -np.inf, place
        still = self.images.copy()
        still[images] = False
        score = metrics.changing(self.config, counts[still])
        scores = np.array([score(np.maximum(counts[images] + each, 0)) for each in changes])
        top = np.flatnonzero(scores >= scores.max() - 1e-9)
        best = top[np.argmin(np.abs(top - self.space.neutral))]
        return float(scores[best]), int(best)

    def next_states(self, moves: Moves, state: State) -> list[State]:
        """The state with the changes of all classes that gain, and that with the best change of one class; none where
        nothing gains."""
        start, gains = self.score(moves.counts), {}
        for label in self.labels:
            score, place = self.best_place(moves, moves.counts, label, state.places[label])
            if score > start + GAIN:
                gains[label] = score, place
        if not gains:
            return []
        order = sorted(gains, key=lambda label: -gains[label][0])
        single, places, working, reached = list(state.places), list(state.places), moves.counts.copy(), start
        single[order[0]] = gains[order[0]][1]
        for label in order:
            score, place = self.best_place(moves, working, label, state.places[label])
            if score > reached + GAIN:
                images, changes = moves.of(label, self.images).changes(state.places[label], len(self.space.values))
                working[images] += next(islice(changes, place, None))
                reached, places[label] = score, place
        return list(dict.fromkeys(state._replace(places=tuple(one)) for one in (places, single)))


def search(
    count: Callable[[list[State]], list[Moves]], starts: list[list[State]], choices: list[Choice]
) -> list[tuple[int, ...]]:
    """The places of all classes' values that score best on each of the choices of images.

    `starts`: states of each choice, from which the best one is searched; all choices share the passes of `count`.
    """
    best: list[tuple[float, State]] = [(-np.inf, own[0]) for own in starts]
    waiting, n = [list(own) for own in starts], len(starts[0][0].places)
    together = max(1, TOGETHER // max(1, choices[0].images.size * n))
    for turn in range(ROUNDS):
        asked = list(dict.fromkeys(state for own in waiting for state in own))
        wanted: list[list[State]] = [[] for _ in waiting]
        for first in range(0, len(asked), together):
            some = asked[first : first + together]
            for state, moves in zip(some, count(some), strict=True):
                for i, choice in enumerate(choices):
                    if state in waiting[i] and (here := choice.score(moves.counts)) > best[i][0] + GAIN:
                        best[i] = here, state
                        wanted[i] = choice.next_states(moves, state) if turn + 1 < ROUNDS else []
        waiting = wanted
    return [state.places for _, state in best]
