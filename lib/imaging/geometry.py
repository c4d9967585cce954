"""Boxes of pixels, and label maps that arrive in bands of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

Box = tuple[int, int, int, int]
"""y, x, height and width in pixels; y and x are the top left corner, counted from 0."""
LabelBands = Iterable[tuple[int, np.ndarray]]
"""(y, label indices (h, width) uint8) of one image: whole rows, in order from the top. Where classes overlap, planes
(K, h, width) of 0, 1 and `IGNORE`."""
BAND_PIXELS = 2**21  # pixels of a band
BAND_PLANES = 4  # bands of more planes have fewer pixels


def band_height(planes: int, width: int) -> int:
    """How many rows of so many planes make a band.

    >>> band_height(1, 2048), band_height(4, 2048), band_height(64, 2048)
    (1024, 1024, 64)
    """
    return max(1, BAND_PIXELS * BAND_PLANES // (max(BAND_PLANES, planes) * width))


def joined_rows(pieces: list[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Arrays (…, h, w) that lie beside one another → (first row, rows (…, h, W) of all), at most one band at a time.

    The pieces are not held twice, since a copy has the size of a band.
    """
    planes = int(np.prod(pieces[0].shape[:-2]))
    height = band_height(planes, sum(piece.shape[-1] for piece in pieces))
    for top in range(0, pieces[0].shape[-2], height):
        yield top, np.concatenate([piece[..., top : top + height, :] for piece in pieces], axis=-1)
