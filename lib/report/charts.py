"""Charts as figures of plotly.js, and the same values as rows for a CSV.

A figure is plain JSON: https://plotly.com/javascript/reference. The page's script draws it in the browser with the
colours of the page's style. The library is taken out of the installed package `plotly`, and lies beside the page.
"""

from __future__ import annotations

import html
import json
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from markupsafe import Markup

from lib.errors import UserError
from lib.files import replacing

LIBRARY = "plotly.min.js"
CHART_HEIGHT = 320  # pixels, without the legend
LEGEND_LINE, LEGEND_NAMES = 20, 3  # pixels of a line of the legend, and names that it holds
BAR_STEP, CELL_STEP, TITLE_ROOM = 26, 36, 60  # pixels of a bar, a cell of a matrix, and the names beside them
MAX_LINE_POINTS = 240  # points of a line, at most; the CSV has them all
MAX_TICKS = 9  # of a histogram
LONGEST_NAME = 22  # letters of a bar's name


@dataclass(frozen=True)
class Line:
    """A named line through points (x, y); `dots` draws a dot at each of them."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


@dataclass(frozen=True)
class Figure:
    """A chart: `traces` and `layout` as plotly.js takes them. `rows`: all that is drawn, with the same keys."""

    traces: Sequence[dict]
    layout: dict
    rows: Sequence[dict]

    @property
    def json(self) -> Markup:
        """For a <script> element: no text in it can end the element."""
        text = json.dumps({"data": self.traces, "layout": self.layout}, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("<", "\\u003c"))


def put_library(folder: Path) -> None:
    """Copy plotly.js from the installed package to `folder`, unless this version lies there already.

    Raises UserError where the package is not installed.
    """
    package = find_spec("plotly")  # found, not imported, which would take a second
    if package is None:
        raise UserError(f"the report's charts need {LIBRARY}, which is in a package; pip install plotly")
    source, target = Path(package.origin).parent / "package_data" / LIBRARY, folder / LIBRARY
    if not target.is_file() or target.stat().st_size != source.stat().st_size:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)


def line_chart(
    lines: Iterable[Line], x_name: str, y_name: str, marks: Iterable[tuple[float, str]] = (), diagonal: bool = False
) -> Figure | None:
    """Lines with a legend; None where no line has a point.

    `marks`: (x, text) of dashed vertical lines. `diagonal` draws y = x.
    """
    lines = [Line(line.name, _finite(line.points), line.dots) for line in lines]
    points = [point for line in lines for point in line.points]
    if not points:
        return None
    traces = [_line_trace(line) for line in lines]  # empty ones too: a line has the same colour in all charts
    layout = _layout(x_name, y_name, [line.name for line in lines])
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    ends = [{"x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper"} for at, _ in marks]
    ends += [{"x0": low, "x1": high, "y0": low, "y1": high}] if diagonal else []
    layout["shapes"] = [{"type": "line", "line": {"dash": "dash", "width": 1}, **place} for place in ends]
    layout["annotations"] = [
        {
            "x": at,
            "y": 0,
            "yref": "paper",
            "yanchor": "bottom",
            "xanchor": "left",
            "text": _text(text),
            "showarrow": False,
        }
        for at, text in marks
    ]
    if all(x == round(x) for x, _ in points) and high - low < MAX_TICKS:
        layout["xaxis"]["dtick"] = 1  # no half rounds
    layout["yaxis"] |= _flat_range([y for _, y in points])
    rows = [{"line": line.name, x_name: x, y_name: y} for line in lines for x, y in line.points]
    return Figure(traces, layout, rows)


def scatter(points: Iterable[tuple[float, float, str]], x_name: str, y_name: str, named: bool = True) -> Figure | None:
    """Points (x, y, name), None where there is none. `named`: each has its own colour, and its name in the legend."""
    points = [point for point in points if _known(point[0]) and _known(point[1])]
    if not points:
        return None
    parts = [[point] for point in points] if named else [points]
    traces = [
        {
            "type": "scatter", "mode": "markers", "name": _text(part[0][2]) if named else "", "marker": {"size": 9},
            "x": [_short(x) for x, _, _ in part], "y": [_short(y) for _, y, _ in part],
            "text": [_text(name) for *_, name in part], "hovertemplate": "%{text}<br>%{x}, %{y}<extra></extra>",
        }
        for part in parts
    ]  # fmt: skip
    rows = [{"name": name, x_name: x, y_name: y} for x, y, name in points]
    return Figure(traces, _layout(x_name, y_name, [part[0][2] for part in parts] if named else []), rows)


def histogram(edges: Sequence[float], series: dict[str, Sequence[float]], x_name: str, y_name: str) -> Figure | None:
    """Counts between neighbouring `edges` (n + 1, unevenly spaced), with the series side by side."""
    if not series:
        return None
    ranges = [f"{_number(low)} to {_number(high)}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    traces = [
        {
            "type": "bar", "name": _text(name), "x": list(range(len(ranges))), "y": list(counts), "text": ranges,
            "textposition": "none", "hovertemplate": "%{text}: %{y}",
        }
        for name, counts in series.items()
    ]  # fmt: skip
    layout = _layout(x_name, y_name, list(series))
    shown = range(0, len(edges), -(-len(edges) // MAX_TICKS))
    ticks = {"tickvals": [i - 0.5 for i in shown], "ticktext": [_number(edges[i]) for i in shown]}
    layout["xaxis"] |= ticks
    layout |= {"bargap": 0.08, "barmode": "group"}
    rows = [{x_name: shown, **{name: counts[i] for name, counts in series.items()}} for i, shown in enumerate(ranges)]
    return Figure(traces, layout, rows)


def bars(rows: Sequence[tuple[str, float]], unit: str = "") -> Figure | None:
    """A horizontal bar for each (name, value), the first on top; values are written behind the bars."""
    rows = [(name, value) for name, value in rows if _known(value)]
    if not rows:
        return None
    names, places = [name for name, _ in rows], list(range(len(rows)))
    trace = {
        "type": "bar", "orientation": "h", "y": places, "x": [_short(value) for _, value in rows], "cliponaxis": False,
        "text": [f"{_number(value)} {unit}".strip() for _, value in rows], "textposition": "outside",
        "hovertext": [_text(name) for name in names], "hoverinfo": "text+x",
    }  # fmt: skip
    layout = _layout(unit, "", []) | {"height": len(rows) * BAR_STEP + TITLE_ROOM, "bargap": 0.3}
    layout["yaxis"] |= {
        "tickvals": places,
        "ticktext": [_text(_shortened(name)) for name in names],
        "autorange": "reversed",
    }
    return Figure([trace], layout, [{"name": name, unit or "value": value} for name, value in rows])


def matrix(
    names: Sequence[str], columns: Sequence[str], shares: Sequence[Sequence[float | None]], corner: str = ""
) -> Figure:
    """Cells tinted by their value, 0 to 1 (or -1 to 1). `shares`: the rows; `corner`: what rows and columns are."""
    cells = [[_short(value) if _known(value) else None for value in row] for row in shares]
    trace = {
        "type": "heatmap", "x": [_text(name) for name in columns], "y": [_text(name) for name in names], "z": cells,
        "zmin": 0, "zmax": 1, "xgap": 2, "ygap": 2, "showscale": False, "hoverongaps": False,
        "texttemplate": "%{z:.2f}", "hovertemplate": "%{y}, %{x}: %{z}<extra></extra>",
    }  # fmt: skip
    layout = _layout(corner, "", []) | {"height": len(names) * CELL_STEP + TITLE_ROOM + 20}
    layout["xaxis"] |= {"type": "category", "side": "top", "showgrid": False}
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
    rows = [
        {corner or "name": name, **dict(zip(columns, row, strict=True))}
        for name, row in zip(names, shares, strict=True)
    ]
    return Figure([trace], layout, rows)


def thinned(points: Sequence[tuple[float, float]], most: int = MAX_LINE_POINTS) -> Sequence[tuple[float, float]]:
    """At most `most` of the points, evenly taken, with the first and the last.

    >>> thinned([(i, i) for i in range(9)], 3)
    [(0, 0), (4, 4), (8, 8)]
    """
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def _line_trace(line: Line) -> dict:
    points = thinned(line.points)
    return {
        "type": "scatter", "mode": "lines+markers" if line.dots or len(points) == 1 else "lines",
        "name": _text(line.name), "x": [_short(x) for x, _ in points], "y": [_short(y) for _, y in points],
        "showlegend": bool(points),
    }  # fmt: skip


def _layout(x_name: str, y_name: str, legend: Sequence[str]) -> dict:
    lines = -(-len(legend) // LEGEND_NAMES) if len(legend) > 1 else 0
    return {
        "xaxis": {"title": {"text": _text(x_name)}}, "yaxis": {"title": {"text": _text(y_name)}},
        "height": CHART_HEIGHT + lines * LEGEND_LINE, "showlegend": lines > 0,
    }  # fmt: skip


def _flat_range(values: Sequence[float]) -> dict:
    """The axis of values that hardly differ, which would be drawn as noise, or as 0.

    >>> _flat_range([0.5, 0.5]), _flat_range([0, 1])
    ({'range': [0.45, 0.55]}, {})
    """
    low, high = min(values), max(values)
    room = (abs(high) or 1) * 0.1
    return {"range": [_short(low - room), _short(high + room)]} if high - low < room / 10 else {}


def _text(name: str) -> str:
    """A name that plotly.js shows as it is; it reads some HTML."""
    return html.escape(str(name), quote=False)


def _shortened(name: str) -> str:
    return name if len(name) < LONGEST_NAME else f"{name[:8]}…{name[-12:]}"


def _short(value: float) -> float:
    """Six digits, which is more than a chart shows.

    >>> _short(0.123456789), _short(7)
    (0.123457, 7)
    """
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _finite(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if _known(x) and _known(y)]


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _number(value: float) -> str:
    """Short digits.

    >>> [_number(v) for v in (0.000012, 0.0005, 0.25, 12.5, 1500, 2_500_000)]
    ['1.2e-05', '0.0005', '0.25', '12.5', '1,500', '2.5M']
    """
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1000:
        return f"{value:,.0f}"
    if 0 < size < 1e-4:
        return f"{value:.1e}"
    return f"{value:.3g}"
