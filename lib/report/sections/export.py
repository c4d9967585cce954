"""Every chart and table of the report as a CSV file beside the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from lib.report.sections.blocks import Gallery, ReportSection
from lib.workspace import write_text


def export(sections: Iterable[ReportSection], report: Path) -> list[ReportSection]:
    """Write report/csv/<section>_<title>.csv for each chart and table, and note the file in its block.

    Files of earlier pages that are not written any more are deleted.
    """
    exported, written = [], set()
    for section in sections:
        blocks = []
        for block in section.shown:
            if not isinstance(block, Gallery):
                path = report / "csv" / f"{_free_name(section.anchor, block.title, written)}.csv"
                _write_rows(path, block.rows)
                block = replace(block, csv=f"csv/{path.name}")
            blocks.append(block)
        exported.append(replace(section, blocks=blocks))
    for path in (report / "csv").glob("*.csv"):
        if path.stem not in written:
            path.unlink(missing_ok=True)
    return exported


def _free_name(anchor: str, title: str, written: set[str]) -> str:
    """
    >>> written = set()
    >>> [_free_name("oof", title, written) for title in ("Found, by size", "Found: by size")]
    ['oof_found_by_size', 'oof_found_by_size_2']
    """
    name = f"{anchor}_{re.sub(r'[^a-z0-9]+', '_', title.lower()).strip('_')}"
    number = next(n for n in range(1, len(written) + 2) if (name if n == 1 else f"{name}_{n}") not in written)
    name = name if number == 1 else f"{name}_{number}"
    written.add(name)
    return name


def _write_rows(path: Path, rows: Sequence[dict]) -> None:
    """A CSV of the rows, without their pictures; it is left alone where nothing has changed."""
    table = pd.DataFrame([{key: value for key, value in row.items() if key} for row in rows])
    text = table.to_csv(index=False, lineterminator="\n")
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
