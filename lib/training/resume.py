"""The state of a training in last.pt, from which it continues after an interruption, and the log metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lib.artifacts.read import damaged, fit_state, read_log, read_tensors
from lib.files import check_writing
from lib.workspace import replacing, write_text

if TYPE_CHECKING:
    from lib.training.trainer import Trainer

SAVED_ATTRIBUTES = (
    "epoch", "step", "seconds", "waited", "swa_samples", "best", "score", "evaluations", "plateaus", "checkpoints",
    "unused",
)  # fmt: skip
FROM_THE_START = "delete {} and run 03_train.py again, which trains this member from its beginning"


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
        **({"part_size": size} if (size := trainer.gradients.parts.size) else {}),
    }


def restore_state(trainer: Trainer, state: dict) -> None:
    """Set a trainer to a state from `training_state`, except for the guard's counts.

    Values that an older version did not save stay as they are. Raises UserError where the state is of another network.
    """
    path = trainer.folder / "last.pt"
    for part in ("network", "optimizer", "scaler", "swa", *["ema"] * bool(trainer.ema)):
        fit_state(getattr(trainer, part), state.get(part, {}), path, FROM_THE_START.format(path.parent))
    for key in SAVED_ATTRIBUTES:
        setattr(trainer, key, state.get(key, getattr(trainer, key)))
    parts = trainer.gradients.parts
    parts.size = state.get("part_size", parts.size)  # after a rollback, what did not fit does not fit again


def save_resume(path: Path, state: dict) -> None:
    """Write a state in full precision. An interruption leaves the old file."""
    with replacing(path) as temporary, temporary.open("wb") as file:  # an open file raises clearer errors than a path
        torch.save(state, file)


def load_resume(path: Path) -> dict | None:
    """What `save_resume` wrote, on the CPU; None where there is no file.

    Raises UserError where the file is damaged, or holds something else.
    """
    if not path.exists():
        return None
    remedy = FROM_THE_START.format(path.parent)
    state = read_tensors(path, remedy)
    missing = [key for key in ("network", "optimizer", "scaler", "swa", "step", "epoch") if key not in state]
    if missing:
        raise damaged(path, f"it lacks {missing[0]}", remedy)
    return state


def append_log(path: Path, record: dict) -> None:
    """Add one JSON line."""
    check_writing()
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def truncate_log(path: Path, step: int) -> None:
    """Remove the lines of later steps than `step`, which are trained again, and half a line that a kill left."""
    earlier = [record for record in read_log(path) if record["step"] <= step]
    write_text(path, "".join(json.dumps(record) + "\n" for record in earlier))
