"""The ledger as text, and whether out-of-fold scores still predict the leaderboard."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from lib.competition.dataset import Competition
from lib.config import Config
from lib.config.load import workspace_of
from lib.errors import UserError
from lib.plugins import load_plugins
from lib.submissions import ledger
from lib.submissions.kaggle import refresh
from lib.submissions.select import WITHIN, ChosenSubmission, choose
from lib.system.text_table import text_table
from lib.workspace import Workspace

MIN_SUBMISSIONS = 4  # with both scores, before their ranks say anything
MIN_RANK_CORRELATION = 0.5  # below it, out-of-fold scores no longer predict the leaderboard


def print_ledger(config: Config, *scored: str) -> None:
    """Print all submissions and their scores, after asking Kaggle for new ones. `scored`: a file, its public and its
    private score, which are noted first. Raises UserError when a score is not a number."""
    if len(scored) == 1:
        raise UserError("expected python -m lib ledger CONFIG, or with CSV PUBLIC [PRIVATE] after it")
    workspace = Workspace(workspace_of(config))
    if scored:
        file, *texts = scored
        values = {name: number(text, name.upper()) for name, text in zip(("public", "private"), texts, strict=False)}
        ledger.update_row(workspace, ledger.name_of(workspace, Path(file)), **values)
    refresh(workspace, config.competition.kaggle)
    print(ledger_text(ledger.read_ledger(workspace)))


def print_choice(config: Config, count: str = "2", within: str = str(WITHIN)) -> None:
    """Print `count` submissions for the private leaderboard, see `choose`."""
    load_plugins(config.plugins)
    n, margin = number(count, "N"), number(within, "WITHIN")
    if not (n >= 1 and n % 1 == 0 and margin >= 0):
        raise UserError(f"expected python -m lib select CONFIG [N [WITHIN]], as in 2 0.01; found {count} {within}")
    print(choice_text(choose(Competition(config.competition), Workspace(workspace_of(config)), int(n), margin)))


def number(text: str, name: str) -> float:
    """Raises UserError when a text is not a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{name}: expected a number, found {text!r}")
    return value


def ledger_text(table: pd.DataFrame) -> str:
    """The ledger (lib.tables.LEDGER) as text, and a line for each board that has scores."""
    rows = [
        {
            "time": row.time, "file": row.file, "members": len(row.members.split("; ")) if row.members else 0,
            **{name: None if pd.isna(value := getattr(row, name)) else float(value)
               for name in ("oof", "cross", "public", "private")},
            "message": row.message,
        }
        for row in table.itertuples()
    ]  # fmt: skip
    lines = [oof_and_board(table, board) for board in ("public", "private") if table[board].notna().any()]
    return "\n".join([text_table(rows), *lines])


def choice_text(choices: list[ChosenSubmission]) -> str:
    """The chosen submissions as text."""
    rows = [{"file": c.file, "public, known or expected": c.strength, "differs": c.differs} for c in choices]
    return text_table(rows)


def oof_and_board(table: pd.DataFrame, board: str = "public") -> str:
    """Compares cross-fitted out-of-fold scores with a board's: mean difference and Spearman's rank correlation."""
    both = table[["cross", board]].dropna().astype(float)
    text = f"out-of-fold against {board} leaderboard, submissions with both scores: {len(both)}"
    if len(both):
        gap = both[board] - both["cross"]
        text += f"; the leaderboard says {gap.mean():+.4f} on average ({gap.min():+.4f} to {gap.max():+.4f})"
    if len(both) < MIN_SUBMISSIONS:
        return text + f"; from {MIN_SUBMISSIONS} on, their ranks can be compared"
    rank = both["cross"].rank().corr(both[board].rank())  # NaN where one side is all ties
    text += f"; rank correlation {rank:.2f}"
    if not rank >= MIN_RANK_CORRELATION:
        text += (
            "\nWARNING: they part. What gains out-of-fold does not gain there: look for leaks between folds, for test "
            "images unlike the training images, and for choices fitted on few images"
        )
    return text
