"""Steps whose loss or gradients are not finite: skipped, counted, and after several in a row gone back from."""

from __future__ import annotations

import torch
from torch import nn

from lib.errors import UserError

IN_A_ROW = 5  # skipped steps after which a training goes back to where it last was in order
RETURNS = 3  # after so many it gives up
SLOWER = 0.5  # learning rate after a return, as a share of that before


class Guard:
    """Counts skipped steps and keeps the state to go back to.

    Everything it does follows from the steps alone, not from the clock: a training that was killed goes on alike.
    """

    def __init__(self, network: nn.Module):
        self.skipped, self.in_row, self.taken, self.returns = 0, 0, 0, 0
        self._buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        self._before = [buffer.clone() for buffer in self._buffers]
        self._good: dict | None = None

    @property
    def rate(self) -> float:
        """The learning rate as a share of the schedule's."""
        return SLOWER**self.returns

    @property
    def stuck(self) -> bool:
        return self.in_row >= IN_A_ROW

    @torch.no_grad()
    def begin(self) -> None:
        """Before the batches of a step: batch-norm statistics are noted, which a forward pass changes."""
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)

    def took(self) -> None:
        """A step was taken."""
        self.taken, self.in_row = self.taken + 1, 0

    @torch.no_grad()
    def skip(self) -> None:
        """A step was left out: batch-norm statistics are what they were before it."""
        self.skipped, self.in_row = self.skipped + 1, self.in_row + 1
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._before)

    def keep(self, state: dict) -> None:
        """Copy the state of the training to go back to, unless its last steps were skipped."""
        if not self.in_row:
            self._good = copied(state, self._good)

    def go_back(self, member: str, step: int, lr: float) -> dict:
        """The state that was kept; the learning rate is lower from now on. Raises UserError after `RETURNS`."""
        if self.returns == RETURNS:
            raise self.hopeless(member, step, lr)
        self.returns, self.in_row = self.returns + 1, 0
        return copied(self._good)

    # What is said of it:

    @staticmethod
    def first(member: str, step: int) -> str:
        return (
            f"warning: 03: {member}: the loss or its gradients are not finite (NaN or infinite) at step {step}; such "
            "steps are skipped, and counted in metrics.jsonl and done.json"
        )

    def returned(self, member: str, at: int, step: int) -> str:
        return (
            f"warning: 03: {member}: {IN_A_ROW} steps in a row until step {at} were not finite; the training goes on "
            f"from step {step} with {self.rate:g} of the learning rate"
        )

    def hopeless(self, member: str, step: int, lr: float) -> UserError:
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
    """A deep copy of tensors in dictionaries and lists; the memory of `old`, an earlier copy, is used again.

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
