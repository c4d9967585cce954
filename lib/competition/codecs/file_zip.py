"""A ZIP with one file for each image: TIFF, PNG, HDF5, NumPy or GeoJSON, as the suffix of the files' names says."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile, SpooledTemporaryFile

import numpy as np
import pandas as pd

from lib.competition.codecs import array_file, geojson_file, png_file, tif_file  # noqa: F401  (they register themselves)
from lib.competition.codecs.common import Codec
from lib.competition.codecs.file_form import FILE_BYTES_IN_MEMORY, zeros
from lib.competition.codecs.file_values import FileValues
from lib.competition.codecs.sample_files import check_like_sample, names_of_files
from lib.competition.labels.common import Label
from lib.competition.labels.planes import label_of_array
from lib.config.competition import CompetitionSettings
from lib.errors import UserError, reading
from lib.imaging.geometry import LabelBands
from lib.organiser_text import tidy
from lib.plugins import find, register

ENTRY_TIME = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that the same answers give the same bytes


@register("codec", "files")
class FileZip(Codec):
    """Files that `submission.id_template` names. What a pixel holds: `FileValues`."""

    suffix = ".zip"
    form = ""
    """The suffix that stands for the form of the files; empty for that of `id_template`."""

    def __init__(self, config: CompetitionSettings, sample: pd.DataFrame, label_names: list[str]):
        super().__init__(config, sample, label_names)
        self.values = FileValues(config)
        suffix = self.form or PurePosixPath(config.submission.id_template).suffix.lower()
        kind = find("answer_file", suffix, "competition.submission.id_template, its suffix")
        if self.values.samples > 1 and not kind.colours:
            raise UserError(f"competition.submission.palette holds colours, which files {suffix} do not; give numbers")
        if config.submission.georeference and not kind.georeferenced:
            raise UserError(
                f"competition.submission.georeference is true, but files {suffix} hold no place on Earth; set it to "
                "false"
            )
        self.file_form = kind(config, self.values.samples)
        self._files = SpooledTemporaryFile(FILE_BYTES_IN_MEMORY)  # noqa: SIM115 (lives as long as the codec, and has no name)
        self._where: dict[str, tuple[int, int]] = {}  # first byte, end

    def add(self, image_id: str, height: int, width: int, bands: LabelBands) -> None:
        """Add an image's answer. `bands`: (y, label indices (h, width)) from the top down."""
        with NamedTemporaryFile() as file:
            pixels = (self.values.pixels(labels) for _, labels in self.seen(height, width, bands))
            self.file_form.encode(file, self.answer_size(height, width), pixels, self.images.get(image_id))
            file.seek(0)
            start = self._files.tell()
            shutil.copyfileobj(file, self._files)
        self._where[self.format_id(image_id)] = start, self._files.tell()

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
                labels[image_id] = zeros(self.answer_size(*sizes[image_id]))
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

    def _parts(
        self, path: Path, sizes: dict[str, tuple[int, int]], alone: bool = False
    ) -> Iterator[tuple[str, int, int, np.ndarray]]:
        """(image id, y, x, label indices (h, w)) of all strips or tiles. `alone`: the ZIP may hold no other images."""
        self.check_file(path)
        names = {self.format_id(image_id): image_id for image_id in sizes}
        with reading(path, "not a readable ZIP"), zipfile.ZipFile(path) as archive:
            files = [name for name in archive.namelist() if not name.endswith("/")]
            _check_names(path, files, list(names), alone)
            for name in filter(names.get, files):
                where, size = f"{path}, {name}", self.answer_size(*sizes[names[name]])
                values, form = size[0] * size[1] * self.values.samples, self.file_form
                _check_length(where, archive.getinfo(name).file_size, values, form.bytes_per_pixel)
                with archive.open(name) as file:
                    for y, x, pixels in form.decode(where, file, size, self.images.get(names[name])):
                        yield names[name], y, x, self.values.labels(where, pixels)


@register("codec", "tif")
class TifZip(FileZip):
    """TIFFs, whatever the names of the files."""

    form = ".tif"


@register("codec", "png")
class PngZip(FileZip):
    """PNGs, whatever the names of the files."""

    form = ".png"


def _check_length(where: str, found: int, values: int, each: float) -> None:
    """Raises UserError where a file of a ZIP has far more bytes than its pixels: unpacked, it might fill the disk.

    `values`: numbers that it should hold. `each`: the most bytes of one.
    """
    if found > each * values + FILE_BYTES_IN_MEMORY:
        raise UserError(f"{where} has {found / 1e6:.0f} MB, for {values / 1e6:.1f} million values; replace it")


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
