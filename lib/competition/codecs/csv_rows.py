"""CSV submissions with the rows, order and columns of the sample submission. Memory holds one row's text at a time."""

from __future__ import annotations

import codecs
import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import SpooledTemporaryFile

import pandas as pd

from lib.competition.codecs.common import Codec, Name
from lib.competition.integer_text import LongText
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.organiser_text import tidy

SHORT = 8  # letters; longer texts are not compared with words, because copies of hundreds of megabytes are slow
TEXT_BYTES_IN_MEMORY = 16 * 2**20  # of the texts that are held in memory; further texts go to a file
PIECE = 2**20  # letters of a longer text that are read at once


class CsvRows(Codec):
    """A codec with one text for each row of the sample, or, with `submission.instances`, any number of them.

    `blank`: the text of rows without an answer. `streams`: whether `answers` may give a text of more than
    `TEXT_BYTES_IN_MEMORY` as a LongText, which must be read before the next row.
    """

    blank = b""
    streams = False

    def __init__(self, config: CompetitionSettings, sample: pd.DataFrame, label_names: list[str]):
        super().__init__(config, sample, label_names)
        self._heads, self.separator = [*sample.columns], sample.attrs.get("separator", ",")
        self.columns = sample.attrs.get("heads", self._heads)  # as they stand in the file
        self.place = self._heads.index(config.submission.rle_column)
        self._ids = {tidy(cell): cell for cell in sample[config.submission.id_column]}
        self._texts = SpooledTemporaryFile(TEXT_BYTES_IN_MEMORY)  # noqa: SIM115 (lives as long as the codec, and has no name)
        self._where: dict[Name, list[tuple[int, int]]] = {}  # first byte and end of each text

    def keep(self, name: Name, pieces: Iterable[bytes]) -> None:
        """Hold the text of a row, in pieces, until `write`. Called again, it adds a row. No text means `blank`."""
        start, places = self._texts.tell(), self._where.setdefault(name, [])
        for piece in pieces:
            self._texts.write(piece)
        if self._texts.tell() > start:
            places.append((start, self._texts.tell()))

    def unanswered(self) -> list[str]:
        """Names of the sample's rows that have no answer, and are written as `blank`."""
        names = map(self.name_of, self.sample.itertuples(index=False, name=None))
        return [" ".join(name).strip() for name in names if name not in self._where]

    def write(self, path: Path) -> None:
        """Write the file, with the rows of the sample."""
        written: set[Name] = set()
        with path.open("wb") as file:
            file.write(self._line(self.columns) + b"\n")
            for values in self.sample.itertuples(index=False, name=None):
                name = self.name_of(values)
                if self.config.submission.instances and name in written:
                    continue
                written.add(name)
                for start, stop in self._where.get(name) or [(0, 0)]:
                    self._write_row(file, values, start, stop)
        self._texts.seek(0, io.SEEK_END)

    def _write_row(self, file: io.BufferedWriter, values: tuple[str, ...], start: int, stop: int) -> None:
        place = self.place
        if start == stop:
            file.write(self._line([*values[:place], self.blank.decode(), *values[place + 1 :]]) + b"\n")
            return
        file.write(self._line(values[:place]) + self.separator.encode() if place else b"")
        self._texts.seek(start)
        while (left := stop - self._texts.tell()) > 0:
            file.write(self._texts.read(min(left, TEXT_BYTES_IN_MEMORY)))
        # The empty text at the start makes the separator. An empty text alone would be written with quotes.
        file.write(self._line(["", *values[place + 1 :]]) + b"\n" if values[place + 1 :] else b"\n")

    def answers(self, path: Path) -> Iterator[tuple[Name, bytes]]:
        """Name and text of each row. Raises UserError unless names and their order are the sample's."""
        self.check_file(path)
        names = [self.name_of(values) for values in self.sample.itertuples(index=False, name=None)]
        found = self._objects(path, names) if self.config.submission.instances else self._in_order(path, names)
        for name, text in found:
            if len(text) < SHORT and text.strip().lower() == b"nan":
                raise UserError(
                    f"{path}, {' '.join(name).strip()}: the answer is NaN; an image without object is written "
                    f"{self.blank.decode()!r} here"
                )
            yield name, text

    def _in_order(self, path: Path, names: list[Name]) -> Iterator[tuple[Name, bytes]]:
        count = 0
        for count, (name, text) in enumerate(self._rows(path), start=1):
            if count > len(names):
                continue
            if name != names[count - 1]:
                found, wanted = " ".join(name).strip(), " ".join(names[count - 1]).strip()
                if name in names[: count - 1]:
                    found = f"{found} again, as row {names.index(name) + 2} is"
                raise UserError(f"{path}: row {count + 1} is {found}, expected {wanted} as in the sample submission")
            yield name, text
        if count != len(names):
            raise UserError(f"{path} has {count} rows, the sample submission {len(names)}")

    def _objects(self, path: Path, names: list[Name]) -> Iterator[tuple[Name, bytes]]:
        """Rows in any order. Each name has at least one row, and exactly one if that is `blank`."""
        wanted, present, without_object = set(names), set(), set()
        for row, (name, text) in enumerate(self._rows(path), start=2):
            shown, blank = " ".join(name).strip(), text == self.blank
            if name not in wanted:
                raise UserError(f"{path}: row {row} is {shown}, which the sample submission does not ask for")
            if name in without_object or (blank and name in present):
                raise UserError(f"{path}: row {row} is one more row of {shown}, and a row says that it has no object")
            present.add(name)
            without_object.update([name] if blank else [])
            yield name, text
        for name in names:
            if name not in present:
                raise UserError(f"{path} has no row for {' '.join(name).strip()}, which the sample submission asks for")

    def _rows(self, path: Path) -> Iterator[tuple[Name, bytes]]:
        """Name and answer of each row. Raises UserError on columns that are not the sample's."""
        s = self.config.submission
        with path.open("rb") as file:
            columns = self._fields(path, _whole(file.readline(), file).removeprefix(codecs.BOM_UTF8))
            for column in filter(None, [s.id_column, s.class_column, s.rle_column]):
                if column not in map(tidy, columns):
                    raise UserError(f"{path} has no column {column!r}; it has {', '.join(columns) or 'none'}")
            if columns != self.columns:
                raise UserError(f"{path} has the columns {', '.join(columns)}; expected {', '.join(self.columns)}")
            id_place = self._heads.index(s.id_column)
            while line := file.readline(TEXT_BYTES_IN_MEMORY):
                if not line.isspace():
                    try:
                        fields, text = self._streamed(path, line, file) or self._parts(path, _whole(line, file))
                    except UnicodeDecodeError as error:
                        raise UserError(f"{path} is not a CSV in UTF-8: {error}") from None
                    del line  # a text may have hundreds of megabytes
                    self._check_id(path, fields[id_place])
                    yield self.name_of(fields), text
                    for _ in text.pieces if isinstance(text, LongText) else ():
                        pass  # skip the pieces that were not read

    def _check_id(self, path: Path, cell: str) -> None:
        """Raises UserError where an id is the sample's but for blanks or its Unicode form, which leaderboards see."""
        own = self._ids.get(tidy(cell), cell)
        if cell != own:
            raise UserError(f"{path}: the id {cell!r} is {own!r} in the sample submission; write it exactly like that")

    def _streamed(self, path: Path, line: bytes, file: io.BufferedReader) -> tuple[list[str], LongText] | None:
        """As `_parts`, for a row that is longer than `line` and has its answer in the last column; None for others."""
        complete = len(line) < TEXT_BYTES_IN_MEMORY or line.endswith(b"\n")
        if complete or not self.streams or b'"' in line or self.place + 1 != len(self.columns):
            return None
        *fields, text = line.split(self.separator.encode(), self.place)
        if len(fields) != self.place:
            return None

        def pieces() -> Iterator[bytes]:
            yield text
            while piece := file.readline(PIECE):
                yield piece
                if piece.endswith(b"\n"):
                    return

        left = path.stat().st_size - file.tell()
        return [*(field.decode() for field in fields), ""], LongText(text[:SHORT], pieces(), len(text) + left)

    def _parts(self, path: Path, line: bytes) -> tuple[list[str], bytes]:
        """A row's fields, with its answer left empty, and the answer. The csv module would need more memory."""
        if b'"' in line:
            fields = [field.encode() for field in self._fields(path, line)]
        else:
            separator = self.separator.encode()
            fields = line.rstrip(b"\r\n").split(separator, self.place)
            fields += fields.pop().rsplit(separator, len(self.columns) - self.place - 1)
        if len(fields) != len(self.columns):
            raise UserError(
                f"{path} is not a readable CSV: a row has {len(fields)} fields, the header {len(self.columns)}"
            )
        text = fields[self.place]
        fields[self.place] = b""
        return [field.decode() for field in fields], text

    def name_of(self, values: Sequence[str]) -> Name:
        """The name of a row with these fields."""
        s = self.config.submission
        return (
            tidy(values[self._heads.index(s.id_column)]),
            tidy(values[self._heads.index(s.class_column)]) if s.class_column else "",
        )

    def _line(self, values: Sequence[str]) -> bytes:
        """A line of CSV, without its line end."""
        text = io.StringIO()
        # Python quotes a cell with a line break only where the break is part of `lineterminator`.
        csv.writer(text, delimiter=self.separator, lineterminator="\r\n").writerow(values)
        return text.getvalue().removesuffix("\r\n").encode()

    def _fields(self, path: Path, line: bytes) -> list[str]:
        csv.field_size_limit(sys.maxsize)
        try:
            return next(csv.reader([line.decode()], delimiter=self.separator), [])
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not a CSV in UTF-8: {error}") from None
        except csv.Error:
            raise UserError(
                f"{path} is not a readable CSV: a carriage return alone ends no line; save it with line feeds"
            ) from None


def _whole(line: bytes, file: io.BufferedReader) -> bytes:
    """The complete row that begins with `line`. A cell in quotes may hold line breaks."""
    parts = [line if line.endswith(b"\n") else line + file.readline()]
    quotes = parts[0].count(b'"')
    while quotes % 2 and (more := file.readline()):
        parts.append(more)
        quotes += more.count(b'"')
    return b"".join(parts)
