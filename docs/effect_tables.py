"""Tables of docs/results/data/techniques.csv: of one technique, of all in full, and the techniques in their order.

A row is a difference that was measured: the score with the technique less the score without it, or, where `unit` is
not empty, another quantity. `error` is the standard error of `pairs` paired differences; `low` and `high` are the ends
of a 95 % interval.
"""

from __future__ import annotations

Row = dict[str, str]
VERDICTS = ("clear gain", "one run", "not clear", "clear loss")


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
        return "one run"
    return ("clear gain" if change > 0 else "clear loss") if clear else "not clear"


def change(row: Row) -> str:
    """The figure with its sign and a leading zero, or with its unit."""
    return f"{row['change']} {row['unit']}" if row["unit"] else f"{float(row['change']):+.{decimals(row['change'])}f}"


def decimals(text: str) -> int:
    return len(text.partition(".")[2])


def of_technique(name: str, rows: list[Row], settings: dict[str, Row]) -> list[Row]:
    """What its page shows: one number in a cell, no error."""
    own = [row for row in rows if row["technique"] == name]
    if not own:
        raise ValueError(f"techniques.csv has no row of {name}")
    link = "../results/techniques.md#settings"
    return [
        {
            "variant": row["variant"], "measured on": f"[{settings[row['setting']]['name']}]({link})",
            "change": change(row), "verdict": "" if row["unit"] else verdict(row), "cost": row["cost"],
        }
        for row in own
    ]  # fmt: skip


def in_full(rows: list[Row], settings: dict[str, Row], titles: dict[str, str]) -> list[Row]:
    """All rows with their errors and intervals."""
    return [
        {
            "technique": f"[{titles[row['technique']]}](../techniques/{row['technique']}.md)",
            "variant": row["variant"], "setting": settings[row["setting"]]["name"],
            "change": change(row) + (f" ± {row['error']}" if row["error"] else ""),
            "95 % interval": f"{float(row['low']):+g} to {float(row['high']):+g}" if row["low"] else "",
            "pairs": row["pairs"], "verdict": "" if row["unit"] else verdict(row), "cost": row["cost"],
        }
        for row in sorted(rows, key=lambda row: list(titles).index(row["technique"]))
    ]  # fmt: skip


def ranking(rows: list[Row], settings: dict[str, Row], titles: dict[str, str]) -> list[Row]:
    """All techniques by their best verdict, then by the largest change of that verdict; not measured ones last."""
    ranked = []
    for name, title in titles.items():
        own = [row for row in rows if row["technique"] == name]
        scores = [row for row in own if not row["unit"]]
        best = min(scores, key=lambda row: (VERDICTS.index(verdict(row)), -float(row["change"])), default=None)
        shown = best or (own[0] if own else None)
        said = verdict(best) if best else "another unit" if own else "not measured"
        also = "clear loss" in map(verdict, scores) and said != "clear loss"
        place = [*VERDICTS, "another unit", "not measured"].index(said), -float(best["change"]) if best else 0
        ranked.append((place, {
            "technique": f"[{title}]({name}.md)", "change": change(shown) if shown else "", "verdict": said,
            "measured on": settings[shown["setting"]]["name"] if shown else "",
            "elsewhere": "a clear loss" if also else "",
        }))  # fmt: skip
    return [row for _, row in sorted(ranked, key=lambda one: one[0])]
