"""The state of a training in last.pt, from which it continues after an interruption, and the log metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lib.workspace import replacing

if TYPE_CHECKING:
    from lib.training.trainer import Trainer

SAVED_ATTRIBUTES = (
    "epoch", "step", "seconds", "waited", "swa_samples", "best", "score", "evaluations", "plateaus", "checkpoints",
    "unused",
)  # fmt: skip


def training_state(trainer: Trainer) -> dict:
    """Everything that a training continues from. The tensors are not copies."""
    return {
        **{key: getattr(trainer, key) for key in SAVED_ATTRIBUTES},
        "network": trainer.network.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "swa": trainer.swa.state_dict(),
        "ema": trainer.ema.state_dict() if trainer.ema else {},
        "guard": trainer.guard.state_dict(),
    }


def restore_state(trainer: Trainer, state: dict) -> None:
    """Set a trainer to a state from `training_state`, except for the guard's counts.

    Values that an older version did not save stay as they are.
    """
    for key in SAVED_ATTRIBUTES:
        setattr(trainer, key, state.get(key, getattr(trainer, key)))
    for part in ("network", "optimizer", "scaler", "swa"):
        getattr(trainer, part).load_state_dict(state[part])
    if trainer.ema:
        trainer.ema.load_state_dict(state["ema"])


def save_resume(path: Path, state: dict) -> None:
    """Write a state in full precision. An interruption leaves the old file."""
    with replacing(path) as temporary, temporary.open("wb") as file:  # an open file raises clearer errors than a path
        torch.save(state, file)


def load_resume(path: Path) -> dict | None:
    """What `save_resume` wrote, on the CPU; None where there is no file."""
    if not path.is_file():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)


def append_log(path: Path, record: dict) -> None:
    """Add one JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def truncate_log(path: Path, step: int) -> None:
    """Remove the lines of later steps than `step`, which are trained again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    lines = [line for line in lines if json.loads(line)["step"] <= step]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
