"""Which predicted tiles are good enough to become labels. Probabilities are at 8 bits: p = value / 255."""

from __future__ import annotations

import heapq
from collections import defaultdict

import numpy as np

from lib.config.pseudo import Pseudo


def unseen_fill(channels: int, background: bool, roi: str) -> np.ndarray:
    """Probabilities (K,) of pixels that no window covers.

    Blank areas surely are background, where there is one. What lies outside of a user's boxes is merely
    unknown, and so is a blank pixel when no class means background: no side is taken, no pixel is sure.

    >>> unseen_fill(1, True, "content"), (unseen_fill(1, True, "boxes.csv") * 255).round()
    (array([0.], dtype=float32), array([127.], dtype=float32))
    """
    if not background or roi not in ("none", "content", "coarse"):
        return np.full(channels, 127 / 255 if channels == 1 else 1 / channels, np.float32)
    return np.zeros(1, np.float32) if channels == 1 else np.eye(channels, dtype=np.float32)[0]


def sure_share(bins: np.ndarray, sure: float) -> float:
    """Share of pixels whose decision is surer than `pixel_confidence`; `bins` (K, h, w) uint8.

    >>> sure_share(np.array([[[242, 128, 5, 204]]], np.uint8), 0.9)
    0.5
    """
    certain = np.maximum(bins[0], 255 - bins[0]) if len(bins) == 1 else bins.max(0)
    return float((certain > sure * 255).mean())


def entropy(bins: np.ndarray) -> float:
    """Mean entropy of the pixels of `bins` (K, h, w) uint8, in units of the largest that there can be.

    >>> entropy(np.array([[[0, 255]]], np.uint8)), round(entropy(np.array([[[128, 127]]], np.uint8)), 3)
    (0.0, 1.0)
    """
    p = np.arange(256) / 255
    each = -p * np.log(np.maximum(p, 1e-9))  # by bin: a histogram tells all, however large the tile
    if len(bins) == 1:
        each = each + each[::-1]
    counts = np.bincount(bins.ravel(), minlength=256)
    return float((counts * each).sum() / bins[0].size / np.log(max(2, len(bins))) + 0.0)


def confidence(bins: np.ndarray, config: Pseudo) -> float:
    """0 to 1, as `pseudo.confidence` says; for `agreement` the last plane of `bins` is the spread of votes."""
    if config.confidence == "agreement":
        return float(1 - bins[-1].mean() / 255)
    return 1 - entropy(bins) if config.confidence == "entropy" else sure_share(bins, config.pixel_confidence)


class Quotas:
    """Which tiles, of those that came so far, are among the `quota` most confident ones of a class that they hold."""

    def __init__(self, quota: int):
        self.quota, self._best = quota, defaultdict(list)

    def admit(self, row: dict) -> bool:
        """Whether a tile is among them; it then counts. `row` holds `confidence` and `classes`."""
        admitted = False
        for name in row["classes"] if self.quota else ():
            best = self._best[name]
            if len(best) < self.quota:
                heapq.heappush(best, row["confidence"])
            elif row["confidence"] > best[0]:
                heapq.heapreplace(best, row["confidence"])
            else:
                continue
            admitted = True
        return admitted


def select(rows: list[dict], config: Pseudo, background: bool, seed: int) -> list[int]:
    """Positions of the tiles to keep, ascending. Rows hold `confidence`, `has_object`, `classes` (held) and `stored`.

    Confident ones only; of those without object a seeded share; at most `max_tiles`, the surest first. And the
    `class_quota` surest of every class.
    """
    confident = [i for i, row in enumerate(rows) if row["confidence"] >= config.min_confidence]
    if background:
        rest = [i for i in confident if not rows[i]["has_object"]]
        count = round(len(rest) * config.background_keep)
        drawn = set(np.random.default_rng(seed).permutation(rest)[:count].tolist()) if rest else set()
        confident = [i for i in confident if rows[i]["has_object"] or i in drawn]
    surest = sorted(range(len(rows)), key=lambda i: -rows[i]["confidence"])
    if config.max_tiles and len(confident) > config.max_tiles:
        asked = set(confident)
        confident = [i for i in surest if i in asked][: config.max_tiles]
    kept, of_class = set(confident), defaultdict(int)
    for i in surest if config.class_quota else ():
        for name in rows[i]["classes"] if rows[i]["stored"] else ():
            of_class[name] += 1
            if of_class[name] <= config.class_quota:
                kept.add(i)
    return sorted(kept)
