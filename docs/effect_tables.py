"""Tables of docs/results/data/techniques.csv: of one technique, of all in full, and the techniques in their order.

A row is a difference that was measured: the score with the technique less the score without it, or, where `unit` is
not empty, another quantity. `error` is the standard error of `pairs` paired differences; `low` and `high` are the ends
of a 95 % interval.
"""

from __future__ import annotations

Row = dict[str, str]


def verdict(row: Row) -> str:
    """Clear is what is more than two standard errors from zero, of three pairs or more, or whose interval excludes it.

    >>> verdict({"change": "0.02", "error": "0.01", "low": "", "high": "", "pairs": "3"})
    'not clear'
    >>> verdict({"change": "-0.02", "error": "", "low": "-0.03", "high": "-0.01", "pairs": ""})
    'clear loss'
    """
    change = float(row["change"])
    if row["low"]:
        clear = float(row["low"]) > 0 or float(row["high"]) < 0
    elif row["error"]:
        clear = int(row["pairs"]) >= 3 and abs(change) > 2 * float(row["error"])
    else:
        return "error unknown"
    return ("clear gain" if change > 0 else "clear loss") if clear else "not clear"


def rank(row: Row) -> tuple[int, float]:
    """Where a row stands: clear gains first, clear losses last, and the largest change first among equals."""
    order = ["clear gain", "error unknown", "not clear", "error unknown, a loss", "clear loss"]
    found, figure = verdict(row), float(row["change"])
    return order.index(found + ", a loss" * (found == "error unknown" and figure < 0)), -figure


def change(row: Row) -> str:
    """The figure with its sign and a leading zero, or with its unit."""
    return f"{row['change']} {row['unit']}" if row["unit"] else shown(row["change"], "+")


def shown(text: str, sign: str = "-") -> str:
    """A figure with at most four decimals, which is what a log of trials is told with.

    >>> shown("0.023243", "+"), shown("-0.004"), shown("0.50")
    ('+0.0232', '-0.004', '0.50')
    """
    return f"{float(text):{sign}.{min(4, len(text.partition('.')[2]))}f}"


def of_technique(name: str, rows: list[Row], settings: dict[str, Row]) -> list[Row]:
    """What its page shows: one number in a cell, no error."""
    own = [row for row in rows if row["technique"] == name]
    if not own:
        raise ValueError(f"techniques.csv has no row of {name}")
    link, costly = "../results/techniques.md#settings", any(row["cost"] for row in own)
    return [
        {
            "variant": row["variant"], "measured on": f"[{settings[row['setting']]['name']}]({link})",
            "change": change(row), "verdict": "" if row["unit"] else verdict(row),
            **({"cost": row["cost"]} if costly else {}),
        }
        for row in own
    ]  # fmt: skip


def in_full(rows: list[Row], settings: dict[str, Row], titles: dict[str, str]) -> list[Row]:
    """All rows with their errors and intervals."""
    return [
        {
            "technique": f"[{titles[row['technique']]}](../techniques/{row['technique']}.md)",
            "variant": row["variant"], "setting": settings[row["setting"]]["name"],
            "change": change(row) + (f" ± {shown(row['error'])}" if row["error"] else ""),
            "95 % interval": f"{shown(row['low'], '+')} to {shown(row['high'], '+')}" if row["low"] else "",
            "pairs": row["pairs"], "verdict": "" if row["unit"] else verdict(row), "cost": row["cost"],
        }
        for row in sorted(rows, key=lambda row: list(titles).index(row["technique"]))
    ]  # fmt: skip


def ranking(rows: list[Row], settings: dict[str, Row], titles: dict[str, str]) -> list[Row]:
    """All techniques, each by its best row (see `rank`); those in other units and those not measured come last."""
    ranked = []
    for name, title in titles.items():
        own = [row for row in rows if row["technique"] == name]
        scores = sorted([row for row in own if not row["unit"]], key=rank)
        best = next(iter(scores or own), None)
        said = verdict(best) if scores else "another unit" if own else "not measured"
        also = said != "clear loss" and "clear loss" in map(verdict, scores)
        line = {
            "technique": f"[{title}]({name}.md)", "change": change(best) if best else "", "verdict": said,
            "measured on": settings[best["setting"]]["name"] if best else "",
            "elsewhere": "a clear loss" if also else "",
        }  # fmt: skip
        ranked.append((rank(best) if scores else (8 if own else 9, 0), line))
    return [line for _, line in sorted(ranked, key=lambda one: one[0])]
