"""What processes of tests/test_choices.py do at the same time. No torch here: they are started often."""

from __future__ import annotations

import json
import time
from pathlib import Path

from lib.config import load
from lib.submissions import ledger
from lib.workspace import Workspace

WRITERS, EACH = 6, 5


def write_much(root: Path, number: int) -> None:
    """`EACH` choices, and as many rows of the ledger with a message each, once all writers are there."""
    workspace = Workspace(root)
    (root / f"ready{number}").touch()
    while len(list(root.glob("ready*"))) < WRITERS:
        time.sleep(0.01)
    for i in range(EACH):
        workspace.choose(f"choice {number} {i}", [number, i])
        about = {"members": [f"m{number}"], "oof_score": 0.5, "oof_score_crossed": 0.5, "seconds": 1.0, "code": "",
                 "decision": {}}  # fmt: skip
        ledger.record(workspace, workspace.submissions / f"{number}_{i}.csv", load(None), about)
        ledger.update_row(workspace, f"{number}_{i}.csv", message=f"sent {number} {i}")


def measure_once(root: Path, number: int) -> None:
    """Ask for a choice that takes a while to measure; note who measured, and what each one got."""

    def measure() -> dict:
        time.sleep(0.5)
        with (root / "measured").open("a") as file:
            file.write(f"{number}\n")
        return {"by": number}

    (root / f"got{number}").write_text(json.dumps(Workspace(root).choose_once("what is fastest", measure)))
