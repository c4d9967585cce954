"""The class gate: a class is left out where the classification head hardly finds it, fitted on a sample of pixels.

Heads tell of a window which classes are present in it. Their answers are blended over windows and averaged over members
as masks are, so that every pixel has a presence of each class; what is below the class's gate is left out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

GATES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # presences that are tried
LEFT = 1e-6  # of a probability that is left out: of classes that all are, the likeliest is taken
SWEEPS = 2  # over the classes


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


def fit_gates(
    probs: np.ndarray, presence: np.ndarray, labels: range, score: Callable[[np.ndarray], float]
) -> tuple[float, ...]:
    """Gates (K,) of the sampled probabilities and presences (K, P) that score best, one class at a time; 0 where none
    gains, and for what is not among `labels`. `score`: of probabilities (K, P)."""
    gates, best = [0.0] * len(probs), score(probs)
    for _ in range(SWEEPS):
        before = best
        for label in labels:
            for gate in (0.0, *GATES):
                trial = [*gates[:label], gate, *gates[label + 1 :]]
                here = score(gated(probs, presence, trial))
                if here > best + 1e-6:
                    best, gates = here, trial
        if best <= before + 1e-6:
            break
    return tuple(gates)
