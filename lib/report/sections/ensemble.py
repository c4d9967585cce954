"""The ensemble: scores of its members, their correlation and their training time."""

from __future__ import annotations

from lib.config import Config
from lib.report.charts import matrix, scatter
from lib.report.sections.blocks import Chart, ReportSection, Table, stage_facts
from lib.workspace import Workspace


def section(workspace: Workspace, config: Config) -> ReportSection | None:
    oof = stage_facts(workspace, "oof")
    if not oof:
        return None
    members = oof["members"]
    points = [(row["seconds"], row["OOF score"], row["member"]) for row in members]
    if len(members) > 1:
        points.append((sum(row["seconds"] for row in members), oof["score"], "ensemble"))
    blocks = [
        Table("Members", members, "Each with its own threshold, over all folds' images."),
        Table("Ensemble", oof["ensemble"]),
        *(Table("Windows and views that were tried", trial["rows"], trial["note"]) for trial in oof.get("trials", [])),
        Chart("Score against seconds of training", scatter(points, "seconds", "OOF score")),
    ]
    if len(members) > 1:
        names = [row["member"] for row in members]
        numbers = [str(i + 1) for i in range(len(names))]
        rows = [f"{number} {name}" for number, name in zip(numbers, names, strict=True)]
        note = "Of the images' scores at threshold 0.5. Members with the same errors gain little from each other."
        blocks.append(Chart("Correlation of members", matrix(rows, numbers, oof["correlation"]), note))
    return ReportSection("ensemble", "Ensemble", blocks, made_by="05_infer_ensemble")
