"""Which predicted tiles are good enough to become labels."""

from __future__ import annotations

import numpy as np

from lib.config.pseudo import Pseudo


def sure_share(probs: np.ndarray, sure: float) -> float:
    """Share of pixels whose decision is surer than `sure`; `probs` (K, h, w).

    >>> sure_share(np.array([[[0.95, 0.5, 0.02, 0.8]]]), 0.9)
    0.5
    """
    certain = np.maximum(probs[0], 1 - probs[0]) if len(probs) == 1 else probs.max(0)
    return float((certain > sure).mean())


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


def to_planes(probs: np.ndarray, hard: bool) -> np.ndarray:
    """Probabilities (K, h, w) → one grey image (K*h, w) uint8, the planes one under another."""
    if hard:
        best = probs >= 0.5 if len(probs) == 1 else np.eye(len(probs))[probs.argmax(0)].transpose(2, 0, 1)
        probs = best.astype(np.float32)
    return np.concatenate([(plane * 255 + 0.5).astype(np.uint8) for plane in probs])
