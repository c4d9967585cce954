"""Probabilities as 8-bit codes, and labels as planes. Counting, caching and deciding all start from these.

Inside `oof` and `decision` the labels of a block are always planes (T, h, w) uint8. Where a pixel has one label, there
is one plane, of label indices. Where classes overlap, there is one plane of 0 and 1 for each class. `IGNORE` is what is
not known. Label readers, codecs and pictures take a single plane without its first axis.
"""

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


def to_codes(probs: np.ndarray, binary: bool) -> np.ndarray:
    """Probabilities (K, h, w) → codes (C, h, w) uint8.

    `binary`: every channel tells one class from the rest (one class, or classes that overlap), so that the codes are
    the probabilities in 1/255, and C is K. Otherwise C is 1, and the code is the index of the likeliest label.

    >>> to_codes(np.array([[[0.5, 1.0]]]), True).tolist()
    [[[128, 255]]]
    >>> to_codes(np.array([[[0.2]], [[0.8]]]), False).tolist(), to_codes(np.array([[[0.2]], [[0.8]]]), True).tolist()
    ([[[1]]], [[[51]], [[204]]])
    """
    return to_probs_u8(probs) if binary else probs.argmax(0)[None].astype(np.uint8)


def to_planes(labels: np.ndarray) -> np.ndarray:
    """Labels as readers give them, (h, w) or (K, h, w) → label planes (T, h, w)."""
    return labels if labels.ndim == 3 else labels[None]


def from_planes(planes: np.ndarray, multilabel: bool) -> np.ndarray:
    """Label planes (T, h, w) → labels as codecs and pictures take them: (h, w), or (K, h, w) where classes overlap."""
    return planes if multilabel else planes[0]
