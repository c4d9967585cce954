"""Tiles from predictions that arrive in blocks: only tiles that are not whole yet are held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from lib.imaging.grid import window_starts
from lib.imaging.stitch import Spool
from lib.inference.evaluate import to_bins
from lib.inference.predictor import USUAL, Block, Limits

Box = tuple[int, int, int, int]


def tiles_of(blocks: Iterable[Block], tile: int, limits: Limits = USUAL) -> Iterator[tuple[str, Box, np.ndarray]]:
    """(image id, box, probabilities (S, K, h, w)) of each tile, `tile` pixels of the blocks high and wide.

    Probabilities are held at 8 bits, p = value / 255, as they will be stored: a quarter of the memory. What is
    beyond half of the limits' memory waits in a file. Tiles come when they are whole: in no certain order.
    """
    for block in blocks:
        if block.first:
            h, w = min(tile, block.height), min(tile, block.width)
            ys, xs = (np.array(window_starts(n, tile, tile)) for n in (block.height, block.width))
            missing, spool = {}, Spool(limits.bytes / 2, limits.folder)
        bins = to_bins(block.probs)
        bottom, right = block.y + bins.shape[2], block.x + bins.shape[3]
        for y in ys[(ys < bottom) & (ys + h > block.y)].tolist():
            for x in xs[(xs < right) & (xs + w > block.x)].tolist():
                held = spool.pop((y, x))
                held = np.empty((*bins.shape[:2], h, w), np.uint8) if held is None else held
                y0, y1, x0, x1 = max(y, block.y), min(y + h, bottom), max(x, block.x), min(x + w, right)
                piece = bins[:, :, y0 - block.y : y1 - block.y, x0 - block.x : x1 - block.x]
                held[:, :, y0 - y : y1 - y, x0 - x : x1 - x] = piece
                missing[y, x] = missing.get((y, x), h * w) - (y1 - y0) * (x1 - x0)
                if missing[y, x]:
                    spool.put((y, x), held)
                else:
                    del missing[y, x]
                    yield block.image_id, (y, x, h, w), held
