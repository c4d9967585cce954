"""Tiles from predictions that arrive in blocks: only tiles that are not whole yet are held."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from lib.imaging.geometry import Box
from lib.imaging.grid import window_starts
from lib.inference.sliding_window import USUAL, Block, Limits
from lib.oof.evaluate import to_bins
from lib.system.disk_cache import DiskCache


def tile_starts(length: int, tile: int, shift: float = 0.0) -> list[int]:
    """Where tiles start along one axis; `shift`: the share of a tile by which all but the first are moved.

    >>> tile_starts(12, 4), tile_starts(12, 4, 0.5), tile_starts(5, 4, 0.5)
    ([0, 4, 8], [0, 2, 6, 8], [0, 1])
    """
    offset = round(tile * shift)
    if length < tile + offset:
        return window_starts(length, tile, tile)
    return sorted({0, *(offset + start for start in window_starts(length - offset, tile, tile))})


def tiles_of(
    blocks: Iterable[Block], tile: int, limits: Limits = USUAL, shift: float = 0.0
) -> Iterator[tuple[str, Box, np.ndarray]]:
    """(image id, box, probabilities) of each tile, `tile` pixels of the blocks high and wide; else as `boxes_of`."""

    def grid(block: Block) -> np.ndarray:
        h, w = min(tile, block.height), min(tile, block.width)
        ys, xs = (tile_starts(n, tile, shift) for n in (block.height, block.width))
        return np.array([(y, x, h, w) for y in ys for x in xs])

    yield from ((block.image_id, box, bins) for block, box, bins in boxes_of(blocks, grid, limits))


def boxes_of(
    blocks: Iterable[Block], boxes: Callable[[Block], np.ndarray], limits: Limits = USUAL
) -> Iterator[tuple[Block, Box, np.ndarray]]:
    """(last block, box, probabilities (S, K, h, w)) of each box of an image; `boxes(block)` (N, 4): y, x, h, w.

    Probabilities are held at 8 bits, p = value / 255, as they will be stored: a quarter of the memory. What is
    beyond a quarter of the limits' memory waits in a file. Boxes come when they are whole: in no certain order.
    """
    for block in blocks:
        if block.first:
            y, x, h, w = boxes(block).T
            found, spool = defaultdict(list), DiskCache(limits.bytes / 4, limits.folder)
        bins = to_bins(block.probs)
        bottom, right = block.y + bins.shape[2], block.x + bins.shape[3]
        touched = (y < bottom) & (y + h > block.y) & (x < right) & (x + w > block.x)
        for box in zip(*(side[touched].tolist() for side in (y, x, h, w)), strict=True):
            y0, y1 = max(box[0], block.y), min(box[0] + box[2], bottom)
            x0, x1 = max(box[1], block.x), min(box[1] + box[3], right)
            piece = y0, x0, y1 - y0, x1 - x0
            found[box].append(piece)
            spool.put((box, piece), bins[:, :, y0 - block.y : y1 - block.y, x0 - block.x : x1 - block.x].copy())
            if sum(h * w for *_, h, w in found[box]) == box[2] * box[3]:
                yield block, box, _joined(box, found.pop(box), spool)


def _joined(box: Box, pieces: list[Box], spool: DiskCache) -> np.ndarray:
    """(S, K, h, w) uint8 of a box from its pieces, which the spool forgets."""
    whole = None
    for y, x, h, w in pieces:
        values = spool.pop((box, (y, x, h, w)))
        whole = np.empty((*values.shape[:2], *box[2:]), np.uint8) if whole is None else whole
        whole[:, :, y - box[0] : y - box[0] + h, x - box[1] : x - box[1] + w] = values
    return whole
