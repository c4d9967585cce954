"""The submissions, and how their out-of-fold scores compare with the leaderboard."""

from __future__ import annotations

from lib import tables
from lib.config import Config
from lib.report.charts import scatter
from lib.report.sections.blocks import Chart, ReportSection, Table
from lib.workspace import Workspace, read_json


def section(workspace: Workspace, config: Config) -> ReportSection | None:
    ledger = workspace.submissions / "ledger.csv"
    if not ledger.is_file():
        rows = [_written(path.stem, read_json(path, {})) for path in sorted(workspace.submissions.glob("*.json"))]
        return ReportSection("submissions", "Submissions", [Table("Written", rows[::-1])]) if rows else None
    table = tables.typed(ledger, tables.LEDGER)  # older ledgers lack columns
    table = table.astype(dict.fromkeys(table.select_dtypes("Float64"), float))
    listed = [_listed(row) for row in table.iloc[::-1].to_dict("records")]  # the newest first
    blocks, numbers = [Table("Ledger", listed)], [("submissions", len(table))]
    for board in ("public", "private"):
        known = table.dropna(subset=["oof", board]) if board in table else table.iloc[:0]
        if len(known):
            points = list(zip(known["oof"], known[board], known["file"].fillna(""), strict=True))
            drawing = scatter(points, "out-of-fold", f"{board} leaderboard", named=len(points) <= 12)
            blocks.append(Chart(f"Out-of-fold against the {board} leaderboard", drawing))
        if len(known) > 2:
            numbers.append((f"rank correlation, {board}", float(known["oof"].rank().corr(known[board].rank()))))
    return ReportSection("submissions", "Submissions", blocks, numbers)


def _listed(row: dict) -> dict:
    """A row of the ledger, with the most important columns first."""
    members = row["members"] if isinstance(row["members"], str) else ""
    return {
        **{name: row.get(name) for name in ("file", "oof", "cross", "public", "private")},
        "members": len(members.split("; ")) if members else 0,
        **{name: row.get(name) for name in ("seconds", "message", "time", "config", "version")},
    }  # fmt: skip


def _written(name: str, about: dict) -> dict:
    return {
        "file": name, "members": len(about.get("members", [])), "OOF score": about.get("oof_score"),
        "fitted on other groups": about.get("oof_score_crossed"), "TTA": about.get("tta"),
        "seconds": about.get("seconds"), "code": about.get("code"),
    }  # fmt: skip
