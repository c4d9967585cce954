"""Charts as inline SVG: lines, bars, points and matrices. Colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

CHART_WIDTH, CHART_HEIGHT = 640, 300  # of a chart, in SVG units
LEFT, RIGHT, TOP, BOTTOM = 78, 14, 12, 42
CHART_COLOURS = 8  # classes c0 … c7 of the page's style
MAX_LINE_POINTS = 240  # points of a line, at most


@dataclass(frozen=True)
class Line:
    """A named line through points (x, y); `dots` draws a dot at each of them."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


@dataclass(frozen=True)
class ChartAxis:
    """Maps values between `low` and `high` to positions between `start` and `stop`, by their logarithm with `log`.

    `whole`: all values are whole numbers, so ticks are, too.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False
    whole: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(max(v, 1e-12)) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / ((high - low) or 1) * (self.stop - self.start), 1)

    def ticks(self) -> list[float]:
        if not self.log:
            return [tick for tick in nice_ticks(self.low, self.high) if not self.whole or tick == round(tick)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        return [10.0**p for p in powers if self.low <= 10.0**p <= self.high] or [self.low, self.high]

    def text(self, tick: float) -> str:
        """A tick's label, with as many decimals as neighbouring ticks need to differ.

        >>> [ChartAxis(0.716, 0.7175, 0, 1).text(t) for t in (0.716, 0.7165)], ChartAxis(0, 4000, 0, 1).text(2000)
        (['0.7160', '0.7165'], '2,000')
        """
        ticks = self.ticks()
        if self.log or len(ticks) < 2 or abs(tick) >= 1e6:
            return _number(tick)
        decimals = max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-9))
        return f"{tick:,.{decimals}f}" if tick else "0"


def line_chart(
    lines: Iterable[Line], x_name: str, y_name: str, marks: Iterable[tuple[float, str]] = (), diagonal: bool = False
) -> Markup:
    """Lines with a legend. `marks`: (x, text) of dashed vertical lines. `diagonal` draws one from corner to corner."""
    # A line has the same colour in all charts, even where another line has no points.
    numbered = [(i, Line(line.name, thinned(_finite(line.points)), line.dots)) for i, line in enumerate(lines)]
    numbered = [(i, line) for i, line in numbered if line.points]
    if not numbered:
        return Markup("")
    xs, ys = zip(*(point for _, line in numbered for point in line.points), strict=True)
    x, y = _axes(xs, ys)
    parts = [_frame(x, y, x_name, y_name)]
    if diagonal:
        parts.append(f'<path class="aid" d="M{x(x.low)} {y(x.low)}L{x(x.high)} {y(x.high)}"/>')
    for at, text in marks:
        parts.append(f'<path class="aid" d="M{x(at)} {TOP}V{CHART_HEIGHT - BOTTOM}"/>')
        shift, anchor = (-5, "end") if x(at) > CHART_WIDTH * 0.7 else (5, "start")
        place = f'x="{x(at) + shift}" y="{CHART_HEIGHT - BOTTOM - 8}" text-anchor="{anchor}"'
        parts.append(f'<text class="mark" {place}>{escape(text)}</text>')
    for i, line in numbered:
        path = "".join(f"{'ML'[k > 0]}{x(px)} {y(py)}" for k, (px, py) in enumerate(line.points))
        parts.append(f'<path class="line c{i % CHART_COLOURS}" d="{path}"><title>{escape(line.name)}</title></path>')
        if line.dots or len(line.points) == 1:
            parts += [_dot(x(px), y(py), i, f"{line.name}: {_number(px)}, {_number(py)}") for px, py in line.points]
    return _svg(parts, f"{y_name} by {x_name}") + _legend({i: line.name for i, line in numbered})


def scatter(points: Iterable[tuple[float, float, str]], x_name: str, y_name: str, named: bool = True) -> Markup:
    """Points (x, y, name); `named` writes the names beside them where there is room, from the last to the first."""
    points = [point for point in points if _known(point[0]) and _known(point[1])]
    if not points:
        return Markup("")
    x, y = _axes([p[0] for p in points], [p[1] for p in points], 0.08)
    parts, written = [_frame(x, y, x_name, y_name)], []
    for i, (px, py, name) in reversed(list(enumerate(points))):
        parts.append(_dot(x(px), y(py), i if named else 0, f"{name}: {_number(px)}, {_number(py)}", 5))
        if named and all(abs(y(py) - other) > 13 for other in written):
            written.append(y(py))
            right = x(px) < CHART_WIDTH * 0.62
            place = x(px) + (9 if right else -9)
            anchor = "start" if right else "end"
            parts.append(f'<text x="{place}" y="{y(py) + 4}" text-anchor="{anchor}">{escape(name)}</text>')
    return _svg(parts, f"{y_name} by {x_name}")


def histogram(edges: Sequence[float], series: dict[str, Sequence[float]], x_name: str, y_name: str) -> Markup:
    """Counts between neighbouring `edges` (n + 1, on a logarithmic axis), with the series side by side."""
    if not series:
        return Markup("")
    x = ChartAxis(edges[0], edges[-1], LEFT, CHART_WIDTH - RIGHT, log=True)
    y = ChartAxis(0, max(1, *(max(counts) for counts in series.values())), CHART_HEIGHT - BOTTOM, TOP)
    parts = [_frame(x, y, x_name, y_name)]
    for i, (name, counts) in enumerate(series.items()):
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
            width = (x(high) - x(low) - 1.5) / len(series)
            words = f"{name}: {_number(count)} of {_number(low)} to {_number(high)}"
            parts.append(_bar(x(low) + i * width, y(count), width, y(0) - y(count), i, words))
    return _svg(parts, f"{y_name} by {x_name}") + _legend(dict(enumerate(series)))


def bars(rows: Sequence[tuple[str, float]], unit: str = "") -> Markup:
    """A horizontal bar for each (name, value); values start at 0 and are written behind the bars."""
    rows = [(name, value) for name, value in rows if _known(value)]
    if not rows:
        return Markup("")
    wide, step = 230, 24
    x = ChartAxis(0, max(value for _, value in rows) or 1, wide, CHART_WIDTH - 74)
    parts = []
    for i, (name, value) in enumerate(rows):
        top = i * step + 4
        short = name if len(name) < 22 else name[:8] + "…" + name[-12:]
        parts.append(f'<text x="{wide - 8}" y="{top + 13}" text-anchor="end">{escape(short)}</text>')
        parts.append(_bar(wide, top, max(1.5, x(value) - wide), step - 7, 0, f"{name}: {_number(value)} {unit}"))
        parts.append(f'<text class="value" x="{x(value) + 6}" y="{top + 13}">{_number(value)} {escape(unit)}</text>')
    return _svg(parts, unit, len(rows) * step + 8)


def matrix(names: Sequence[str], columns: Sequence[str], shares: Sequence[Sequence[float]], corner: str = "") -> Markup:
    """A table whose cells are tinted by their value, 0 to 1 (or -1 to 1); `shares` are its rows."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = ""
    for name, row in zip(names, shares, strict=True):
        cells = "".join(
            f'<td style="--tint:{max(0.0, v):.2f}">{v:.2f}</td>' if _known(v) else "<td>–</td>" for v in row
        )
        body += f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'
    table = (
        f'<table class="matrix"><thead><tr><td>{escape(corner)}</td>{head}</tr></thead><tbody>{body}</tbody></table>'
    )
    return Markup(f'<div class="wide">{table}</div>')


def nice_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers from `low` to `high`.

    >>> nice_ticks(0, 1), nice_ticks(0.13, 0.62)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.2, 0.3, 0.4, 0.5, 0.6])
    """
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def thinned(points: Sequence[tuple[float, float]], most: int = MAX_LINE_POINTS) -> Sequence[tuple[float, float]]:
    """At most `most` of the points, evenly taken, with the first and the last.

    >>> thinned([(i, i) for i in range(9)], 3)
    [(0, 0), (4, 4), (8, 8)]
    """
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def _axes(xs: Sequence[float], ys: Sequence[float], room: float = 0.03) -> tuple[ChartAxis, ChartAxis]:
    (x0, x1), (y0, y1) = (_range(values, room) for values in (xs, ys))
    whole = all(value == round(value) for value in xs)
    return ChartAxis(x0, x1, LEFT, CHART_WIDTH - RIGHT, whole=whole), ChartAxis(y0, y1, CHART_HEIGHT - BOTTOM, TOP)


def _range(values: Sequence[float], room: float) -> tuple[float, float]:
    """The range of an axis: a little wider than the values, and clearly wider where they hardly differ."""
    low, high = min(values), max(values)
    spread = (0.02 * abs(high) - (high - low)) / 2
    if high > low and spread > 0:
        low, high = low - spread, high + spread
    more = (high - low) * room or abs(high) * 0.1 or 1.0
    return (0.0 if 0 <= low <= (high - low) * 0.25 else low - more), high + more


def _frame(x: ChartAxis, y: ChartAxis, x_name: str, y_name: str) -> str:
    bottom, parts = CHART_HEIGHT - BOTTOM, []
    for tick in y.ticks():
        parts.append(f'<path class="grid" d="M{LEFT} {y(tick)}H{CHART_WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y(tick) + 4}" text-anchor="end">{y.text(tick)}</text>')
    for tick in x.ticks():
        parts.append(f'<text x="{x(tick)}" y="{bottom + 17}" text-anchor="middle">{x.text(tick)}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{CHART_WIDTH - RIGHT}"/>')
    place = f'x="{(LEFT + CHART_WIDTH - RIGHT) / 2}" y="{CHART_HEIGHT - 6}"'
    parts.append(f'<text class="name" {place} text-anchor="middle">{escape(x_name)}</text>')
    parts.append(f'<text class="name y" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">'
                 f"{escape(y_name)}</text>")  # fmt: skip
    return "".join(parts)


def _dot(x: float, y: float, colour: int, words: str, radius: float = 3) -> str:
    colour %= CHART_COLOURS
    return f'<circle class="dot c{colour}" cx="{x}" cy="{y}" r="{radius}"><title>{escape(words)}</title></circle>'


def _bar(x: float, y: float, width: float, height: float, colour: int, words: str) -> str:
    box = f'x="{x:.1f}" y="{y:.1f}" width="{max(0.5, width):.1f}" height="{max(0.0, height):.1f}"'
    return f'<rect class="bar c{colour % CHART_COLOURS}" {box} rx="2"><title>{escape(words)}</title></rect>'


def _svg(parts: Iterable[str], words: str, height: float = CHART_HEIGHT) -> Markup:
    inside = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {CHART_WIDTH} {height}" role="img" aria-label="{escape(words)}">{inside}</svg>')


def _legend(names: dict[int, str]) -> Markup:
    """Names by the number of their colour; nothing for a single one."""
    items = "".join(f'<li class="c{i % CHART_COLOURS}">{escape(name)}</li>' for i, name in names.items())
    return Markup(f'<ul class="legend">{items}</ul>' if len(names) > 1 else "")


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
