"""The ledger, submissions/ledger.csv: every submission, its origin, and its out-of-fold and leaderboard scores.

lib/tables.py defines its columns. An unknown score is an empty field.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd

from lib import tables
from lib.config import Config, save
from lib.errors import UserError
from lib.workspace import Workspace, file_fingerprint, short_hash, write_json, write_table


def record(workspace: Workspace, path: Path, config: Config, about: dict) -> None:
    """Record a submission of 05: its origin (.json) and all options (.yaml) beside it, and a row in the ledger."""
    write_json(path.with_suffix(".json"), about)
    save(config, path.with_suffix(".yaml"))
    made = config.model_dump(exclude={"workspace", "jobs"})
    _append(
        workspace,
        file=path.name,
        config=f"{config.competition.name} {short_hash(made)}",
        members="; ".join(about["members"]),
        oof=about["oof_score"],
        cross=about["oof_score_crossed"],
        seconds=about["seconds"],
        version=about["code"],
        decision=json.dumps({key: value for key, value in about["decision"].items() if "score" not in key}),
    )


def read_ledger(workspace: Workspace) -> pd.DataFrame:
    """The ledger; empty where there is no file. Raises UserError where the file is damaged."""
    if not workspace.ledger.is_file():
        kinds = {name: kind for name, (kind, _) in tables.LEDGER.items()}
        return pd.DataFrame(columns=list(kinds)).astype(kinds)
    remedy = "correct it (a CSV in UTF-8, parted by commas), or move it away: a new one is begun"
    return tables.read(workspace.ledger, tables.LEDGER, "05_infer_ensemble.py", remedy)


def path_of(workspace: Workspace, file: str) -> Path:
    """The path of a file that the ledger lists."""
    return workspace.submissions / file


def name_of(workspace: Workspace, path: Path, add: bool = False) -> str:
    """The ledger's name of a CSV: its own, or that of a file with the same content (submission.csv is a copy).

    With `add`, a file that is not listed gets a row; without, it raises UserError.
    """
    files = list(read_ledger(workspace)["file"])
    # The file name alone, such as 20261125-081500_ensemble.csv, is enough.
    path = next((p for p in (path, path_of(workspace, path.name)) if p.is_file()), path)
    listed = [file for file in files if path_of(workspace, file).resolve() == path.resolve()]
    if listed:
        return listed[-1]
    if not path.is_file():
        known = f"; it lists {', '.join(files[-3:])}" if files else ""
        raise UserError(f"there is no file {path}, nor does {workspace.ledger} list it{known}")
    size = path.stat().st_size
    alike = [p for p in map(workspace.submissions.joinpath, files) if p.is_file() and p.stat().st_size == size]
    for other in reversed(alike):
        if file_fingerprint(other) == file_fingerprint(path):
            return files[[path_of(workspace, file) for file in files].index(other)]
    if not add:
        raise UserError(f"{workspace.ledger} does not list {path}; python -m lib submit adds what it uploads")
    _append(workspace, file=str(path.resolve()))
    return str(path.resolve())


def update_row(workspace: Workspace, file: str, **values: object) -> None:
    """Write values (`public`, `private`, `message`) into the row of a listed file."""
    with workspace.lock("ledger"):
        table = read_ledger(workspace)
        for column, value in values.items():
            table.loc[table["file"] == file, column] = value
        write_table(workspace.ledger, table)


def _append(workspace: Workspace, **values: object) -> None:
    row = {"time": time.strftime("%Y-%m-%d %H:%M:%S"), **values}
    kinds = {name: kind for name, (kind, _) in tables.LEDGER.items()}
    blank = {name: "" if kind == "str" else None for name, kind in kinds.items()}
    new = pd.DataFrame([{**blank, **row}]).astype(kinds)
    with workspace.lock("ledger"):
        write_table(workspace.ledger, pd.concat([read_ledger(workspace), new], ignore_index=True))
