"""Skips training steps whose loss or gradients are not finite; rolls the training back after several in a row."""

from __future__ import annotations

import torch
from torch import nn

from lib.errors import UserError

MAX_SKIPPED_IN_ROW = 5  # skipped steps in a row after which a training is rolled back
MAX_ROLLBACKS = 3  # after these the training fails
ROLLBACK_LR = 0.5  # factor of the learning rate at each rollback


class FiniteGuard:
    """Counts skipped steps and keeps the state to which a training is rolled back.

    All it does depends on the steps, never on the clock. A training that continues after an interruption therefore
    does the same.
    """

    def __init__(self, network: nn.Module):
        self.skipped, self.in_row, self.taken, self.returns = 0, 0, 0, 0
        by_type: dict[torch.dtype, list[torch.Tensor]] = {}  # tensors of one type are copied together
        for buffer in network.buffers():
            by_type.setdefault(buffer.dtype, []).append(buffer)
        self._buffers = [(buffers, [buffer.clone() for buffer in buffers]) for buffers in by_type.values()]
        self._saved_state: dict | None = None

    @property
    def rate(self) -> float:
        """The learning rate as a share of the schedule's."""
        return ROLLBACK_LR**self.returns

    @property
    def stuck(self) -> bool:
        """Whether the training must be rolled back."""
        return self.in_row >= MAX_SKIPPED_IN_ROW

    @torch.no_grad()
    def save_buffers(self) -> None:
        """Copy the batch-norm statistics before the batches of a step, whose forward passes change them."""
        for buffers, saved in self._buffers:
            torch._foreach_copy_(saved, buffers)

    def count_step(self) -> None:
        """Count a step that was taken."""
        self.taken, self.in_row = self.taken + 1, 0

    def skip_step(self) -> None:
        """Count a step that was skipped, and restore the batch-norm statistics from before it."""
        self.skipped, self.in_row = self.skipped + 1, self.in_row + 1
        self.restore_buffers()

    @torch.no_grad()
    def restore_buffers(self) -> None:
        """Undo the change of the batch-norm statistics since `save_buffers`."""
        for buffers, saved in self._buffers:
            torch._foreach_copy_(buffers, saved)

    def save_state(self, state: dict) -> None:
        """Copy the state of the training for a rollback, unless its last steps were skipped."""
        if not self.in_row:
            self._saved_state = copied(state, self._saved_state)

    def roll_back(self, member: str, step: int, lr: float) -> dict:
        """The saved state; the learning rate is lower from now on. Raises UserError after `MAX_ROLLBACKS`."""
        if self.returns == MAX_ROLLBACKS:
            raise self.divergence_error(member, step, lr)
        self.returns, self.in_row = self.returns + 1, 0
        return copied(self._saved_state)

    @staticmethod
    def first_warning(member: str, step: int) -> str:
        return (
            f"warning: 03: {member}: the loss or its gradients are not finite (NaN or infinite) at step {step}; such "
            "steps are skipped, and counted in metrics.jsonl and done.json"
        )

    def rollback_warning(self, member: str, at: int, step: int) -> str:
        return (
            f"warning: 03: {member}: {MAX_SKIPPED_IN_ROW} steps in a row until step {at} were not finite; the training "
            f"goes on from step {step} with {self.rate:g} of the learning rate"
        )

    def divergence_error(self, member: str, step: int, lr: float) -> UserError:
        tried = f", after {self.returns} lower learning rates" if self.returns else ""
        return UserError(
            f"03: {member}: the loss or its gradients are not finite (NaN or infinite) at step {step} with learning "
            f"rate {lr:.2g}{tried}; lower train.lr, set train.clip to 1 and train.precision to fp32, and look for "
            "images, labels or a loss of your own that are not finite"
        )

    def state_dict(self) -> dict:
        return {name: getattr(self, name) for name in ("skipped", "in_row", "taken", "returns")}

    def load_state_dict(self, saved: dict) -> None:
        for name, value in saved.items():
            setattr(self, name, value)


def copied(value: object, old: object = None) -> object:
    """A deep copy of tensors in dictionaries and lists. The memory of `old`, an earlier copy, is used again.

    >>> copied({"a": [torch.ones(1)]}, {"a": [torch.zeros(1)]})
    {'a': [tensor([1.])]}
    """
    if isinstance(value, torch.Tensor):
        if isinstance(old, torch.Tensor) and (old.shape, old.dtype, old.device) == (
            value.shape, value.dtype, value.device,
        ):  # fmt: skip
            return old.copy_(value)
        return value.detach().clone()
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        return {key: copied(item, before.get(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        before = old if isinstance(old, list | tuple) and len(old) == len(value) else [None] * len(value)
        return type(value)(copied(item, was) for item, was in zip(value, before, strict=True))
    return value
