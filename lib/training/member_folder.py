"""The folder in which a member is trained: its own, or `runs/.new/<experiment>/<member>` beside a finished one.

A finished member of other options stays in place until the new member is complete. A training that was interrupted in
either folder continues if its options and files are exactly the same.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from lib.artifacts.read import read_json
from lib.digests import changed_outputs
from lib.files import file_fingerprint, remove_folder, write_json
from lib.stage import FORMAT, Stage
from lib.workspace import Member, Workspace

WRITTEN_AT_THE_END = (
    "network.yaml", "trained.json", *(f"{kind}_weights.pt" for kind in ("last", "swa", "ema", "mean", "soup"))
)  # fmt: skip
"""Files that a finished training writes again from its last state. The others come from earlier moments of it."""


def start_member(member: Member, stage: Stage, workspace: Workspace) -> Member:
    """The member with its training folder, which is emptied if it holds a training with other options."""
    started = training_place(member, stage, workspace)
    changed = changed_outputs(stage.path) if started == member else []
    lost = [path for path in changed if Path(path).name not in WRITTEN_AT_THE_END]
    if lost or not _can_continue(started.path, stage):
        remove_folder(started.path)
        write_json(started.path / "begun.json", {"format": FORMAT, **stage.now})
    return started


def training_place(member: Member, stage: Stage, workspace: Workspace) -> Member:
    """The member with the path of the folder in which it is or will be trained."""
    new = replace(member, path=workspace.runs / ".new" / member.name)
    if _can_continue(member.path, stage):
        return member
    finished = (member.path / "done.json").is_file()
    return new if finished or _can_continue(new.path, stage) else member


def replace_member(new: Path, old: Path) -> None:
    """Move a complete member to the place of the old one. After an interruption it can be called again."""
    if new == old:
        return
    removed = new.with_name(f"{new.name}.old")
    remove_folder(removed)
    if old.exists():
        os.replace(old, removed)
    old.parent.mkdir(parents=True, exist_ok=True)
    os.replace(new, old)
    remove_folder(removed)


def network_files_of(folder: Path) -> list[Path]:
    """The description of a member's network, and all its weights."""
    return sorted([folder / "network.yaml", *folder.glob("*_weights.pt")])


def write_identity(folder: Path) -> None:
    """Write trained.json, the fingerprints of a member's networks. It does not change with the member's scores."""
    write_json(folder / "trained.json", {path.name: file_fingerprint(path) for path in network_files_of(folder)})


def _can_continue(folder: Path, stage: Stage) -> bool:
    """Whether the folder holds a training of exactly the stage's options and files."""
    started = read_json(folder / "begun.json", {})
    return bool(started) and not stage.differs_from(started, started.get("format", 1))
