"""Blending weights: how much each pixel of a window counts where windows overlap."""

from __future__ import annotations

import numpy as np

RIM = 1e-3  # as in MONAI; above 0, because at the image's border only the rim of a window covers a pixel


def window_weights(size: int, kind: str, margin: float = 0.25) -> np.ndarray:
    """Weights (size, size) float32, all above 0.

    `kind`: `gaussian` (sigma size/8, as in nnU-Net), `constant`, `linear` (falls towards the rim), or `center` (1
    inside, `RIM` within `margin` * size pixels of the rim). Raises ValueError for another kind.

    >>> window_weights(4, "center", 0.25)[1].round(2).tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    distance = np.abs(np.arange(size) - (size - 1) / 2)  # from the middle
    if kind == "gaussian":
        line = np.exp(-0.5 * (distance / (size / 8)) ** 2)
    elif kind == "constant":
        line = np.ones(size)
    elif kind == "linear":
        line = 1 - distance / (size / 2)
    elif kind == "center":
        line = (distance < size * (0.5 - margin)).astype(float)
    else:
        raise ValueError(f"unknown blend {kind!r}; known: gaussian, constant, linear, center")
    return np.maximum(np.outer(line, line), RIM).astype(np.float32)
