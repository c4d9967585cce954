"""Tiles of predictions that arrive in blocks. Only incomplete tiles are held in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from lib.imaging.geometry import Box
from lib.imaging.grid import window_starts
from lib.inference.windows import USUAL, Block, Limits
from lib.oof.codes import to_probs_u8
from lib.system.disk_cache import DiskCache


def tile_starts(length: int, tile: int, shift: float = 0.0) -> list[int]:
    """Starts of tiles along one axis. All but the first are moved by the share `shift` of a tile.

    >>> tile_starts(12, 4), tile_starts(12, 4, 0.5), tile_starts(5, 4, 0.5)
    ([0, 4, 8], [0, 2, 6, 8], [0, 1])
    """
    offset = round(tile * shift)
    if length < tile + offset:
        return window_starts(length, tile, tile)
    return sorted({0, *(offset + start for start in window_starts(length - offset, tile, tile))})


def assemble_tiles(
    blocks: Iterable[Block], tile: int, limits: Limits = USUAL, shift: float = 0.0
) -> Iterator[tuple[str, Box, np.ndarray]]:
    """(image id, box, probabilities) of each tile of a grid of `tile` x `tile` pixels; see `assemble_boxes`."""

    def grid(block: Block) -> np.ndarray:
        h, w = min(tile, block.height), min(tile, block.width)
        ys, xs = (tile_starts(n, tile, shift) for n in (block.height, block.width))
        return np.array([(y, x, h, w) for y in ys for x in xs])

    yield from ((block.image_id, box, probs) for block, box, probs in assemble_boxes(blocks, grid, limits))


def assemble_boxes(
    blocks: Iterable[Block], boxes: Callable[[Block], np.ndarray], limits: Limits = USUAL
) -> Iterator[tuple[Block, Box, np.ndarray]]:
    """(last block, box, probabilities (S, K, h, w) uint8) of each box, as soon as it is complete, in any order.

    `boxes`: first block of an image → (N, 4) of y, x, h, w. Probabilities are p = value / 255, as they will be stored.
    Beyond a quarter of the memory in `limits`, they are held in a file.
    """
    for block in blocks:
        if block.first:
            y, x, h, w = boxes(block).T
            pieces, cache = defaultdict(list), DiskCache(limits.bytes / 4, limits.folder)
        probs = to_probs_u8(block.probs)
        bottom, right = block.y + probs.shape[2], block.x + probs.shape[3]
        touched = (y < bottom) & (y + h > block.y) & (x < right) & (x + w > block.x)
        for box in zip(*(side[touched].tolist() for side in (y, x, h, w)), strict=True):
            y0, y1 = max(box[0], block.y), min(box[0] + box[2], bottom)
            x0, x1 = max(box[1], block.x), min(box[1] + box[3], right)
            piece = y0, x0, y1 - y0, x1 - x0
            pieces[box].append(piece)
            cache.put((box, piece), probs[:, :, y0 - block.y : y1 - block.y, x0 - block.x : x1 - block.x].copy())
            if sum(h * w for *_, h, w in pieces[box]) == box[2] * box[3]:
                yield block, box, _joined(box, pieces.pop(box), cache)


def _joined(box: Box, pieces: list[Box], cache: DiskCache) -> np.ndarray:
    """(S, K, h, w) uint8 of a box from its pieces, which are removed from the cache."""
    whole = None
    for y, x, h, w in pieces:
        values = cache.pop((box, (y, x, h, w)))
        whole = np.empty((*values.shape[:2], *box[2:]), np.uint8) if whole is None else whole
        whole[:, :, y - box[0] : y - box[0] + h, x - box[1] : x - box[1] + w] = values
    return whole
