"""COCO's run-lengths: counts of pixels outside and inside the object in turn, as a list or as a compressed text."""

from __future__ import annotations

import numpy as np

MOST_DIGITS = 8  # of 5 bits in a number; an image has fewer than 2^39 pixels


def runs_of_counts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """COCO's counts of pixels, outside and inside the object in turn, to (starts from 0, lengths); column by column.

    >>> [part.tolist() for part in runs_of_counts(np.array([2, 3, 1, 4]))]
    [[2, 6], [3, 4]]
    """
    lengths = counts[1::2]
    starts = np.cumsum(counts)[: 2 * len(lengths) : 2] + 0
    return starts[lengths > 0], lengths[lengths > 0]


def counts_of_text(text: str) -> np.ndarray:
    """COCO's compressed text to counts, int64. Raises ValueError for another text.

    A letter holds 5 bits, the lowest first. From the fourth number on, the text holds the difference to the number two
    places before. Source: rleFrString of pycocotools, common/maskApi.c.

    >>> counts_of_text("52203").tolist()
    [5, 2, 2, 2, 5]
    """
    letters = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    if not len(letters):
        return letters
    last = letters & 32 == 0  # of a number
    first = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    digit = np.arange(len(letters)) - np.repeat(first, np.diff(np.append(first, len(letters))))
    if letters.min() < 0 or letters.max() > 63 or not last[-1] or digit.max() >= MOST_DIGITS:
        raise ValueError("no compressed run-lengths")
    counts = np.add.reduceat((letters & 31) << 5 * digit, first)
    counts -= np.where(letters[last] & 16, 1 << 5 * (digit[last] + 1), 0)  # the highest bit is the sign
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts
