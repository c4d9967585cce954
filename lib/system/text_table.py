"""Plain-text tables."""

from __future__ import annotations


def text_table(rows: list[dict]) -> str:
    """Rows of equal keys as aligned columns; numbers to four digits.

    >>> print(text_table([{"a": 1, "b": 0.51234}, {"a": 10, "b": None}]))
    a   b
    1   0.5123
    10  -
    """
    if not rows:
        return "(nothing)"
    head = list(rows[0])
    body = [[_cell(row.get(key)) for key in head] for row in rows]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in [head, *body]]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if value is None or value != value:
        return "-"
    return (
        f"{value:.4f}"
        if isinstance(value, float) and abs(value) < 10
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )
