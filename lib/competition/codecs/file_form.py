"""The forms of an answer's files, by their suffix: the base class, and what all forms share."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import BinaryIO

import numpy as np

from lib.config.competition import CompetitionSettings
from lib.errors import UserError

ROWS_PER_STRIP = 256  # so many rows are compressed together
FILE_BYTES_IN_MEMORY = 16 * 2**20  # of files, or of a label, that are held in memory; more go to a file
Part = tuple[int, int, np.ndarray]
"""y, x, and the pixels there: (h, w) uint8, or colours (h, w, 3)."""


class FileForm(ABC):
    """Writes and reads one kind of file, piece by piece.

    `samples`: 1 where a pixel holds a number of 8 bits, 3 where it holds a colour. A form of files is registered by its
    suffix: `@register("answer_file", ".png")`.
    """

    colours = False
    """Whether files of this form may hold colours."""
    georeferenced = False
    """Whether files of this form may hold the place on Earth of their image."""
    bytes_per_pixel = 2
    """The most bytes that a whole file has for each value, beside `FILE_BYTES_IN_MEMORY`."""

    def __init__(self, config: CompetitionSettings, samples: int):
        self.config, self.samples = config, samples

    @abstractmethod
    def encode(self, file: BinaryIO, size: tuple[int, int], bands: Iterator[np.ndarray], image: Path | None) -> None:
        """Write an answer of `size` (height, width). `bands`: pixels (h, width) or (h, width, 3) from the top down.

        `image`: the file that is answered, where `submission.georeference` asks for its place on Earth.
        """

    @abstractmethod
    def decode(self, where: str, file: BinaryIO, size: tuple[int, int], image: Path | None) -> Iterator[Part]:
        """The parts of a file. Raises UserError unless it has pixels of `size`. `where`: names it in messages."""


@contextmanager
def copy_on_disk(file: BinaryIO, suffix: str) -> Iterator[Path]:
    """A file of a ZIP as a file on disk, for libraries that read no streams."""
    with NamedTemporaryFile(suffix=suffix) as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        yield Path(copy.name)


def zeros(size: tuple[int, int]) -> np.ndarray:
    """Zeros (H, W) uint8 to be filled, which lie in a temporary file where they are large."""
    if size[0] * size[1] <= FILE_BYTES_IN_MEMORY:
        return np.zeros(size, np.uint8)
    return np.memmap(TemporaryFile(), np.uint8, shape=size)  # which keeps its file


def check_shape(where: str, found: tuple[int, ...], size: tuple[int, int], samples: int) -> None:
    """Raises UserError unless an array has the shape of an answer."""
    wanted = size if samples == 1 else (*size, samples)
    if tuple(found) != tuple(wanted):
        raise UserError(f"{where} is {' x '.join(map(str, found))}, expected {' x '.join(map(str, wanted))}")
