"""What is kept of every map, to be shown: every so many pixels of it, and its worst spot at full resolution.

Made from blocks as they are finished; memory: some `SPOT` rows of an image, and one image's glimpse.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib.imaging.grid import map_step

SPOT = 512  # longest side of a spot, pixels
STRIP = 128  # spots start at multiples of so many pixels
MIDDLE = np.array([0.8, 1, 1, 0.8])  # what counts in a spot, down and across: errors shall lie in its middle


@dataclass(frozen=True)
class Glimpse:
    """`map` (h, w) uint8, bins of one class or label indices: every `map_step`th pixel down and across.

    `spot` (h, w), the same at full resolution, has its first pixel at `place` (y, x); of an image that is not shrunk it
    is empty.
    """

    map: np.ndarray
    spot: np.ndarray
    place: tuple[int, int] = (0, 0)


class Glimpser:
    """Takes one image's blocks, rows of them from the top down, each from left to right; the worst spot is the square
    with most wrong pixels."""

    def __init__(self, height: int, width: int):
        self.height, self.width, self.step = height, width, map_step(height, width)
        self.map = np.zeros((-(-height // self.step), -(-width // self.step)), np.uint8)
        self.spot, self.place, self._most = np.zeros((0, 0), np.uint8), (0, 0), -1.0
        self._strips: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # of y // STRIP: rows, wrong pixels by x // STRIP

    def add(self, y: int, x: int, values: np.ndarray, wrong: np.ndarray) -> None:
        """A block of bins or label indices (h, w), and which of them are wrong (h, w), at (y, x)."""
        step = self.step
        part = values[-y % step :: step, -x % step :: step]
        top, left = -(-y // step), -(-x // step)
        self.map[top : top + part.shape[0], left : left + part.shape[1]] = part
        if step == 1:
            return
        height, width = values.shape
        cells = (x + np.arange(width)) // STRIP
        for number in range(y // STRIP, -(-(y + height) // STRIP)):
            start, end = max(y, number * STRIP), min(y + height, (number + 1) * STRIP)
            rows, counts = self._strip(number)
            rows[start - number * STRIP : end - number * STRIP, x : x + width] = values[start - y : end - y]
            counts += np.bincount(cells, wrong[start - y : end - y].sum(0), len(counts)).astype(np.int64)
            if x + width == self.width and end == min((number + 1) * STRIP, self.height):
                self._look(number)

    def _strip(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        if number not in self._strips:
            height = min(STRIP, self.height - number * STRIP)
            self._strips[number] = np.zeros((height, self.width), np.uint8), np.zeros(-(-self.width // STRIP), np.int64)
        return self._strips[number]

    def _look(self, last: int) -> None:
        """Whether a spot whose last strip this is has more wrong pixels than any before."""
        numbers = range(max(0, last + 1 - len(MIDDLE)), last + 1)
        if len(numbers) < len(MIDDLE) and (last + 1) * STRIP < self.height:
            return
        wrong = np.stack([self._strips[number][1] for number in numbers])
        wrong = wrong.sum(0) if len(wrong) < len(MIDDLE) else MIDDLE @ wrong
        found = wrong.sum(keepdims=True) if len(wrong) < len(MIDDLE) else np.convolve(wrong, MIDDLE, "valid")
        best = int(found.argmax())
        if found[best] > self._most:
            x = max(0, min(best * STRIP, self.width - SPOT))
            self._most, self.place = found[best], (numbers[0] * STRIP, x)
            self.spot = np.concatenate([self._strips[number][0][:, x : x + SPOT] for number in numbers])
        del self._strips[numbers[0]]

    def glimpse(self) -> Glimpse:
        """Once all blocks were taken."""
        return Glimpse(self.map, self.spot, self.place)


class AlbumWriter:
    """Adds glimpses to a new file; used as a context."""

    def __init__(self, file: Path | BinaryIO):
        self._file = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def __enter__(self) -> AlbumWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, image_id: str, glimpse: Glimpse) -> None:
        with self._file.open(image_id, "w") as entry:
            np.savez(entry, map=glimpse.map, spot=glimpse.spot, place=glimpse.place)


class Album:
    """The images' glimpses in what `AlbumWriter` wrote; only the one that is looked at is in memory."""

    def __init__(self, files: list[Path | BinaryIO]):
        self._files = {name: file for file in map(zipfile.ZipFile, files) for name in file.namelist()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __getitem__(self, image_id: str) -> Glimpse:
        with np.load(io.BytesIO(self._files[image_id].read(image_id))) as saved:
            y, x = saved["place"].tolist()
            return Glimpse(saved["map"], saved["spot"], (y, x))
