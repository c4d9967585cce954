"""What a section of the report is made of; lib/report/page.html knows how each kind looks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from lib.workspace import Workspace


@dataclass(frozen=True)
class Picture:
    """A file beside the page; `path` is relative to it. `words`: what it shows; `caption`: what stands below it."""

    path: str
    words: str = ""
    caption: str = ""

    @property
    def url(self) -> str:
        return quote(self.path)


@dataclass(frozen=True)
class Table:
    """Rows of equal keys; numbers, texts and pictures. Can be sorted and, when long, filtered."""

    title: str
    rows: Sequence[dict]
    note: str = ""
    kind: str = "table"

    @property
    def content(self) -> object:
        return self.rows

    def decimals(self, key: str) -> int:
        """As many as a column's numbers have, at most four, and fewer of large ones.

        >>> table = Table("", [{"score": 0.71, "s": 44.4, "n": 2.0}, {"score": 0.71234, "s": 2.83, "n": None}])
        >>> table.decimals("score"), table.decimals("s"), table.decimals("n")
        (4, 1, 0)
        """
        values = [row[key] for row in self.rows if isinstance(row.get(key), float) and math.isfinite(row[key])]
        largest = max(map(abs, values), default=0.0)
        most = 4 if largest < 10 else 1 if largest < 1000 else 0
        return next((n for n in range(most) if all(round(v, n) == round(v, most) for v in values)), most)


@dataclass(frozen=True)
class Chart:
    """A drawing of lib/report/charts.py."""

    title: str
    drawing: Markup
    note: str = ""
    kind: str = "chart"

    @property
    def content(self) -> object:
        return self.drawing


@dataclass(frozen=True)
class Shown:
    """One line of a gallery: pictures side by side. `small`: belongs to the line before."""

    title: str
    pictures: Sequence[Picture]
    small: bool = False


@dataclass(frozen=True)
class Gallery:
    title: str
    items: Sequence[Shown]
    note: str = ""
    kind: str = "gallery"

    @property
    def content(self) -> object:
        return self.items


@dataclass(frozen=True)
class Section:
    """`numbers`: a few (name, value) to read first; `note`: a sentence or two under the title; `made_by`: a pattern of
    the names of the stages' manifests that it shows; `stale`: why it is outdated, which the page finds out by it."""

    anchor: str
    title: str
    blocks: Sequence[Table | Chart | Gallery | None]
    numbers: Sequence[tuple[str, object]] = ()
    note: str = ""
    made_by: str = ""
    stale: str = ""

    @property
    def shown(self) -> list[Table | Chart | Gallery]:
        """The blocks that hold anything."""
        return [block for block in self.blocks if block is not None and block.content]


def fact(workspace: Workspace, name: str) -> dict:
    """What a stage left for the report in report/<name>.json; empty where it has not run."""
    path = workspace.report / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def picture(workspace: Workspace, path: Path, words: str, caption: str = "") -> Picture | None:
    """A picture of the report's folder, where it is there."""
    return Picture(path.relative_to(workspace.report).as_posix(), words, caption) if path.is_file() else None


def beside(workspace: Workspace, path: Path, folder: str, words: str) -> Picture | None:
    """A picture of a stage's own folder, copied into report/<folder>: the report can be moved as a whole."""
    if not path.is_file():
        return None
    target = workspace.report / folder / path.name
    if not target.is_file() or target.stat().st_mtime_ns < path.stat().st_mtime_ns:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return picture(workspace, target, words)
