"""Which predicted tiles are good enough to become labels. Probabilities are at 8 bits: p = value / 255."""

from __future__ import annotations

import numpy as np

from lib.config.pseudo import Pseudo


def unseen_fill(channels: int, background: bool, roi: str) -> np.ndarray:
    """Probabilities (K,) of pixels that no window covers.

    Blank areas surely are background, where there is one. What lies outside of a user's boxes is merely
    unknown, and so is a blank pixel when no class means background: no side is taken, no pixel is sure.

    >>> unseen_fill(1, True, "content"), unseen_fill(1, True, "boxes.csv")
    (array([0.], dtype=float32), array([0.5], dtype=float32))
    """
    if not background or roi not in ("none", "content", "coarse"):
        return np.full(channels, 1 / max(2, channels), np.float32)
    return np.zeros(1, np.float32) if channels == 1 else np.eye(channels, dtype=np.float32)[0]


def sure_share(bins: np.ndarray, sure: float) -> float:
    """Share of pixels whose decision is surer than `sure`; `bins` (K, h, w) uint8.

    >>> sure_share(np.array([[[242, 128, 5, 204]]], np.uint8), 0.9)
    0.5
    """
    certain = np.maximum(bins[0], 255 - bins[0]) if len(bins) == 1 else bins.max(0)
    return float((certain > sure * 255).mean())


def select(rows: list[dict], config: Pseudo, background: bool, seed: int) -> list[int]:
    """Positions of the tiles to keep, ascending. Rows hold `sure_share` and `has_object`.

    Confident ones only; of those without object a seeded share; at most `max_tiles`, the surest first.
    """
    confident = [i for i, row in enumerate(rows) if row["sure_share"] >= config.min_sure]
    if background:
        rest = [i for i in confident if not rows[i]["has_object"]]
        count = round(len(rest) * config.background_keep)
        drawn = set(np.random.default_rng(seed).permutation(rest)[:count].tolist()) if rest else set()
        confident = [i for i in confident if rows[i]["has_object"] or i in drawn]
    if config.max_tiles and len(confident) > config.max_tiles:
        confident = sorted(confident, key=lambda i: -rows[i]["sure_share"])[: config.max_tiles]
    return sorted(confident)
