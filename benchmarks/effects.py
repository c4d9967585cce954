"""What trials show together: paired effects with their standard errors, and how well two rankings agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean, median, stdev

import numpy as np
from scipy.stats import kendalltau


def paired_effect(differences: Sequence[float]) -> dict:
    """Mean of paired differences, its standard error (None below two pairs), and the verdict.

    >>> paired_effect([0.03, 0.01, 0.02])
    {'effect': 0.02, 'se': 0.005774, 'pairs': 3, 'verdict': 'helps'}
    """
    effect = mean(differences)
    se = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else None
    return {
        "effect": round(effect, 6), "se": None if se is None else round(se, 6), "pairs": len(differences),
        "verdict": verdict(effect, se, len(differences)),
    }  # fmt: skip


def told(effect: dict | None) -> str:
    """A paired effect as a table shows it.

    >>> told({"effect": 0.0123, "se": 0.0041, "pairs": 3, "verdict": "helps"})
    '+.0123 ± .0041 (3), helps'
    >>> told(None)
    'not yet'
    """
    if effect is None:
        return "not yet"
    text = f"{effect['effect']:+.4f}" + (f" ± {effect['se']:.4f}" if effect["se"] is not None else "")
    return f"{text.replace('0.', '.')} ({effect['pairs']}), {effect['verdict']}"


def verdict(effect: float, se: float | None, pairs: int) -> str:
    """`helps` or `hurts` when at least three pairs differ by more than two standard errors; else `not shown`."""
    if pairs < 3 or se is None or abs(effect) <= 2 * se:
        return "not shown"
    return "helps" if effect > 0 else "hurts"


def spread(values: Sequence[float], digits: int = 3) -> list[float]:
    """[median, least, greatest]."""
    return [round(f(values), digits) for f in (median, min, max)]


def tau_with_interval(
    truth: Callable[[np.ndarray], Sequence[float]],
    guess: Callable[[np.ndarray], Sequence[float]],
    images: int,
    draws: int = 1000,
    seed: int = 0,
) -> dict:
    """Kendall's tau (b) of two rankings, and its 95 % interval over bootstrap draws of the images.

    `truth(chosen)` and `guess(chosen)` score every configuration on `chosen`, positions among `images` images, the
    same image perhaps several times. A draw where a ranking is undefined (NaN, or all alike) does not count; the
    interval is None when less than half of them count.
    """
    rng = np.random.default_rng(seed)

    def tau(chosen: np.ndarray) -> float:
        a, b = np.asarray(truth(chosen), float), np.asarray(guess(chosen), float)
        if len(a) < 2 or np.isnan([*a, *b]).any() or np.ptp(a) == 0 or np.ptp(b) == 0:
            return float("nan")
        return float(kendalltau(a, b).statistic)

    drawn = np.array([tau(rng.integers(0, images, images)) for _ in range(draws)])
    drawn = drawn[~np.isnan(drawn)]
    interval = [round(float(v), 3) for v in np.percentile(drawn, [2.5, 97.5])] if len(drawn) * 2 >= draws else None
    whole = tau(np.arange(images))
    return {"tau": None if np.isnan(whole) else round(whole, 3), "interval": interval}
