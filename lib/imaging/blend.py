"""How much each pixel of a window counts where windows overlap."""

from __future__ import annotations

import numpy as np

RIM = 1e-3  # as MONAI; never 0: at the image's border a rim is all there is


def window_weights(size: int, kind: str, margin: float = 0.25) -> np.ndarray:
    """Weights (size, size) float32, all above 0.

    `gaussian` (sigma size/8, as nnU-Net), `constant`, `linear` (falls to the rim), `center` (1 inside,
    next to nothing within `margin` * size of the rim).

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
