"""Reads the tables that users and organisers write. What pandas takes silently is refused."""

from __future__ import annotations

import codecs
import csv
import sys
from pathlib import Path

import pandas as pd

from lib.errors import UserError, reading
from lib.organiser_text import tidy

CSV_SEPARATORS = (";", "\t", "|")  # tried where commas part nothing
PACKED = (".gz", ".bz2", ".zip", ".xz", ".zst", ".tar")  # suffixes that pandas unpacks
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BYTES_AT_ONCE = 2**24


def read_csv(path: Path, columns: list[str], raw: bool = False) -> pd.DataFrame:
    """A CSV of texts (an empty cell is an empty text, not NaN) with at least these columns; `.gz` and `.zip` too.

    Heads and cells are tidied (lib/organiser_text.py); `raw`: only the heads. `attrs["separator"]`: what
    parts its cells, a comma or one of `CSV_SEPARATORS`; `attrs["heads"]`: the heads as they stand in the file.
    Raises UserError, naming the row or column, where the file is not such a table.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; check competition.root and the option that names the file")
    with reading(path, "not a readable CSV", "save it again as a CSV in UTF-8"):
        _check_bytes(path)
        head = pd.read_csv(path, nrows=0).columns
        separator = next((s for s in CSV_SEPARATORS if len(head) == 1 and s in head[0]), ",")
        options = {"sep": separator, "dtype": str, "keep_default_na": False}
        # A quote after a blank is one, too.
        table = pd.read_csv(path, skipinitialspace=not raw, **options)
        heads = list(pd.read_csv(path, nrows=0, **options).columns)
        _check_cells(path, separator, not raw)
    if len(table) and not isinstance(table.index, pd.RangeIndex):  # pandas took the first cells for names of rows
        raise UserError(f"{path} has rows with more cells than its header; correct the header or remove the surplus")
    table.columns = [tidy(head) for head in table.columns]
    if len(set(map(tidy, heads))) < len(heads):
        raise UserError(f"{path} has two columns of one name ({', '.join(table.columns)}); rename one")
    table = table if raw else table.map(tidy)
    table.attrs |= {"separator": separator, "heads": heads}
    for column in filter(None, columns):
        if column not in table.columns:
            raise UserError(f"{path} has no column {column!r}; it has {', '.join(table.columns) or 'none'}")
    return table


def _check_bytes(path: Path) -> None:
    """Raises ValueError where an uncompressed file holds a zero byte, at which pandas would end the cell."""
    if path.suffix.lower() in PACKED:
        return
    with path.open("rb") as file:
        if file.read(2) in UTF_16:
            raise ValueError("it is in UTF-16")
        while piece := file.read(BYTES_AT_ONCE):
            if b"\0" in piece:
                raise ValueError("it holds a zero byte")


def _check_cells(path: Path, separator: str, after_blanks: bool) -> None:
    """Raises UserError where columns share a name, which pandas would change, or a row is short, which it would fill.

    `after_blanks`: whether a quote may follow a blank. Packed files are not looked into.
    """
    if path.suffix.lower() in PACKED:
        return
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=separator, skipinitialspace=after_blanks)
        heads = [tidy(head) for head in next(rows, [])]
        named = [head for head in heads if head]
        if len(set(named)) < len(named):
            raise UserError(f"{path} has two columns of one name ({', '.join(named)}); rename one")
        for row in rows:
            if len(row) < len(heads) and any(map(str.strip, row)):
                raise UserError(
                    f"{path}: line {rows.line_num} has {len(row)} cells, the header {len(heads)}; the file may be cut "
                    "off: copy it anew, or correct the line"
                )
