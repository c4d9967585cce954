"""The few numbers to read first."""

from __future__ import annotations

from lib.config import Config
from lib.report.sections.blocks import ReportSection, stage_facts
from lib.workspace import Workspace, read_json


def section(workspace: Workspace, config: Config) -> ReportSection | None:
    oof = stage_facts(workspace, "oof")
    done = [read_json(member.path / "done.json", {}) for member in workspace.finished()]
    if not done:
        return None
    scores = [facts["score"] for facts in done if facts["score"] is not None]  # members trained on all images have none
    numbers = [("members trained", len(done)), ("best member on its own fold", max(scores, default=None))]
    if oof:
        numbers.append((f"ensemble, out-of-fold {oof['metric'].replace('_', ' ')}", oof["score"]))
        if oof.get("crossed_by"):
            numbers.append((f"its decision fitted on {oof['crossed_by']}", oof["cross_score"]))
        if "constant" in oof:  # reports of older versions have none
            numbers.append(("best constant answer", oof["constant"]))
    numbers.append(("submissions written", len(list(workspace.submissions.glob("*_*.json")))))
    return ReportSection("overview", "Overview", [], numbers, oof.get("warning", ""))
