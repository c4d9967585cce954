"""The ledger as text, and whether out-of-fold scores still tell what the leaderboard says."""

from __future__ import annotations

import pandas as pd

from lib.submissions.select import Choice
from lib.system.text_table import text_table

FEWEST = 4  # submissions with both scores, before their ranks say anything
PARTED = 0.5  # rank correlation below which out-of-fold scores no longer tell what the leaderboard will say


def ledger_text(table: pd.DataFrame) -> str:
    """The ledger (LEDGER) as text, and a line on each board that has scores."""
    rows = [
        {
            "time": row.time, "file": row.file, "members": len(row.members.split("; ")) if row.members else 0,
            **{name: None if pd.isna(value := getattr(row, name)) else float(value)
               for name in ("oof", "cross", "public", "private")},
            "message": row.message,
        }
        for row in table.itertuples()
    ]  # fmt: skip
    lines = [agreement(table, board) for board in ("public", "private") if table[board].notna().any()]
    return "\n".join([text_table(rows), *lines])


def choice_text(choices: list[Choice]) -> str:
    """The chosen submissions as text."""
    rows = [{"file": c.file, "public, known or expected": c.strength, "differs": c.differs} for c in choices]
    return text_table(rows)


def agreement(table: pd.DataFrame, board: str = "public") -> str:
    """Out-of-fold (crossed) scores against a board's: Spearman's rank correlation, and a warning when they part."""
    both = table[["cross", board]].dropna().astype(float)
    said = f"out-of-fold against {board} leaderboard, submissions with both scores: {len(both)}"
    if len(both):
        gap = both[board] - both["cross"]
        said += f"; the leaderboard says {gap.mean():+.4f} on average ({gap.min():+.4f} to {gap.max():+.4f})"
    if len(both) < FEWEST:
        return said + f"; from {FEWEST} on, their ranks can be compared"
    rank = both["cross"].rank().corr(both[board].rank())  # NaN where one side is all ties
    said += f"; rank correlation {rank:.2f}"
    if not rank >= PARTED:
        said += (
            "\nWARNING: they part. What gains out-of-fold does not gain there: look for leaks between folds, for test "
            "images unlike the training images, and for choices fitted on few images"
        )
    return said
