"""A cache of arrays that overflows to a file on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np


class DiskCache:
    """Arrays by key: in memory up to `budget` bytes, the others in a temporary file in `folder`.

    >>> cache = DiskCache(budget=0)
    >>> cache.put("a", np.array([1, 2]))
    >>> cache.pop("a").tolist(), cache.get("a")
    ([1, 2], None)
    """

    def __init__(self, budget: float = np.inf, folder: Path | None = None):
        self.budget, self.folder = budget, folder
        self._held: dict[object, np.ndarray] = {}
        self._bytes = 0
        self._file = None
        self._places: dict[object, tuple[int, tuple[int, ...], np.dtype]] = {}
        self._free: dict[int, list[int]] = {}  # offsets by size
        self._end = 0

    def put(self, key: object, array: np.ndarray) -> None:
        if self._bytes + array.nbytes <= self.budget:
            self._held[key] = array
            self._bytes += array.nbytes
            return
        self._file = self._file or tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 (lives as long as the cache)
        free = self._free.get(array.nbytes)
        offset = free.pop() if free else self._end
        self._end = max(self._end, offset + array.nbytes)
        self._file.seek(offset)
        self._file.write(np.ascontiguousarray(array).data)
        self._places[key] = offset, array.shape, array.dtype

    def get(self, key: object) -> np.ndarray | None:
        """The array, which must not be changed; None when there is none."""
        if key in self._held or key not in self._places:
            return self._held.get(key)
        offset, shape, dtype = self._places[key]
        array = np.empty(shape, dtype)
        self._file.seek(offset)
        self._file.readinto(array.data)
        return array

    def pop(self, key: object) -> np.ndarray | None:
        """The array, which is removed from the cache; None when there is none."""
        array = self.get(key)
        self.forget(key)
        return array

    def forget(self, key: object) -> None:
        if key in self._held:
            self._bytes -= self._held.pop(key).nbytes
        elif key in self._places:
            offset, shape, dtype = self._places.pop(key)
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            self._free.setdefault(size, []).append(offset)
