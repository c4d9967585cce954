"""Where a member is trained: in its folder, or beside a finished one that it will replace.

A finished member of other options stays until its successor is complete, in `runs/.new/<experiment>/<member>`. What was
begun there, or in its folder, with exactly these options and files goes on.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from lib.files import file_fingerprint, read_json, write_json
from lib.stage import FORMAT, Stage
from lib.workspace import Member, Workspace


def begin(member: Member, stage: Stage, workspace: Workspace) -> Member:
    """The member at the place of its training. What was begun there with other options is removed."""
    own = place_of(member, stage, workspace)
    if not _goes_on(own.path, stage):
        shutil.rmtree(own.path, ignore_errors=True)
        write_json(own.path / "begun.json", {"format": FORMAT, **stage.now})
    return own


def place_of(member: Member, stage: Stage, workspace: Workspace) -> Member:
    """The member with the folder in which it is, or will be, trained."""
    beside = replace(member, path=workspace.runs / ".new" / member.name)
    if _goes_on(member.path, stage):
        return member
    finished = (member.path / "done.json").is_file()
    return beside if finished or _goes_on(beside.path, stage) else member


def take_place(new: Path, old: Path) -> None:
    """Put a complete member where the one that it replaces is. Begun and killed, it can be begun again."""
    if new == old:
        return
    away = new.with_name(f"{new.name}.old")
    shutil.rmtree(away, ignore_errors=True)
    if old.exists():
        os.replace(old, away)
    os.replace(new, old)
    shutil.rmtree(away, ignore_errors=True)


def note_training(folder: Path) -> None:
    """Write trained.json, the identity of a member: what its networks are, however they are scored."""
    files = [folder / "network.yaml", *folder.glob("*_weights.pt")]
    write_json(folder / "trained.json", {path.name: file_fingerprint(path) for path in sorted(files)})


def _goes_on(folder: Path, stage: Stage) -> bool:
    """Whether a training was begun there that differs in nothing."""
    begun = read_json(folder / "begun.json", {})
    return bool(begun) and not stage.differs_from(begun, begun.get("format", 1))
