"""What each member is worth, how alike they are, and what the ensemble costs."""

from __future__ import annotations

from lib.config import Config
from lib.report.charts import matrix, scatter
from lib.report.sections.blocks import Chart, Section, Table, fact
from lib.workspace import Workspace


def section(workspace: Workspace, config: Config) -> Section | None:
    oof = fact(workspace, "oof")
    if not oof:
        return None
    members = oof["members"]
    points = [(row["seconds"], row["OOF score"], row["member"]) for row in members]
    if len(members) > 1:
        points.append((sum(row["seconds"] for row in members), oof["score"], "ensemble"))
    blocks = [
        Table("Members", members, "Each by its own threshold, over all folds' images."),
        Table("Ensemble", oof["ensemble"]),
        *(Table("Windows and views that were tried", trial["rows"], trial["note"]) for trial in oof.get("trials", [])),
        Chart("Score against seconds of training", scatter(points, "seconds", "OOF score")),
    ]
    if len(members) > 1:
        names = [row["member"] for row in members]
        numbers = [str(i + 1) for i in range(len(names))]
        rows = [f"{number} {name}" for number, name in zip(numbers, names, strict=True)]
        note = "Of the images' scores at threshold 0.5: members that fail on the same images add little to one another."
        blocks.append(Chart("Correlation of members", matrix(rows, numbers, oof["correlation"]), note))
    return Section("ensemble", "Ensemble", blocks, made_by="05_infer_ensemble")
