"""Answers of test images that were begun and killed: kept part by part, so that 05 goes on where it was.

A part is a number of images that are predicted together: batches do not reach from one part into the next, so a run
that goes on computes the same batches, and writes the same bytes, as one that was never stopped.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lib.artifacts.read import DAMAGED_ARCHIVE
from lib.inference.sliding_window import count_windows
from lib.inference.windows import Source, Windows
from lib.workspace import replacing

PART = 1024  # windows of a part, at least; a larger image is a part of its own

Answer = tuple[str, int, int, Iterable[np.ndarray]]
"""Image id, height, width, and bands of label planes (T, h, W) from the top down (lib/oof/codes.py)."""


def in_parts(sources: list[Source], windows: Windows) -> Iterator[list[Source]]:
    """The images in their order, as many together as have `PART` windows."""
    part, count = [], 0
    for source in sources:
        part.append(source)
        count += 1 if windows.resized else count_windows(*source.size, windows)
        if count >= PART:
            yield part
            part, count = [], 0
    if part:
        yield part


class KeptAnswers:
    """Files of a folder, one for each finished part. `None` for the folder keeps nothing. `planes`: of the labels."""

    def __init__(self, folder: Path | None, planes: int = 1):
        self.folder, self.planes = folder, planes

    def has(self, part: int, sources: list[Source]) -> bool:
        """Whether a part is there, with the answers to these images. A damaged file is deleted, with a note."""
        if self.folder is None or not self._path(part).is_file():
            return False
        try:
            found = [image_id for image_id, *_, bands in self.read(part) if all(band.size for band in bands)]
        except DAMAGED_ARCHIVE + (gzip.BadGzipFile,):
            found = []
        if found == [source.image_id for source in sources]:
            return True
        print(f"note: {self._path(part)} is damaged, so it is made again", flush=True)
        self._path(part).unlink()
        return False

    def read(self, part: int) -> Iterator[Answer]:
        """A part's answers, as they were written; each one's bands must be taken before the next answer.

        Raises one of `DAMAGED_ARCHIVE`, or OSError, where the file is damaged.
        """
        with gzip.open(self._path(part), "rb") as file:
            while line := file.readline():
                image_id, height, width = json.loads(line)
                yield image_id, height, width, _bands(file, (self.planes, height, width))

    @contextmanager
    def writing(self, part: int) -> Iterator[Callable[[Answer], Answer]]:
        """Gives a function that hands an answer on and writes down what is taken of it."""
        if self.folder is None:
            yield lambda answer: answer
            return
        with replacing(self._path(part)) as temporary, gzip.open(temporary, "wb", compresslevel=1) as file:

            def noted(answer: Answer) -> Answer:
                image_id, height, width, bands = answer
                file.write(json.dumps([image_id, height, width]).encode() + b"\n")
                return image_id, height, width, _written(bands, file)

            yield noted

    def clear(self) -> None:
        """The file of answers is written: nothing of this has to be kept."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, part: int) -> Path:
        return self.folder / f"part{part:06}.gz"


def _written(bands: Iterable[np.ndarray], file) -> Iterator[np.ndarray]:
    for band in bands:
        file.write(band.shape[1].to_bytes(4, "little"))
        file.write(np.ascontiguousarray(band, np.uint8))
        yield band


def _bands(file, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    planes, height, width = shape
    y = 0
    while y < height:
        rows = int.from_bytes(file.read(4), "little")
        if not 0 < rows <= height - y:
            raise ValueError(f"{rows} rows where {height - y} are left")
        yield np.frombuffer(file.read(planes * rows * width), np.uint8).reshape(planes, rows, width)
        y += rows
