"""One table that compares several finished configs."""

from __future__ import annotations

from lib.competition.dataset import Competition
from lib.competition.scoring import score_submission, submission_path
from lib.config import load
from lib.config.load import workspace_of
from lib.plugins import load_plugins
from lib.system.terminal import open_log
from lib.system.text_table import text_table
from lib.workspace import Workspace, read_json


def compare_configs(*paths: str, flags: list[str]) -> None:
    """Print each config's out-of-fold score, its score on the test answers where they are known, and its CSV."""
    rows = []
    for path in paths:
        config = load(path, flags)
        open_log(config)
        load_plugins(config.plugins)
        workspace = Workspace(workspace_of(config))
        manifests = [read_json(p, {}) for p in sorted((workspace.root / "manifests").glob("*.json"))]
        submission = submission_path(config)
        done = submission.is_file()
        oof = read_json(workspace.decision, {}).get("score") if done else None
        known = done and config.competition.answers and not config.debug
        board = score_submission(Competition(config.competition), submission) if known else None
        rows.append(
            {
                "config": path,
                "OOF score": oof,
                "leaderboard": board,
                "seconds": float(sum(m.get("seconds", 0) for m in manifests)),
                "forecast": sum(read_json(workspace.root / "preflight.json", {}).get("forecast", {}).values()) or None,
                "submission": str(submission) if done else "(failed)",
            }
        )
    print(text_table(rows))
