"""A ZIP with one 8-bit TIFF for each image. Its one band holds 0 and the object's value, or label indices."""

from __future__ import annotations

import io
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile, SpooledTemporaryFile, TemporaryFile
from typing import BinaryIO

import numpy as np
import pandas as pd
import tifffile

from lib.competition.codecs.common import Codec
from lib.competition.codecs.sample_files import check_like_sample, names_of_files
from lib.competition.labels.common import Label
from lib.competition.labels.planes import label_of_array
from lib.config.competition import CompetitionSettings
from lib.errors import UserError, reading
from lib.imaging.geometry import LabelBands
from lib.imaging.readers.tiff_layout import checked_layout
from lib.organiser_text import tidy
from lib.plugins import register

ROWS_PER_STRIP = 256  # so many rows are compressed together
FILE_BYTES_IN_MEMORY = 16 * 2**20  # of files, or of a label, that are held in memory; more go to a file
ENTRY_TIME = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that the same answers give the same bytes


@register("codec", "tif")
class TifZip(Codec):
    """Files that `submission.id_template` names, compressed in strips."""

    suffix = ".zip"

    def __init__(self, config: CompetitionSettings, sample: pd.DataFrame, label_names: list[str]):
        super().__init__(config, sample, label_names)
        self._files = SpooledTemporaryFile(FILE_BYTES_IN_MEMORY)  # noqa: SIM115 (lives as long as the codec, and has no name)
        self._where: dict[str, tuple[int, int]] = {}  # first byte, end

    def add(self, image_id: str, height: int, width: int, bands: LabelBands) -> None:
        """Add an image's answer. `bands`: (y, label indices (h, width)) from the top down."""
        with NamedTemporaryFile() as file:
            values = (self._values(labels) for _, labels in self.seen(height, width, bands))
            self.encode(file, self.answer_size(height, width), values)
            file.seek(0)
            start = self._files.tell()
            shutil.copyfileobj(file, self._files)
        self._where[self.format_id(image_id)] = start, self._files.tell()

    def encode(self, file: BinaryIO, size: tuple[int, int], bands: Iterator[np.ndarray]) -> None:
        """Write an image of `size` (height, width) to a file. `bands`: pixels (h, width) uint8 from the top down."""
        tifffile.imwrite(
            file, _strips(bands), shape=size, dtype=np.uint8, rowsperstrip=ROWS_PER_STRIP, compression="adobe_deflate",
            photometric="minisblack", bigtiff=size[0] * size[1] >= 2**32, metadata=None, software=False,
        )  # fmt: skip

    def decode(self, where: str, file: BinaryIO, size: tuple[int, int]) -> Iterator[tuple[int, int, np.ndarray]]:
        """The parts of a file: (y, x, pixels (h, w) uint8). Raises UserError unless it has one band of `size`.

        `where`: names the file in messages.
        """
        return _segments(where, file, size)

    def write(self, path: Path) -> None:
        """Write the ZIP of the images that were added."""
        with zipfile.ZipFile(path, "w") as archive:
            for name, (start, stop) in self._where.items():
                self._files.seek(start)
                with archive.open(zipfile.ZipInfo(name, ENTRY_TIME), "w", force_zip64=True) as out:
                    while (left := stop - self._files.tell()) > 0:
                        out.write(self._files.read(min(left, FILE_BYTES_IN_MEMORY)))
        self._files.seek(0, io.SEEK_END)

    def unanswered(self) -> list[str]:
        """Files of the sample submission that no image answered."""
        s = self.config.submission
        return [name for name in map(tidy, self.sample[s.id_column]) if name not in self._where] if s.sample else []

    def read(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, Label]:
        """Labels of the images in `sizes`. Large labels lie in temporary files. Raises UserError as `check` does."""
        labels: dict[str, np.ndarray] = {}
        for image_id, y, x, part in self._parts(path, sizes):
            if image_id not in labels:
                size = self.answer_size(*sizes[image_id])
                large = size[0] * size[1] > FILE_BYTES_IN_MEMORY
                labels[image_id] = (
                    np.memmap(TemporaryFile(), np.uint8, shape=size)  # noqa: SIM115 (lives as long as the map)
                    if large
                    else np.zeros(size, np.uint8)
                )
            labels[image_id][y : y + part.shape[0], x : x + part.shape[1]] = part
        return {image_id: label_of_array(pixels) for image_id, pixels in labels.items()}

    def check(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, int]:
        """The number of object pixels of each image. Raises UserError on wrong names, sizes, types or values."""
        first, pixels = int(self.config.background), dict.fromkeys(sizes, 0)
        for image_id, _, _, part in self._parts(path, sizes, alone=True):
            pixels[image_id] += int(np.count_nonzero(part >= first))
        sample = Path(self.config.root) / self.config.submission.sample
        if self.config.submission.sample and names_of_files(sample) is not None:
            check_like_sample(path, sample, [self.format_id(image_id) for image_id in sizes])
        return pixels

    def _values(self, labels: np.ndarray) -> np.ndarray:
        return labels * np.uint8(self.config.submission.object_value) if len(self.indices) == 1 else labels

    def _parts(
        self, path: Path, sizes: dict[str, tuple[int, int]], alone: bool = False
    ) -> Iterator[tuple[str, int, int, np.ndarray]]:
        """(image id, y, x, label indices (h, w)) of all strips or tiles. `alone`: the ZIP may hold no other images."""
        self.check_file(path)
        names = {self.format_id(image_id): image_id for image_id in sizes}
        with reading(path, "no readable ZIP"), zipfile.ZipFile(path) as archive:
            files = [name for name in archive.namelist() if not name.endswith("/")]
            _check_names(path, files, list(names), alone)
            for name in filter(names.get, files):
                where, size = f"{path}, {name}", self.answer_size(*sizes[names[name]])
                _check_length(where, archive.getinfo(name).file_size, size)
                with archive.open(name) as file:
                    for y, x, values in self.decode(where, file, size):
                        yield names[name], y, x, self._indices(where, values)

    def _indices(self, where: str, values: np.ndarray) -> np.ndarray:
        """A file's pixels as label indices."""
        one = len(self.indices) == 1
        legal = [0, self.config.submission.object_value] if one else list(range(self.n_labels))
        counts = label_of_array(values).counts(0, 0, *values.shape)
        strange = [value for value in np.flatnonzero(counts) if value not in legal]
        if strange:
            raise UserError(f"{where} holds {strange[0]}; expected {legal[0]} {'or' if one else 'to'} {legal[-1]}")
        return values // np.uint8(legal[1]) if one else values


def _check_length(where: str, found: int, size: tuple[int, int]) -> None:
    """Raises UserError where a file of a ZIP has far more bytes than its pixels: unpacked, it might fill the disk."""
    pixels = size[0] * size[1]
    if found > 2 * pixels + FILE_BYTES_IN_MEMORY:
        raise UserError(f"{where} has {found / 1e6:.0f} MB, for {pixels / 1e6:.1f} million pixels; replace it")


def _segments(where: str, file: BinaryIO, size: tuple[int, int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """(y, x, pixels (h, w)) of a TIFF's strips or tiles. Raises UserError unless it has one band of `size`."""
    with reading(where, "no readable TIFF"), tifffile.TiffFile(file) as tif:
        page = tif.pages.first
        if len(tif.pages) > 1 or page.samplesperpixel > 1 or page.dtype != np.uint8:
            bands = f"{len(tif.pages)} x {page.samplesperpixel} bands of {page.dtype}"
            raise UserError(f"{where} has {bands}; one of uint8 is expected")
        if page.shape != size:
            raise UserError(f"{where} is {' x '.join(map(str, page.shape))}, expected {size[0]} x {size[1]}")
        checked_layout(where, [page], page)  # checks the header
        # One worker: several read ahead, and hold what they decoded.
        for segment, (*_, y, x, _), (_, h, w, _) in page.segments(maxworkers=1):
            if segment is None:  # not stored: zeros
                segment = np.zeros((1, h, w, 1), np.uint8)
            yield y, x, np.ascontiguousarray(segment[0, :h, :w, 0])


def _check_names(path: Path, files: list[str], wanted: list[str], alone: bool) -> None:
    """Raises UserError unless a ZIP holds each wanted file once, and, with `alone`, no others."""
    counts, asked = Counter(files), set(wanted)
    if len(counts) < len(files):
        raise UserError(f"{path} holds {counts.most_common(1)[0][0]} twice")
    missing, strange = [name for name in wanted if name not in counts], [name for name in files if name not in asked]
    if strange and alone:
        raise UserError(
            f"{path} holds {strange[0]}, which belongs to no test image; expected files such as {wanted[0]}"
        )
    if missing:
        raise UserError(f"{path} lacks {missing[0]} ({len(missing)} such files)")


def _strips(bands: Iterator[np.ndarray]) -> Iterator[bytes]:
    """Bands (h, w) of any height as compressed strips of `ROWS_PER_STRIP` rows. The last strip may be shorter."""
    rows: list[np.ndarray] = []
    for band in bands:
        while sum(map(len, rows)) + len(band) >= ROWS_PER_STRIP:
            cut = ROWS_PER_STRIP - sum(map(len, rows))
            yield zlib.compress(np.concatenate([*rows, band[:cut]]))
            rows, band = [], band[cut:]
        if len(band):
            rows.append(band)
    if rows:
        yield zlib.compress(np.concatenate(rows))
