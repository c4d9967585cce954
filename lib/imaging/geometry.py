"""Boxes of pixels, and label maps that arrive in bands of rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

Box = tuple[int, int, int, int]
"""y, x, height and width in pixels; y and x are the top left corner, counted from 0."""
LabelBands = Iterable[tuple[int, np.ndarray]]
"""(y, label indices (h, width) uint8) of one image: whole rows, in order from the top. Where classes overlap, planes
(K, h, width) of 0, 1 and `IGNORE`."""
