"""`last.pt`, from which a stopped training goes on, and the lines of metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lib.workspace import replacing

if TYPE_CHECKING:
    from lib.training.trainer import Trainer

NUMBERS = (
    "epoch", "step", "seconds", "waited", "swa_samples", "best", "score", "evaluations", "plateaus", "checkpoints",
    "unused",
)  # fmt: skip


def state_of(trainer: Trainer) -> dict:
    """All that a training goes on from. Its tensors are those in use."""
    return {
        **{key: getattr(trainer, key) for key in NUMBERS},
        "network": trainer.network.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "swa": trainer.swa.state_dict(),
        "ema": trainer.ema.state_dict() if trainer.ema else {},
        "guard": trainer.guard.state_dict(),
    }


def restore(trainer: Trainer, state: dict) -> None:
    """Give a trainer what `state_of` gave, but the guard's counts. What an older version did not save stays."""
    for key in NUMBERS:
        setattr(trainer, key, state.get(key, getattr(trainer, key)))
    for part in ("network", "optimizer", "scaler", "swa"):
        getattr(trainer, part).load_state_dict(state[part])
    if trainer.ema:
        trainer.ema.load_state_dict(state["ema"])


def save_resume(path: Path, state: dict) -> None:
    """Everything that going on needs, in full precision; atomic."""
    with replacing(path) as temporary, temporary.open("wb") as file:  # whose errors say what is wrong
        torch.save(state, file)


def load_resume(path: Path) -> dict | None:
    """What `save_resume` wrote, or None when there is nothing (readable) to go on from."""
    if not path.is_file():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)


def append_line(path: Path, record: dict) -> None:
    """Add one JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def cut_lines(path: Path, step: int) -> None:
    """Forget the lines of later steps than `step`: of an epoch that is trained again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
