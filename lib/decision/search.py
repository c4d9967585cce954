"""Searches that several fits share: coordinate ascent, and a search by passes over the maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

MIN_GAIN = 1e-6  # smaller differences between scores may be rounding
State = TypeVar("State")
Counts = TypeVar("Counts")


class Objective(Protocol[State, Counts]):
    """What one search maximises: a score on some of the images."""

    def score(self, counts: Counts) -> float:
        """The score of a state's counts."""

    def proposals(self, state: State, counts: Counts) -> list[State]:
        """States to try next, after `state` was better than all before it."""


def coordinate_ascent(improve: Callable[[int, float], float], coordinates: int, score: float, sweeps: int) -> None:
    """Improve one coordinate at a time, all others fixed, until a sweep over the coordinates gains nothing.

    `improve(i, score)` changes coordinate i for the better, if it can, and returns the score reached. It starts at
    `score`; there are at most `sweeps` sweeps.

    >>> point = [0, 0]
    >>> def improve(i, score):
    ...     point[i] = i + 2
    ...     return -abs(point[0] - 2) - abs(point[1] - 3)
    >>> coordinate_ascent(improve, 2, -5.0, 3)
    >>> point
    [2, 3]
    """
    for _ in range(sweeps):
        before = score
        for i in range(coordinates):
            score = improve(i, score)
        if score <= before + MIN_GAIN:
            break


def search_in_passes(
    count: Callable[[list[State]], Sequence[Counts]], starts: list[list[State]],
    objectives: Sequence[Objective[State, Counts]], passes: int, per_pass: int,
) -> list[State]:  # fmt: skip
    """The best state found for each objective.

    `count(states)` makes one pass over the maps and returns each state's counts. All objectives share these passes,
    which are expensive: at most `passes` rounds, in each of which `per_pass` states are counted together. `starts`:
    each objective's first states. Of equally good states the first one wins.
    """
    best: list[tuple[float, State]] = [(-np.inf, states[0]) for states in starts]
    waiting, tried = [list(states) for states in starts], [set(states) for states in starts]
    for turn in range(passes):
        to_count = list(dict.fromkeys(state for states in waiting for state in states))
        proposed: list[list[State]] = [[] for _ in objectives]
        for first in range(0, len(to_count), per_pass):
            batch = to_count[first : first + per_pass]
            for state, counts in zip(batch, count(batch), strict=True):
                for i, objective in enumerate(objectives):
                    if state in waiting[i] and (score := objective.score(counts)) > best[i][0] + MIN_GAIN:
                        best[i] = score, state
                        proposed[i] = objective.proposals(state, counts) if turn + 1 < passes else []
        waiting = [[state for state in states if state not in tried[i]] for i, states in enumerate(proposed)]
        for i, states in enumerate(waiting):
            tried[i].update(states)
    return [state for _, state in best]
