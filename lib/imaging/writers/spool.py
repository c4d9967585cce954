"""Planes of an image on disk: written row by row from the top down, read in any order."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np


class Spool:
    """`planes` planes (height, width) uint8 in a nameless file of `folder`, which is gone when it is closed.

    Only the part that is being read is mapped into memory.

    >>> with Spool(1, 2, 3) as spool:
    ...     spool.write(1, np.array([[[7, 8, 9]]], np.uint8))
    ...     spool.read(0, (0, 2), (1, 3)).tolist()
    [[0, 0], [8, 9]]
    """

    def __init__(self, planes: int, height: int, width: int, folder: Path | None = None):
        self.planes, self.height, self.width = planes, height, width
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (as long as the spool)
        self._file.truncate(planes * height * width)

    def write(self, y: int, rows: np.ndarray) -> None:
        """Rows (planes, h, width) uint8 that start at row `y`."""
        for plane, values in enumerate(rows):
            self._file.seek(self._offset(plane, y))
            left = memoryview(np.ascontiguousarray(values, np.uint8)).cast("B")
            while left:  # an unbuffered file may take less than it is given
                left = left[self._file.write(left) :]

    def read(
        self, plane: int, rows: tuple[int, int], columns: tuple[int, int] | None = None, step: int = 1
    ) -> np.ndarray:
        """A copy of every `step`th row and column of a range (start, stop) of rows and of columns (None: all)."""
        start, stop = columns or (0, self.width)
        return np.array(self.mapped(plane, rows)[::step, start:stop:step])

    def mapped(self, plane: int, rows: tuple[int, int] | None = None) -> np.ndarray:
        """A range of rows (None: all) as an array that lies on disk, (h, width)."""
        top, bottom = rows or (0, self.height)
        shape = bottom - top, self.width
        return np.memmap(self._file, np.uint8, "r", self._offset(plane, top), shape)

    def _offset(self, plane: int, y: int) -> int:
        return (plane * self.height + y) * self.width

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
