"""Multi-scale ensemble: networks that see different windows, or images at different scales, predict together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.inference.networks import ScaleGroup
from lib.inference.sliding_window import predict_windows
from lib.inference.windows import Block, Limits, Source
from lib.system.disk_cache import DiskCache


def maps_of(groups: list[ScaleGroup]) -> int:
    """How many maps `predict_multi_scale` makes of an image: the systems of each group but its mean, and one mean."""
    return sum(group.forward.systems - 1 for group in groups) + 1


def predict_multi_scale(
    sources: list[Source], groups: list[ScaleGroup], outside_value: np.ndarray, limits: Limits, description: str = ""
) -> Iterator[Block]:
    """As `predict_windows`, for several groups: blocks (S, K, h, w) of every group's maps but its mean, and last the
    mean of all networks.

    Several groups are predicted side by side and joined at the original size, in blocks cut out of what each has
    finished; what one group is ahead of the others waits, beyond a part of `limits.max_gib` in a file.
    """
    streams = [
        predict_windows(sources, group, outside_value, limits, description * (i == 0)) for i, group in enumerate(groups)
    ]
    if len(streams) == 1:
        yield from streams[0]
        return
    weights = np.array([len(group.forward.runs) for group in groups], np.float32)
    waiting = [_Waiting(stream, limits.bytes / 4 / len(streams), limits.folder) for stream in streams]
    y = 0
    while all(stream.reach(y) for stream in waiting):
        block, bottom = waiting[0].block, min(stream.bottom for stream in waiting)
        column = sum(stream.column for stream in waiting) * (bottom - y)  # bytes
        step = max(1, int(limits.bytes / 8 / column))
        for x in range(0, block.width, step):
            box = y, x, bottom - y, min(step, block.width - x)
            yield replace(block, y=y, x=x, probs=_joined([stream.cut(*box) for stream in waiting], weights))
        y = bottom if bottom < block.height else 0
        for stream in waiting:
            stream.forget(bottom)


def _joined(parts: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Systems of several groups (S, K, h, w), each group's mean last → all systems, and the mean of all networks."""
    mean = sum(part[-1] * weight for part, weight in zip(parts, weights / weights.sum(), strict=True))
    return np.concatenate([*(part[:-1] for part in parts), mean[None]])


class _Waiting:
    """Blocks of a stream that were not used up yet. `bottom`: rows of the image that are there at full width."""

    def __init__(self, blocks: Iterator[Block], budget: float, folder: Path | None):
        self._blocks, self._spool = blocks, DiskCache(budget, folder)
        self._places: dict[tuple[int, int], tuple[int, int]] = {}  # (y, x) of a block: its (h, w)
        self.block: Block | None = None
        self.bottom = self.column = 0
        """`column`: bytes of one pixel's systems."""

    def reach(self, y: int) -> bool:
        """Have row `y` at full width; False at the end of all images."""
        while self.bottom <= y:
            block = next(self._blocks, None)
            if block is None:
                return False
            h, w = block.probs.shape[2:]
            self._spool.put((block.y, block.x), block.probs.copy())
            self._places[block.y, block.x] = h, w
            if block.x + w == block.width:
                self.bottom = block.y + h
            self.block, self.column = replace(block, probs=block.probs[:, :, :0]), block.probs[:, :, 0, 0].nbytes
        return True

    def cut(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """(S, K, h, w) out of the blocks."""
        out = np.empty((*self.block.probs.shape[:2], h, w), np.float32)
        for (top, left), (high, wide) in self._places.items():
            y0, y1, x0, x1 = max(y, top), min(y + h, top + high), max(x, left), min(x + w, left + wide)
            if y0 < y1 and x0 < x1:
                part = self._spool.get((top, left))[:, :, y0 - top : y1 - top, x0 - left : x1 - left]
                out[:, :, y0 - y : y1 - y, x0 - x : x1 - x] = part
        return out

    def forget(self, bottom: int) -> None:
        """The rows above `bottom`, or, at the image's end, all of it."""
        for place, (high, _) in list(self._places.items()):
            if place[0] + high <= bottom:
                self._spool.forget(place)
                del self._places[place]
        if bottom == self.block.height:
            self.bottom = 0
