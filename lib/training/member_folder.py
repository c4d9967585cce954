"""The folder in which a member is trained: its own, or `runs/.new/<experiment>/<member>` beside a finished one.

A finished member of other options stays in place until the new member is complete. A training that was interrupted in
either folder continues if its options and files are exactly the same.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from lib.files import file_fingerprint, read_json, write_json
from lib.stage import FORMAT, Stage
from lib.workspace import Member, Workspace


def start_member(member: Member, stage: Stage, workspace: Workspace) -> Member:
    """The member with its training folder, which is emptied if it holds a training with other options."""
    started = training_place(member, stage, workspace)
    if not _can_continue(started.path, stage):
        shutil.rmtree(started.path, ignore_errors=True)
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
    shutil.rmtree(removed, ignore_errors=True)
    if old.exists():
        os.replace(old, removed)
    os.replace(new, old)
    shutil.rmtree(removed, ignore_errors=True)


def write_identity(folder: Path) -> None:
    """Write trained.json, the fingerprints of a member's networks. It does not change with the member's scores."""
    files = [folder / "network.yaml", *folder.glob("*_weights.pt")]
    write_json(folder / "trained.json", {path.name: file_fingerprint(path) for path in sorted(files)})


def _can_continue(folder: Path, stage: Stage) -> bool:
    """Whether the folder holds a training of exactly the stage's options and files."""
    started = read_json(folder / "begun.json", {})
    return bool(started) and not stage.differs_from(started, started.get("format", 1))
