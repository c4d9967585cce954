"""All members' trainings: loss, score, learning rate and time."""

from __future__ import annotations

from lib.artifacts.read import read_log
from lib.config import Config
from lib.report.charts import Line, line_chart
from lib.report.sections.blocks import Chart, ReportSection, Table
from lib.workspace import Workspace, member_at, read_json


def section(workspace: Workspace, config: Config) -> ReportSection | None:
    folders = sorted(path.parent for path in workspace.runs.glob("*/*_seed*/metrics.jsonl") if member_at(path.parent))
    if not folders:
        return None
    logs = {
        f"{folder.parent.name} {folder.name.replace('_', ' ')}": read_log(folder / "metrics.jsonl")
        for folder in folders
    }
    done = [read_json(folder / "done.json", {}) for folder in folders]
    for log, facts in zip(logs.values(), done, strict=True):
        log += [{"step": facts["steps"], "score": facts["score"]}] if facts else []  # its end, after averaging
    charts = []
    for title, key, axis, unit in (
        ("Loss", "loss", "loss", 1), ("Score", "score", "OOF score", 1),
        ("Learning rate", "lr", "learning rate", 1), ("Time", "seconds", "minutes", 1 / 60),
    ):  # fmt: skip
        lines = [Line(name, _points(log, key, unit), dots=key == "score") for name, log in logs.items()]
        charts.append(Chart(title, line_chart(lines, "step", axis)))
    rows = [_row(name, log, facts) for (name, log), facts in zip(logs.items(), done, strict=True)]
    scores = [facts["score"] for facts in done if facts and facts["score"] is not None]
    return ReportSection(
        "training", "Training", [*charts, Table("Members", rows)],
        [
            ("members trained", sum(map(bool, done))), ("best member", max(scores, default=None)),
            ("mean member", sum(scores) / len(scores) if scores else None),
            ("minutes in all", sum(facts.get("seconds", 0) for facts in done) / 60),
        ],
        "Scores are those of whole images of the member's own fold, at threshold 0.5.",
        made_by="03_*",
    )  # fmt: skip


def _points(log: list[dict], key: str, scale: float) -> list[tuple[float, float]]:
    return [(line["step"], line[key] * scale) for line in log if line.get(key) is not None]


def _row(name: str, log: list[dict], facts: dict) -> dict:
    return {
        "member": name, "OOF score": facts.get("score"),
        "steps": facts.get("steps", log[-1]["step"] if log else 0), "seconds": facts.get("seconds"),
        "images/s": facts.get("images_per_second"), "waiting for data": facts.get("waiting_share"),
        "batch": facts.get("batch_size"), "precision": facts.get("precision", "in training"),
    }  # fmt: skip
