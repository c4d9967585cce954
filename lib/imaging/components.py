"""Connected components of a mask that arrives in bands of rows. Holds the runs of the components, never the mask."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

COMPONENT_PIXELS_AT_ONCE = 2**22  # pixels labeled at once


class Components:
    """Components of 8-connected pixels, joined across bands by union-find.

    >>> components = Components(2, 3, "row")
    >>> components.push(0, np.array([[1, 0, 1], [1, 0, 0]]))
    >>> [ends.tolist() for ends in components.finish()]
    [[0, 1, 3, 4], [2, 3]]
    """

    def __init__(self, height: int, width: int, order: str):
        self.height, self.width, self.order = height, width, order
        self._parent = np.zeros(1, np.int64)  # of each label given so far; 0 is no component
        self._before = np.zeros(width, np.int64)  # labels of the last row
        self._runs: list[np.ndarray] = []  # (3, n): label, start, end

    def push(self, y0: int, band: np.ndarray) -> None:
        """Add rows (h, width) from row `y0` on; values other than 0 are object. Bands come in order."""
        rows = max(1, COMPONENT_PIXELS_AT_ONCE // self.width)
        for top in range(0, len(band), rows):
            self._push(y0 + top, np.ascontiguousarray(band[top : top + rows] != 0).view(np.uint8))

    def _push(self, y0: int, mask: np.ndarray) -> None:
        count, at = cv2.connectedComponents(mask, connectivity=8)
        known = len(self._parent)
        self._parent = np.concatenate([self._parent, np.arange(known, known + count - 1)])
        labels = np.where(at > 0, at + (known - 1), 0)
        for one, other in self._touching(labels[0]):
            self._unite(one, other)
        self._before = labels[-1].copy()
        self._runs.append(self._runs_of(y0, labels))

    def _touching(self, row: np.ndarray) -> np.ndarray:
        """Pairs (n, 2) of labels, of the row before and of this row, that are one component."""
        above = np.pad(self._before, 1)
        pairs = np.concatenate([np.stack([above[i : i + self.width], row], 1) for i in range(3)])
        return np.unique(pairs[(pairs > 0).all(1)], axis=0)

    def _unite(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        self._parent[max(one, other)] = min(one, other)

    def _root(self, label: int) -> int:
        while self._parent[label] != label:
            self._parent[label] = label = self._parent[self._parent[label]]
        return label

    def _runs_of(self, y0: int, labels: np.ndarray) -> np.ndarray:
        """(3, n): label, start, end of the runs of some rows (h, width), each within one row or column."""
        lines = labels if self.order == "row" else labels.T
        edges = np.diff(np.pad(lines > 0, ((0, 0), (1, 1))).view(np.int8), axis=1)
        line, start = np.nonzero(edges > 0)
        end = np.nonzero(edges < 0)[1]
        shift = (line + y0) * self.width if self.order == "row" else line * self.height + y0
        return np.stack([lines[line, start], start + shift, end + shift])

    def finish(self) -> Iterator[np.ndarray]:
        """Each component as start, end, start, end, … of its runs, counted from 0, in the order of first pixels."""
        parent = self._parent
        while (parent[parent] != parent).any():
            parent = parent[parent]
        labels, starts, ends = np.concatenate(self._runs, axis=1) if self._runs else np.zeros((3, 0), np.int64)
        self._runs = []
        labels = parent[labels]
        order = np.lexsort((starts, labels))
        labels, starts, ends = labels[order], starts[order], ends[order]
        new = np.ones(len(labels), bool)
        new[1:] = (labels[1:] != labels[:-1]) | (starts[1:] > ends[:-1])  # others go on from a line or band before
        last = np.append(np.flatnonzero(new)[1:], len(labels)) - 1
        labels, runs = labels[new], np.stack([starts[new], ends[last]] if len(labels) else [starts, ends], 1)
        first = np.flatnonzero(np.diff(labels, prepend=-1))
        stop = np.append(first[1:], len(labels))
        for i in np.argsort(runs[first, 0]):
            yield runs[first[i] : stop[i]].ravel()
