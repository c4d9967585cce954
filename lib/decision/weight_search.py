"""Weights of systems, judged on whole maps.

All means (lib/decision/ensemble_weights.py) lie between the systems' own values. So pixels for which all systems say
the same, which are most, are counted once. Only the others are mixed again for each of the weights that are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from lib.competition import metrics
from lib.config.competition import Competition
from lib.decision.ensemble_weights import CUTS, Mix, equal
from lib.oof.evaluate import BINS, HALF, to_bins

Weights = tuple[float, ...]
ROUNDS = 4  # passes over the maps, at most
GAIN = 1e-6  # of a score, that is no chance of rounding
TOGETHER = 2**25  # numbers that a pass counts: mixtures x images x counts of each
BETWEEN = np.searchsorted(CUTS, np.arange(BINS), "right").astype(np.uint8)  # of each bin, how many cuts it reaches


def count_mixtures(
    images: Iterable[Iterable[tuple[np.ndarray, np.ndarray]]], mix: Mix, tried: list[Weights], n: int
) -> np.ndarray:
    """One pass over the maps: counts (T, N, …) of each of the weights that are tried, averaged as `mix` does.

    `images`: for each, blocks of bins (S, K, P) and truth (P,). Several classes: (n, 3). One class: truth x place
    between `CUTS`.
    """
    found = []
    for blocks in images:
        total: np.ndarray | int = 0
        for bins, truth in blocks:
            own = BETWEEN[bins[:, 0]] if bins.shape[1] == 1 else bins.argmax(1)
            alike = (own == own[0]).all(0)
            here = np.array([_counted(own[0, alike], truth[alike], bins.shape[1], n)] * len(tried))
            if not alike.all():
                lifted = [mix.lift(system[:, ~alike] / np.float32(BINS - 1)) for system in bins]
                for i, weights in enumerate(tried):
                    probs = mix.lower(sum(w * one for w, one in zip(weights, lifted, strict=True) if w))
                    decided = BETWEEN[to_bins(probs[0])] if len(probs) == 1 else probs.argmax(0)
                    here[i] += _counted(decided, truth[~alike], bins.shape[1], n)
            total = total + here
        found.append(total)
    return np.stack(found, 1)


def _counted(decided: np.ndarray, truth: np.ndarray, channels: int, n: int) -> np.ndarray:
    if channels == 1:
        columns = len(CUTS) + 1
        flat = truth.astype(np.int64) * columns + decided
        return np.bincount(flat, minlength=2 * columns).reshape(2, columns)
    return np.stack([np.bincount(side, minlength=n) for side in (truth[truth == decided], truth, decided)], -1)


def score_of(counts: np.ndarray, config: Competition, search: bool) -> float:
    """The metric of one mixture's counts (N, …). One class: at the best of `CUTS` where thresholds are searched."""
    if counts.shape[-1] == 3:
        return metrics.score(config, counts)
    cuts = range(len(CUTS)) if search else [int(np.searchsorted(CUTS, HALF))]
    below = counts.cumsum(-1)
    matrices = (np.stack([below[..., cut], below[..., -1] - below[..., cut]], -1) for cut in cuts)
    return max(metrics.score(config, metrics.counts_of(one)) for one in matrices)


def neighbours(weights: Weights) -> list[Weights]:
    """The same without each system, and with half and twice the weight of each."""
    found = []
    for i in range(len(weights)):
        for times in (0.0, 0.5, 2.0):
            changed = np.array(weights)
            changed[i] = changed[i] * times if weights[i] else (times == 2.0) * changed.max() / 2
            if changed.sum() > 0:
                found.append(normalised(changed))
    return [one for one in dict.fromkeys(found) if one != tuple(weights)]


def normalised(weights: np.ndarray | Weights) -> Weights:
    """Weights that add to 1."""
    return tuple((np.array(weights, np.float64) / np.sum(weights)).round(9).tolist())


def search_weights(
    count: Callable[[list[Weights]], np.ndarray], starts: list[list[Weights]], chosen: list[np.ndarray],
    config: Competition, search: bool,
) -> list[Weights]:  # fmt: skip
    """The weights that score best on each of several choices of images, (N,) bool each; equal ones where none is
    better.

    `starts`: weights of each choice that are tried first, then their `neighbours`; all choices share the passes of
    `count`, as `count_mixtures`.
    """
    systems = len(starts[0][0])
    best: list[tuple[float, Weights]] = [(-np.inf, equal(systems))] * len(starts)
    waiting = [list(dict.fromkeys([equal(systems), *own])) for own in starts]
    tried: list[set[Weights]] = [set() for _ in starts]
    for turn in range(ROUNDS):
        asked = list(dict.fromkeys(one for own in waiting for one in own))
        if not asked:
            break
        before = [weights for _, weights in best]
        together = max(1, TOGETHER // max(1, len(chosen[0]) * max(2 * len(CUTS) + 2, 3 * len(config.classes) + 3)))
        for first in range(0, len(asked), together):
            some = asked[first : first + together]
            for weights, counts in zip(some, count(some), strict=True):
                for i, own in enumerate(waiting):
                    if weights in own and (here := score_of(counts[chosen[i]], config, search)) > best[i][0] + GAIN:
                        best[i] = here, weights
        for i, own in enumerate(waiting):
            tried[i].update(own)
            moved = turn == 0 or best[i][1] != before[i]
            waiting[i] = [one for one in neighbours(best[i][1]) if one not in tried[i]] if moved else []
    return [weights for _, weights in best]
