"""Time and memory by stage, and the speed of the last submission."""

from __future__ import annotations

from lib.config import Config
from lib.report.charts import bars
from lib.report.sections.blocks import Chart, ReportSection, Table
from lib.report.speed import speed_rows
from lib.workspace import Workspace, read_json


def section(workspace: Workspace, config: Config) -> ReportSection | None:
    records = [read_json(path, {}) for path in sorted((workspace.root / "manifests").glob("*.json"))]
    if not records:
        return None
    seconds = {record["stage"]: float(record["seconds"]) for record in records}
    rows = [
        {"stage": record["stage"], "seconds": seconds[record["stage"]], "peak GiB": record.get("peak_gib")}
        for record in records
    ]
    forecast = read_json(workspace.root / "preflight.json", {}).get("forecast", {})
    speeds = [speed for record in records if (speed := record["facts"].get("speed"))]
    note = "Peak memory of the stage's main process."
    numbers = [("minutes in all", sum(seconds.values()) / 60)]
    if forecast:
        numbers.append(("minutes forecast", sum(forecast.values()) / 60))
    return ReportSection(
        "costs", "Time and memory", 
        [
            Chart("Seconds by stage", bars(list(seconds.items()), "s")), Table("Stages", rows, note),
            *(Table("Speed of 05, the last submission", speed_rows(speed)) for speed in speeds),
        ],
        numbers,
    )  # fmt: skip
