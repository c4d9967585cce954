"""Saves the answers of test images part by part, so that a killed run of 05 resumes after the last finished part.

A part is a number of images that are predicted together. No batch holds windows of two parts. A resumed run therefore
computes the same batches, and writes the same bytes, as an undisturbed run.
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

PART_WINDOWS = 1024  # a part is complete when its images have at least so many windows

Answer = tuple[str, int, int, Iterable[np.ndarray]]
"""Image id, height, width, and bands of label planes (T, h, W) from the top down (lib/oof/codes.py)."""


def in_parts(sources: list[Source], windows: Windows) -> Iterator[list[Source]]:
    """Divide images into parts of at least `PART_WINDOWS` windows each. The order stays."""
    part, count = [], 0
    for source in sources:
        part.append(source)
        count += count_windows(*source.size, windows)
        if count >= PART_WINDOWS:
            yield part
            part, count = [], 0
    if part:
        yield part


class AnswerParts:
    """A folder with one file for each finished part. With `None` for the folder, nothing is saved.

    `planes`: how many planes the labels have.
    """

    def __init__(self, folder: Path | None, planes: int = 1):
        self.folder, self.planes = folder, planes

    def has(self, part: int, sources: list[Source]) -> bool:
        """Whether a part is saved, with the answers of these images. A damaged file is deleted, with a note."""
        if self.folder is None or not self._path(part).is_file():
            return False
        try:
            image_ids = [image_id for image_id, *_, bands in self.read(part) if all(band.size for band in bands)]
        except DAMAGED_ARCHIVE + (gzip.BadGzipFile,):
            image_ids = []
        if image_ids == [source.image_id for source in sources]:
            return True
        print(f"note: {self._path(part)} is damaged, so it is predicted again", flush=True)
        self._path(part).unlink()
        return False

    def read(self, part: int) -> Iterator[Answer]:
        """A part's answers. The bands of one answer must be used up before the next answer is taken.

        Raises one of `DAMAGED_ARCHIVE`, or OSError, where the file is damaged.
        """
        with gzip.open(self._path(part), "rb") as file:
            while line := file.readline():
                image_id, height, width = json.loads(line)
                yield image_id, height, width, _bands(file, (self.planes, height, width))

    @contextmanager
    def writing(self, part: int) -> Iterator[Callable[[Answer], Answer]]:
        """A function that returns an answer like its argument, whose bands are saved as they are used up."""
        if self.folder is None:
            yield lambda answer: answer
            return
        with replacing(self._path(part)) as temporary, gzip.open(temporary, "wb", compresslevel=1) as file:

            def saved(answer: Answer) -> Answer:
                image_id, height, width, bands = answer
                file.write(json.dumps([image_id, height, width]).encode() + b"\n")
                return image_id, height, width, _written(bands, file)

            yield saved

    def clear(self) -> None:
        """Remove all parts, after the file of answers is written."""
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
