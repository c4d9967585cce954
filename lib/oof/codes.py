"""Probabilities as 8-bit codes. Counting, caching and deciding all start from these."""

from __future__ import annotations

import numpy as np

BINS = 256  # codes of a probability: code = round(255 p)
HALF = 128  # the code of the threshold 0.5


def to_probs_u8(probs: np.ndarray) -> np.ndarray:
    """Probabilities → uint8, 0 to 255, of the same shape.

    >>> to_probs_u8(np.array([0.0, 0.5, 1.0])).tolist()
    [0, 128, 255]
    """
    return (probs * (BINS - 1) + 0.5).astype(np.uint8)


def to_label_codes(probs: np.ndarray) -> np.ndarray:
    """(K, h, w) → (h, w) uint8: the 8-bit probability of one class, or the argmax of several.

    >>> to_label_codes(np.array([[[0.5, 1.0]]])).tolist(), to_label_codes(np.array([[[0.2]], [[0.8]]])).tolist()
    ([[128, 255]], [[1]])
    """
    return to_probs_u8(probs[0]) if len(probs) == 1 else probs.argmax(0).astype(np.uint8)
