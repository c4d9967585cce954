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
    """How many maps `predict_multi_scale` makes of an image: those of each group except its mean, and one mean."""
    return sum(group.forward.map_count - 1 for group in groups) + 1


def predict_multi_scale(
    sources: list[Source], groups: list[ScaleGroup], outside_value: np.ndarray, limits: Limits, description: str = ""
) -> Iterator[Block]:
    """Predict images with several groups, and join the groups at the original size. Arguments as `predict_windows`.

    Yields blocks (S, K, h, w): every map of every group except its mean, and last the mean of all networks. All groups
    are predicted at the same time. Finished blocks of a group that is ahead of the others wait in memory, or, beyond a
    share of `limits.max_gib`, in a file.
    """
    streams = [
        predict_windows(sources, group, outside_value, limits, description * (i == 0)) for i, group in enumerate(groups)
    ]
    if len(streams) == 1:
        yield from streams[0]
        return
    weights = np.array([len(group.forward.runs) for group in groups], np.float32)
    buffers = [_BlockBuffer(stream, limits.bytes / 4 / len(streams), limits.folder) for stream in streams]
    y = 0
    while all(buffer.fill(y) for buffer in buffers):
        block, bottom = buffers[0].block, min(buffer.bottom for buffer in buffers)
        column = sum(buffer.pixel_bytes for buffer in buffers) * (bottom - y)  # bytes
        step = max(1, int(limits.bytes / 8 / column))
        for x in range(0, block.width, step):
            box = y, x, bottom - y, min(step, block.width - x)
            yield replace(block, y=y, x=x, probs=_joined([buffer.cut(*box) for buffer in buffers], weights))
        y = bottom if bottom < block.height else 0
        for buffer in buffers:
            buffer.drop_above(bottom)


def _joined(parts: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Maps of several groups (S, K, h, w), each with its mean last -> all maps, and last the mean of all networks."""
    mean = sum(part[-1] * weight for part, weight in zip(parts, weights / weights.sum(), strict=True))
    return np.concatenate([*(part[:-1] for part in parts), mean[None]])


class _BlockBuffer:
    """Finished blocks of one group that are not joined yet.

    `bottom`: so many rows are complete. `pixel_bytes`: of one pixel in all maps. `budget`: bytes of memory.
    """

    def __init__(self, blocks: Iterator[Block], budget: float, folder: Path | None):
        self._blocks, self._cache = blocks, DiskCache(budget, folder)
        self._places: dict[tuple[int, int], tuple[int, int]] = {}  # (y, x) of a block: its (h, w)
        self.block: Block | None = None
        self.bottom = self.pixel_bytes = 0

    def fill(self, y: int) -> bool:
        """Take blocks until row `y` is complete; False at the end of all images."""
        while self.bottom <= y:
            block = next(self._blocks, None)
            if block is None:
                return False
            h, w = block.probs.shape[2:]
            self._cache.put((block.y, block.x), block.probs.copy())
            self._places[block.y, block.x] = h, w
            if block.x + w == block.width:
                self.bottom = block.y + h
            self.block, self.pixel_bytes = replace(block, probs=block.probs[:, :, :0]), block.probs[:, :, 0, 0].nbytes
        return True

    def cut(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """The box (y, x, h, w) of all maps, (S, K, h, w)."""
        out = np.empty((*self.block.probs.shape[:2], h, w), np.float32)
        for (top, left), (high, wide) in self._places.items():
            y0, y1, x0, x1 = max(y, top), min(y + h, top + high), max(x, left), min(x + w, left + wide)
            if y0 < y1 and x0 < x1:
                part = self._cache.get((top, left))[:, :, y0 - top : y1 - top, x0 - left : x1 - left]
                out[:, :, y0 - y : y1 - y, x0 - x : x1 - x] = part
        return out

    def drop_above(self, bottom: int) -> None:
        """Drop the blocks above row `bottom`. At the image's end, the buffer is ready for the next image."""
        for place, (high, _) in list(self._places.items()):
            if place[0] + high <= bottom:
                self._cache.forget(place)
                del self._places[place]
        if bottom == self.block.height:
            self.bottom = 0
