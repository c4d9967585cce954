"""Networks that see different windows, or images at different scales, as one ensemble: a resize ensemble."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lib.inference.forward import Ensemble
from lib.inference.predictor import Block, Limits, Source, Windows, full_rows, predict


@dataclass(frozen=True)
class Group:
    """Networks that see the same windows. The last system of `forward` is the mean of them all."""

    windows: Windows
    forward: Ensemble


def predict_together(
    sources: list[Source], groups: list[Group], fill: np.ndarray, limits: Limits, description: str = ""
) -> Iterator[Block]:
    """As `predict`: blocks of (S, K, h, w), the systems of each group but its mean, and last the mean of all networks.

    Several groups are predicted side by side and joined at the original size, in rows of the image's width.
    """
    streams = [
        predict(sources, group.forward, group.windows, fill, group.forward.systems, limits, description * (i == 0))
        for i, group in enumerate(groups)
    ]
    if len(streams) == 1:
        yield from streams[0]
        return
    weights = np.array([len(group.forward.runs) for group in groups], np.float32)
    rows = [_Rows(stream) for stream in streams]
    while sum(row.fill() for row in rows) == len(rows):
        height = min(row.values.shape[2] for row in rows)
        first = rows[0].block
        block = replace(first, y=rows[0].y, x=0, probs=_joined([row.take(height) for row in rows], weights))
        yield block


def _joined(parts: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Systems of several groups (S, K, h, w), each group's mean last → all systems, and the mean of all networks."""
    mean = sum(part[-1] * weight for part, weight in zip(parts, weights / weights.sum(), strict=True))
    return np.concatenate([*(part[:-1] for part in parts), mean[None]])


class _Rows:
    """Rows of a stream of blocks at the image's width, to be taken by as many as wanted."""

    def __init__(self, blocks: Iterator[Block]):
        self._rows = full_rows(blocks, lambda probs: probs)
        self.block: Block | None = None
        self.y, self.values = 0, np.zeros((0, 0, 0, 0), np.float32)

    def fill(self) -> bool:
        """Have at least one row; False at the end."""
        if self.values.shape[2] == 0:
            found = next(self._rows, None)
            if found is None:
                return False
            self.block, self.y, self.values = found
        return True

    def take(self, height: int) -> np.ndarray:
        taken, self.values = self.values[:, :, :height], self.values[:, :, height:]
        self.y += height
        return taken
