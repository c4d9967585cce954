"""The class gate: a class is left out where the classification head hardly finds it, fitted on whole maps.

Heads tell of a window which classes are present in it. Their answers are blended over windows and averaged over members
as masks are, so that every pixel has a presence of each class; what is below the class's gate is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lib.competition import metrics
from lib.config.competition import Competition
from lib.decision.ensemble_weights import CUTS
from lib.oof.evaluate import HALF, to_bins

SHUT = 1.01  # a presence that no class reaches: the class is never answered
GATES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, SHUT)  # presences that are tried
LEFT = 1e-6  # of a probability that is left out: of classes that all are, the likeliest is taken


def with_presence(values: np.ndarray, told: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Values (S, 2K, …) of masks and, behind them, presence where that is `told` → each (S, K, …)."""
    if not told:
        return values, None
    half = values.shape[1] // 2
    return values[:, :half], values[:, half:]


def gated(probs: np.ndarray, presence: np.ndarray, gates: tuple[float, ...]) -> np.ndarray:
    """Probabilities (K, …) float32, next to nothing where a class's presence (K, …) is below its gate."""
    if not any(gates):
        return probs
    least = np.array(gates, np.float32).reshape(-1, *[1] * (probs.ndim - 1))
    return np.where(presence < least, probs * np.float32(LEFT), probs)


def open_gates(presence: np.ndarray) -> np.ndarray:
    """How many of `GATES` a presence reaches."""
    return np.searchsorted(np.array(GATES, np.float32), presence, "right")


class Gates:
    """Gates of several classes as values of lib/decision/class_search.py: from the highest down to none, so that a
    pixel goes to its class from some place on. `labels`: those that have a gate."""

    values = np.array([*GATES[::-1], 0.0])
    neutral = len(GATES)

    def __init__(self, labels: range):
        self.labels = labels

    def gates(self, places: tuple[int, ...]) -> tuple[float, ...]:
        """Each class's gate."""
        return tuple(float(self.values[place]) for place in places)

    def sure(self, probs: np.ndarray, presence: np.ndarray, states: list) -> np.ndarray:
        """As lib/decision/class_search.py wants it: the likeliest class is open at every gate, or has none."""
        first = probs.argmax(0)
        seen = np.take_along_axis(presence, first[None], 0)[0] >= np.float32(GATES[-1])
        return seen | ~np.isin(first, self.labels)

    def looks(
        self, probs: np.ndarray, presence: np.ndarray, places: tuple[int, ...]
    ) -> tuple[np.ndarray, Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]]:
        """As lib/decision/class_search.py wants it."""
        here = gated(probs, presence, self.gates(places))
        labels, second, top, next_ = two_likeliest(here)

        def each() -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
            for label in self.labels:
                step, mine = self.neutral - open_gates(presence[label]), labels == label
                # What is open and likeliest goes to the next class where its gate is closed, if that is likelier then;
                # what is closed goes to the class where it is open, if the class is likelier than all others.
                shut = probs[label] * np.float32(LEFT)
                leaves = mine & (step <= places[label]) & ((next_ > shut) | (next_ == shut) & (second < label))
                equal = (probs[label] == top) & (label < labels)  # argmax takes the first
                comes = ~mine & (step > places[label]) & ((probs[label] > top) | equal)
                yield label, (leaves | comes) & (step > 0), np.where(mine, second, labels), step

        return labels, each()


def two_likeliest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of values (K, P): the places (P,) of the largest and of the next, and both values."""
    rest = values.copy()
    first = values.argmax(0)[None]
    np.put_along_axis(rest, first, -np.inf, 0)
    second = rest.argmax(0)[None]
    top, next_ = (np.take_along_axis(values, place, 0)[0] for place in (first, second))
    return first[0], second[0], top, next_


def presence_counts(probs: np.ndarray, presence: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of one class's pixels (P,): gates that are open (len(GATES) + 1) x truth (2) x bin between `CUTS`."""
    shape = len(GATES) + 1, 2, len(CUTS) + 1
    bins = np.searchsorted(CUTS, to_bins(probs), "right")
    flat = np.ravel_multi_index((open_gates(presence), truth.astype(np.int64), bins), shape)
    return np.bincount(flat, minlength=np.prod(shape)).reshape(shape)


def fit_gate(counts: np.ndarray, config: Competition, search: bool) -> float:
    """The gate of one class that scores best, 0 where none gains, from `presence_counts` of the images, (N, …).

    Each gate is judged at the threshold that is best for it, where thresholds are searched, else at one half.
    """
    cuts = range(len(CUTS)) if search else [int(np.searchsorted(CUTS, HALF))]
    best, found = -np.inf, 0.0
    for place, gate in enumerate((0.0, *GATES)):
        bins = counts[:, place:].sum(1)
        bins[..., 0] += counts[:, :place].sum((1, 3))
        for cut in cuts:
            matrices = np.stack([bins[..., : cut + 1].sum(-1), bins[..., cut + 1 :].sum(-1)], -1)
            score = metrics.score(config, metrics.counts_of(matrices))
            if score > best + 1e-6:
                best, found = score, gate
    return found
