"""The presence gate: a class is left out where the classification head finds it unlikely. Fitted on whole maps.

The head predicts for each window which classes are present in it. These probabilities are blended over windows and
averaged over members in the same way as masks, so that every pixel has a presence of each class. Where the presence is
below the class's gate, the class is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lib.competition import metrics
from lib.config.competition import CompetitionSettings
from lib.decision.class_search import Affected, ClassState
from lib.decision.ensemble_weights import THRESHOLD_GRID
from lib.decision.search import MIN_GAIN
from lib.oof.codes import HALF, to_probs_u8
from lib.tables import IGNORE

SHUT = 1.01  # a presence that no class reaches, so the class is never answered
GATES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, SHUT)  # presences that are tried
PRESENCE_COUNTS = 2 * (len(GATES) + 1) * (len(THRESHOLD_GRID) + 1)  # numbers that `presence_counts` gives
LEFT_OUT_FACTOR = 1e-6  # factor for what is left out: where all classes are, the likeliest one still wins


def with_presence(values: np.ndarray, has_presence: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Split values (S, 2K, …) into masks and presence, each (S, K, …). Without presence the values are all masks."""
    if not has_presence:
        return values, None
    half = values.shape[1] // 2
    return values[:, :half], values[:, half:]


def gated(probs: np.ndarray, presence: np.ndarray, gates: tuple[float, ...]) -> np.ndarray:
    """Probabilities (K, …) float32, almost zero where a class's presence (K, …) is below its gate."""
    if not any(gates):
        return probs
    least = np.array(gates, np.float32).reshape(-1, *[1] * (probs.ndim - 1))
    return np.where(presence < least, probs * np.float32(LEFT_OUT_FACTOR), probs)


def open_gates(presence: np.ndarray) -> np.ndarray:
    """How many of `GATES` a presence reaches."""
    return np.searchsorted(np.array(GATES, np.float32), presence, "right")


class GateGrid:
    """Gates of several classes as the `ValueGrid` of lib/decision/class_search.py: from the highest gate down to none.

    `labels`: those that have a gate.
    """

    values = np.array([*GATES[::-1], 0.0])
    neutral = len(GATES)

    def __init__(self, labels: range):
        self.labels = labels

    def gates(self, indices: tuple[int, ...]) -> tuple[float, ...]:
        """Each class's gate."""
        return tuple(float(self.values[index]) for index in indices)

    def unaffected(self, probs: np.ndarray, presence: np.ndarray, states: list[ClassState]) -> np.ndarray:
        """As `ValueGrid`: the likeliest class passes every gate, or has none."""
        first = probs.argmax(0)
        passes = np.take_along_axis(presence, first[None], 0)[0] >= np.float32(GATES[-1])
        return passes | ~np.isin(first, self.labels)

    def affected(
        self, probs: np.ndarray, presence: np.ndarray, indices: tuple[int, ...]
    ) -> tuple[np.ndarray, Iterator[Affected]]:
        """As `ValueGrid`."""
        labels, second, top, next_ = two_likeliest(gated(probs, presence, self.gates(indices)))

        def each() -> Iterator[Affected]:
            for label in self.labels:
                step, has_label = self.neutral - open_gates(presence[label]), labels == label
                # A pixel that has the class leaves it for the next class when the gate closes, if the next class is
                # then likelier. A pixel whose gate is closed gets the class when the gate opens, if the class is
                # likelier than all others.
                shut = probs[label] * np.float32(LEFT_OUT_FACTOR)
                leaves = has_label & (step <= indices[label]) & ((next_ > shut) | (next_ == shut) & (second < label))
                equal = (probs[label] == top) & (label < labels)  # argmax takes the first
                comes = ~has_label & (step > indices[label]) & ((probs[label] > top) | equal)
                yield label, (leaves | comes) & (step > 0), np.where(has_label, second, labels), step

        return labels, each()


def two_likeliest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The labels (P,) of the largest and second largest of values (K, P), and both values (P,)."""
    rest = values.copy()
    first = values.argmax(0)[None]
    np.put_along_axis(rest, first, -np.inf, 0)
    second = rest.argmax(0)[None]
    top, next_ = (np.take_along_axis(values, place, 0)[0] for place in (first, second))
    return first[0], second[0], top, next_


def presence_counts(probs: np.ndarray, presence: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Counts of one class's pixels (P,): how many gates are open x truth x how many of `THRESHOLD_GRID` are reached."""
    shape, known = (len(GATES) + 1, 2, len(THRESHOLD_GRID) + 1), truth != IGNORE
    probs, presence, truth = probs[known], presence[known], truth[known]
    reached = np.searchsorted(THRESHOLD_GRID, to_probs_u8(probs), "right")
    flat = np.ravel_multi_index((open_gates(presence), truth.astype(np.int64), reached), shape)
    return np.bincount(flat, minlength=np.prod(shape)).reshape(shape)


def fit_gate(counts: np.ndarray, config: CompetitionSettings, search: bool) -> float:
    """The best gate of one class, 0 where none gains; `counts` (N, …): `presence_counts` of each image.

    Each gate is scored at its own best threshold where thresholds are searched (`search`), else at one half.
    """
    places = range(len(THRESHOLD_GRID)) if search else [int(np.searchsorted(THRESHOLD_GRID, HALF))]
    best, found = -np.inf, 0.0
    for closed, gate in enumerate((0.0, *GATES)):
        passing = counts[:, closed:].sum(1)
        passing[..., 0] += counts[:, :closed].sum((1, 3))
        for i in places:
            matrices = np.stack([passing[..., : i + 1].sum(-1), passing[..., i + 1 :].sum(-1)], -1)
            score = metrics.score(config, metrics.counts_of(matrices))
            if score > best + MIN_GAIN:
                best, found = score, gate
    return found
