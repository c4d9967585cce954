"""Which predicted tiles become pseudo-labels. Probabilities are uint8 with p = value / 255."""

from __future__ import annotations

import heapq
from collections import defaultdict

import numpy as np

from lib.config.competition import CompetitionSettings
from lib.config.pseudo import Pseudo
from lib.pseudo.soft_labels import exclusive_groups


def outside_probs(competition: CompetitionSettings, roi: str) -> np.ndarray:
    """Probabilities (K,) float32 of pixels that no window covers.

    Blank areas are background for sure, if there is a background class. Pixels outside of a user's boxes are unknown,
    and so are blank pixels without a background class: their probabilities are even, so that none is confident.

    >>> one = CompetitionSettings(classes=["cell"])
    >>> outside_probs(one, "content"), (outside_probs(one, "boxes.csv") * 255).round()
    (array([0.], dtype=float32), array([127.], dtype=float32))
    """
    channels, binary = competition.channels, competition.binary
    if not competition.background or roi not in ("none", "content", "coarse"):
        return np.full(channels, 127 / 255 if binary else 1 / channels, np.float32)
    return np.zeros(channels, np.float32) if binary else np.eye(channels, dtype=np.float32)[0]


def confident_share(probs: np.ndarray, threshold: float, multilabel: bool = False) -> float:
    """Share of pixels whose most likely label is more probable than `threshold`; `probs` (K, h, w) uint8.

    Where classes overlap, a pixel counts if for each class it is sure whether it is there.

    >>> confident_share(np.array([[[242, 128, 5, 204]]], np.uint8), 0.9)
    0.5
    """
    groups = exclusive_groups(probs, multilabel)
    highest = [np.maximum(p[0], 255 - p[0]) if len(p) == 1 else p.max(0) for p in groups]
    return float((np.minimum.reduce(highest) > threshold * 255).mean())


def confidence(probs: np.ndarray, config: Pseudo, multilabel: bool = False) -> float:
    """Confidence of a tile (K, h, w) uint8, 0 to 1, as `pseudo.confidence` defines it.

    For `agreement` the last plane is the spread of the votes.
    """
    if config.confidence == "agreement":
        return float(1 - probs[-1].mean() / 255)
    return confident_share(probs, config.pixel_confidence, multilabel)


class ClassQuota:
    """The `quota` most confident tiles of every class, among the tiles so far."""

    def __init__(self, quota: int):
        self.quota, self._best = quota, defaultdict(list)

    def admit(self, row: dict) -> bool:
        """Count a tile, and return whether it is among them for any of its `classes`. `row` has `confidence`, too."""
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
    """Positions of the tiles to keep, ascending. Rows have `confidence`, `has_object`, `classes` and `stored`.

    These are the confident tiles, with a seeded share of those without objects, and at most `max_tiles`. The
    `class_quota` most confident tiles of every class are kept as well.
    """
    confident = [i for i, row in enumerate(rows) if row["confidence"] >= config.min_confidence]
    if background:
        rest = [i for i in confident if not rows[i]["has_object"]]
        count = round(len(rest) * config.background_keep)
        drawn = set(np.random.default_rng(seed).permutation(rest)[:count].tolist()) if rest else set()
        confident = [i for i in confident if rows[i]["has_object"] or i in drawn]
    by_confidence = sorted(range(len(rows)), key=lambda i: -rows[i]["confidence"])
    if config.max_tiles and len(confident) > config.max_tiles:
        allowed = set(confident)
        confident = [i for i in by_confidence if i in allowed][: config.max_tiles]
    kept, kept_of_class = set(confident), defaultdict(int)
    for i in by_confidence if config.class_quota else ():
        for name in rows[i]["classes"] if rows[i]["stored"] else ():
            kept_of_class[name] += 1
            if kept_of_class[name] <= config.class_quota:
                kept.add(i)
    return sorted(kept)
