"""`id[,class],run-length`: one row per image, or per image and class. Only one row's text is in memory at a time."""

from __future__ import annotations

import codecs
import csv
import io
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import SpooledTemporaryFile

import numpy as np
import pandas as pd

from lib.competition import rle
from lib.competition.labels.common import Label, label_of_runs
from lib.config.competition import Competition
from lib.errors import UserError
from lib.plugins import register

Runs = tuple[int, np.ndarray, np.ndarray]
"""Label index, starts from 0, lengths."""
Key = tuple[str, str]
"""Image id, class."""
HELD_BYTES = 16 * 2**20  # texts kept in memory before they go to a file
TOGETHER = 2**18  # runs of a class compared at once


@register("codec", "rle")
class RleRows:
    """Run-lengths in the rows, order and columns of the sample submission."""

    def __init__(self, config: Competition, sample: pd.DataFrame, label_names: list[str]):
        self.config, self.sample = config, sample
        self.columns = list(sample.columns)
        self.place = self.columns.index(config.submission.rle_column)
        first = 1 if config.background else 0
        self.indices = {name: i + first for i, name in enumerate(config.classes)}
        self._texts = SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115 (lives as long as the codec, and has no name)
        self._where: dict[Key, tuple[int, int]] = {}  # first byte, end

    def add(self, image_id: str, height: int, width: int, bands: Iterable[tuple[int, np.ndarray]]) -> None:
        """`bands`: (y0, label indices (h, width)) in order from the top."""
        s = self.config.submission
        encoders = {name: rle.BandEncoder(height, width, s.order, s.base) for name in self.indices}
        for y0, labels in bands:
            for name, encoder in encoders.items():
                encoder.push(y0, labels == self.indices[name])
        for name in list(encoders):
            start = self._texts.tell()
            for piece in encoders.pop(name).pieces():
                self._texts.write(piece)
            self._where[image_id, name] = start, self._texts.tell()

    def write(self, path: Path) -> None:
        """Images that were never added get the word for empty."""
        empty, place = self.config.submission.empty, self.place
        with path.open("wb") as file:
            file.write(_line(self.columns) + b"\n")
            for values in self.sample.itertuples(index=False, name=None):
                start, stop = self._where.get(self._key(values), (0, 0))
                if start == stop:
                    file.write(_line([*values[:place], empty, *values[place + 1 :]]) + b"\n")
                    continue
                file.write(_line(values[:place]) + b"," if place else b"")
                self._texts.seek(start)
                while (left := stop - self._texts.tell()) > 0:
                    file.write(self._texts.read(min(left, HELD_BYTES)))
                # An empty text first, for the comma; alone, an empty text would be written with quotes.
                file.write(_line(["", *values[place + 1 :]]) + b"\n" if values[place + 1 :] else b"\n")
        self._texts.seek(0, io.SEEK_END)

    def read(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, Label]:
        """Labels, to be read by window, of the images in `sizes`. Raises UserError as `check` does."""
        order, background = self.config.submission.order, self.config.background
        found = self.runs(path, sizes)
        return {image_id: label_of_runs(own, *sizes[image_id], order, background) for image_id, own in found}

    def check(self, path: Path, sizes: dict[str, tuple[int, int]]) -> None:
        """Raises UserError unless a file is what the organiser asks for.

        That is the sample's ids, order and columns, no run outside its image, no classes that overlap; found on the
        runs alone, so that no label map is held.
        """
        for _ in self.runs(path, sizes):
            pass

    def runs(self, path: Path, sizes: dict[str, tuple[int, int]]) -> Iterator[tuple[str, list[Runs]]]:
        """(image id, its runs) of the images in `sizes` (height, width). Raises UserError as `check` does."""
        s = self.config.submission
        expected = [self._key(values) for values in self.sample.itertuples(index=False, name=None)]
        left = Counter(image_id for image_id, _ in expected)
        found: dict[str, list[Runs]] = {}
        count = 0
        for count, (key, text) in enumerate(self._rows(path), start=1):
            if count > len(expected):
                continue
            if key != expected[count - 1]:
                here, wanted = " ".join(key), " ".join(expected[count - 1])
                raise UserError(f"{path}: row {count + 1} is {here}, expected {wanted} as in the sample submission")
            image_id, name = key
            if image_id not in sizes:
                continue
            height, width = sizes[image_id]
            text = b"" if text == s.empty.encode() else text
            runs = rle.parse(text, height * width, f"{path}, {image_id} {name}", s.base)
            found.setdefault(image_id, []).append((self.indices[name], *runs))
            left[image_id] -= 1
            if not left[image_id]:
                own = found.pop(image_id)
                self._check_overlap(path, image_id, own)
                yield image_id, own
        if count != len(expected):
            raise UserError(f"{path} has {count} rows, the sample submission {len(expected)}")

    def _check_overlap(self, path: Path, image_id: str, runs: list[Runs]) -> None:
        """A pixel has at most one class: runs of all classes together are disjoint too (those of one row are)."""
        if len(runs) == 1:
            return
        longest = max((starts for _, starts, _ in runs), key=len)
        last = max((starts[-1] for _, starts, _ in runs if len(starts)), default=0)
        borders = np.unique([0, *longest[::TOGETHER], last + 1])
        class_before, end_before = 0, 0
        for low, high in pairwise(borders):
            index, starts, ends = [np.array([class_before])], [np.array([0])], [np.array([end_before])]
            for label, begun, lengths in runs:
                here = slice(*np.searchsorted(begun, (low, high)))
                index.append(np.full(len(begun[here]), label))
                starts.append(begun[here])
                ends.append(begun[here] + lengths[here])
            order = np.argsort(np.concatenate(starts), kind="stable")
            index, starts, ends = (np.concatenate(values)[order] for values in (index, starts, ends))
            clash = np.flatnonzero(starts[1:] < ends[:-1])
            if len(clash):
                names = {i: name for name, i in self.indices.items()}
                one, other = names[index[clash[0]]], names[index[clash[0] + 1]]
                pixel = starts[clash[0] + 1] + self.config.submission.base
                raise UserError(f"{path}: in {image_id} the class {other} overlaps {one} at pixel {pixel}")
            class_before, end_before = index[-1], ends[-1]

    def _rows(self, path: Path) -> Iterator[tuple[Key, bytes]]:
        """Image id and class, and run-lengths, of each row. Raises UserError on columns that are not the sample's."""
        s = self.config.submission
        if not path.is_file():
            raise UserError(f"there is no file {path}")
        with path.open("rb") as file:
            try:
                columns = _fields(file.readline().removeprefix(codecs.BOM_UTF8))
            except UnicodeDecodeError as error:
                raise UserError(f"{path} is no CSV in UTF-8: {error}") from None
            for column in filter(None, [s.id_column, s.class_column, s.rle_column]):
                if column not in columns:
                    raise UserError(f"{path} has no column {column!r}; it has {', '.join(columns)}")
            if columns != self.columns:
                raise UserError(f"{path} has the columns {', '.join(columns)}; expected {', '.join(self.columns)}")
            while line := file.readline():
                if not line.isspace():
                    try:
                        names, text = self._parts(path, line)
                    except UnicodeDecodeError as error:
                        raise UserError(f"{path} is no CSV in UTF-8: {error}") from None
                    del line  # a text may have hundreds of megabytes
                    yield self._key(names), text

    def _parts(self, path: Path, line: bytes) -> tuple[list[str], bytes]:
        """A row's fields, without its run-lengths, and these. Python's csv would take several bytes a letter."""
        if b'"' in line:
            fields = [field.encode() for field in _fields(line)]
        else:
            fields = line.rstrip(b"\r\n").split(b",", self.place)
            fields += fields.pop().rsplit(b",", len(self.columns) - self.place - 1)
        if len(fields) != len(self.columns):
            raise UserError(
                f"{path} is no readable CSV: a row has {len(fields)} fields, the header {len(self.columns)}"
            )
        text = fields[self.place]
        fields[self.place] = b""
        names = [field.decode() for field in fields]
        return names, text

    def _key(self, values: Sequence[str]) -> Key:
        s = self.config.submission
        name = values[self.columns.index(s.class_column)] if s.class_column else self.config.classes[0]
        return values[self.columns.index(s.id_column)], name


def _line(values: Sequence[str]) -> bytes:
    """A line of CSV, without its end.

    >>> _line(["a", 'b "c", d', ""])
    b'a,"b ""c"", d",'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue().encode()


def _fields(line: bytes) -> list[str]:
    csv.field_size_limit(sys.maxsize)
    return next(csv.reader([line.decode()]), [])
