"""Paired effects of trials with their standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median, stdev


def paired_effect(differences: Sequence[float]) -> dict:
    """The mean of paired differences, its standard error (None for a single pair), and the verdict.

    >>> paired_effect([0.03, 0.01, 0.02])
    {'effect': 0.02, 'se': 0.005774, 'pairs': 3, 'verdict': 'helps'}
    """
    effect = mean(differences)
    se = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else None
    return {
        "effect": round(effect, 6), "se": None if se is None else round(se, 6), "pairs": len(differences),
        "verdict": verdict(effect, se, len(differences)),
    }  # fmt: skip


def shown(effect: dict | None) -> str:
    """A paired effect as a table shows it.

    >>> shown({"effect": 0.0123, "se": 0.0041, "pairs": 3, "verdict": "helps"})
    '+0.0123 ± 0.0041 (3), helps'
    >>> shown(None)
    'not yet'
    """
    if effect is None:
        return "not yet"
    text = f"{effect['effect']:+.4f}" + (f" ± {effect['se']:.4f}" if effect["se"] is not None else "")
    return f"{text} ({effect['pairs']}), {effect['verdict']}"


def verdict(effect: float, se: float | None, pairs: int) -> str:
    """`helps` or `hurts` for a mean of at least three pairs that is over two standard errors; else `not shown`."""
    if pairs < 3 or se is None or abs(effect) <= 2 * se:
        return "not shown"
    return "helps" if effect > 0 else "hurts"


def spread(values: Sequence[float], digits: int = 3) -> list[float]:
    """[median, minimum, maximum]."""
    return [round(f(values), digits) for f in (median, min, max)]
