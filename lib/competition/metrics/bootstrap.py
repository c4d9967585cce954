"""Confidence intervals of score differences: a paired bootstrap over groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.competition import metrics
from lib.config.competition import CompetitionSettings

DRAWS = 500
CONFIDENCE_LEVEL = 0.95
HELD = 2**23  # weights of images that are held at once


@dataclass(frozen=True)
class Gain:
    """What one side's score has over the other's, and the bounds within which `CONFIDENCE_LEVEL` of the draws lie.

    The bounds are NaN where there are fewer than two groups.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        known = self.low == self.low
        return f"{self.value:+.4f}" + (f" ({self.low:+.4f} to {self.high:+.4f})" if known else " (one group)")


def paired_gain(config: CompetitionSettings, ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray) -> Gain:
    """The metric of `ours` less that of `theirs`, counts (N, C, 3) of the same images.

    Whole groups (N,) are drawn with replacement, the same ones for both sides: images of a group are alike.
    """
    names, group = np.unique(groups, return_inverse=True)
    value = metrics.score(config, ours) - metrics.score(config, theirs)
    if len(names) < 2:
        return Gain(value, np.nan, np.nan)
    rng, drawn = np.random.default_rng(0), []
    together = max(1, min(DRAWS, HELD // len(group)))
    for first in range(0, DRAWS, together):
        draws = range(min(together, DRAWS - first))
        times = [np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names)) for _ in draws]
        weights = np.stack(times)[:, group]
        drawn.append(metrics.resampled(config, ours, weights) - metrics.resampled(config, theirs, weights))
    low, high = np.quantile(np.concatenate(drawn), [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    return Gain(value, float(low), float(high))
