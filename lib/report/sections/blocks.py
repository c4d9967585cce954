"""The blocks of a report section: tables, charts and galleries. lib/report/page.html draws each kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lib.report.charts import Figure
from lib.workspace import Workspace, read_json


@dataclass(frozen=True)
class Layer:
    """A class that is drawn over a picture and can be switched off: its name, colour, and path of SVG."""

    name: str
    colour: str
    path: str


@dataclass(frozen=True)
class Picture:
    """An image file; `path` is relative to the page. `words`: what it shows; `caption`: the text below it.

    `layers`: drawn over it, in a picture of `size` (width, height). `whole`: the file to enlarge, with all layers.
    """

    path: str
    words: str = ""
    caption: str = ""
    layers: Sequence[Layer] = ()
    size: tuple[int, int] = (0, 0)
    whole: str = ""

    @property
    def url(self) -> str:
        return quote(self.path)

    @property
    def whole_url(self) -> str:
        return quote(self.whole)


@dataclass(frozen=True)
class Table:
    """Rows with the same keys: numbers, texts and pictures. The page can sort them, and filter long tables.

    `csv`: the file of the rows, relative to the page, which lib/report/sections/export.py writes.
    """

    title: str
    rows: Sequence[dict]
    note: str = ""
    kind: str = "table"
    csv: str = ""

    @property
    def content(self) -> object:
        return self.rows

    def decimals(self, key: str) -> int:
        """How many decimals a column shows: as many as its numbers have, at most four, and fewer for large numbers.

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
    """A figure of lib/report/charts.py, or None where there is nothing to draw. `csv` as in `Table`."""

    title: str
    figure: Figure | None
    note: str = ""
    kind: str = "chart"
    csv: str = ""

    @property
    def content(self) -> object:
        return self.figure

    @property
    def rows(self) -> Sequence[dict]:
        return self.figure.rows if self.figure else []


@dataclass(frozen=True)
class GalleryLine:
    """One line of a gallery: pictures side by side. `small`: it belongs to the line before."""

    title: str
    pictures: Sequence[Picture]
    small: bool = False


@dataclass(frozen=True)
class Gallery:
    title: str
    items: Sequence[GalleryLine]
    note: str = ""
    kind: str = "gallery"

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers that its pictures have, all the same classes; none where classes do not overlap."""
        return next((picture.layers for item in self.items for picture in item.pictures if picture.layers), ())

    @property
    def content(self) -> object:
        return self.items


@dataclass(frozen=True)
class ReportSection:
    """A section of the report.

    `numbers`: a few (name, value) to read first. `note`: a sentence or two under the title. `made_by`: a pattern of the
    manifests of the stages that made it. `stale`: why it is outdated, which the page fills in.
    """

    anchor: str
    title: str
    blocks: Sequence[Table | Chart | Gallery | None]
    numbers: Sequence[tuple[str, object]] = ()
    note: str = ""
    made_by: str = ""
    stale: str = ""

    @property
    def shown(self) -> list[Table | Chart | Gallery]:
        """The blocks that have content."""
        return [block for block in self.blocks if block is not None and block.content]


def stage_facts(workspace: Workspace, name: str) -> dict:
    """What a stage wrote to report/<name>.json; empty where it has not run."""
    return read_json(workspace.report / f"{name}.json", {})


def picture(workspace: Workspace, path: Path, words: str, caption: str = "") -> Picture | None:
    """A picture in the report's folder, if the file exists."""
    return Picture(path.relative_to(workspace.report).as_posix(), words, caption) if path.is_file() else None


def copied_picture(workspace: Workspace, path: Path, folder: str, words: str) -> Picture | None:
    """A picture copied from a stage's folder into report/<folder>, so that the report can be moved as a whole."""
    if not path.is_file():
        return None
    target = workspace.report / folder / path.name
    if not target.is_file() or target.stat().st_mtime_ns < path.stat().st_mtime_ns:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return picture(workspace, target, words)
