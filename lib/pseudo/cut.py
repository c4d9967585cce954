"""Tiles from predictions that arrive as bands of rows: only one row of tiles is ever held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from lib.imaging.grid import window_starts
from lib.inference.evaluate import to_bins
from lib.inference.predictor import Band


def rows_of_tiles(bands: Iterable[Band], tile: int) -> Iterator[tuple[str, int, np.ndarray]]:
    """(image id, y, probabilities (S, K, tile or less, W)) for each row of tiles, `tile` original pixels high.

    Probabilities are held at 8 bits, p = value / 255, as they will be stored: a quarter of the memory.
    """
    held: list[np.ndarray] = []
    top = 0
    starts: list[int] = []
    for band in bands:
        if band.y0 == 0:
            held, top = [], 0
            starts = window_starts(band.height, tile, tile)
        held.append(to_bins(band.probs))
        bottom = band.y0 + band.probs.shape[2]
        while starts and starts[0] + min(tile, band.height) <= bottom:
            buffer = np.concatenate(held, axis=2) if len(held) > 1 else held[0]
            y = starts.pop(0)
            yield band.image_id, y, buffer[:, :, y - top : y - top + tile]
            keep = starts[0] if starts else bottom
            held, top = [buffer[:, :, keep - top :].copy()], keep  # a view would keep the whole row alive
