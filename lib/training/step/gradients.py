"""Gradients of the batches of one optimizer step; of batches that do not fit into memory, part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lib.models.outputs import Outputs
from lib.system.batch_parts import BatchParts
from lib.system.precision import autocast

if TYPE_CHECKING:
    from lib.training.trainer import Trainer

Batch = tuple[torch.Tensor, ...]


class StepGradients:
    """Adds up the gradients of the batches of one step, and keeps these batches until `clear`.

    Where memory does not suffice, the whole step begins again, with every batch in parts. `losses`: of the batches so
    far.
    """

    def __init__(self, member: str):
        options = "train.crop, choose a smaller model.encoder, or set train.checkpointing to true"
        self.parts = BatchParts(f"03: {member}", options)
        self.batches: list[Batch] = []
        self.losses: list[torch.Tensor] = []
        self._start: list[torch.Tensor] = []  # states of the random numbers before the step

    def clear(self) -> None:
        """The next batch begins a step."""
        self.batches.clear()
        self.losses.clear()

    def add(self, trainer: Trainer, batch: Batch, last: bool, accumulated: int) -> None:
        """Forward and backward pass of a batch, the `last` of a step's `accumulated` ones or an earlier one.

        Raises UserError where not even one sample fits into memory. Several processes cannot repeat a step alone, so
        that they fail when one of them lacks memory.
        """
        if not self.batches:
            self._start = random_states(trainer.device)
        self.batches.append(batch)

        def passes(parts: list[slice]) -> None:
            with trainer.processes.no_sync(trainer.replica, last):
                for one in self.batches[len(self.losses) :]:  # all of the step, after `undo`
                    self.losses.append(add_gradients(trainer, one, parts, accumulated))

        def undo() -> None:
            trainer.optimizer.zero_grad(set_to_none=True)
            trainer.guard.restore_buffers()
            set_random_states(self._start, trainer.device)
            self.losses.clear()

        if trainer.processes.size > 1:
            passes([slice(len(batch[0]))])
        else:
            self.parts.run(len(batch[0]), passes, undo)


def add_gradients(trainer: Trainer, batch: Batch, parts: list[slice], accumulated: int) -> torch.Tensor:
    """Add the gradients of a batch's loss, divided by `accumulated`, to the network's. Returns the loss.

    Of several parts, the loss is that of the whole batch, although many losses are not a mean over samples. As in
    gradient caching (Gao et al. 2021, arXiv:2101.06983), a first pass gives the outputs without keeping what the
    backward pass needs, the loss of all outputs gives their gradients, and a second pass hands these to the network
    part by part. Batch norm alone sees each part by itself.
    """
    if len(parts) == 1:
        loss = trainer.loss_of(trainer.forward, batch)
        trainer.scaler.scale(loss / accumulated).backward()
        return loss.detach()
    images, *labels = (values.to(trainer.device, non_blocking=True) for values in batch)
    images = images.contiguous(memory_format=trainer.layout)

    def outputs_of(part: slice) -> torch.Tensor | Outputs:
        with autocast(trainer.device, trainer.precision):
            return trainer.forward(images[part])

    buffers = [buffer.clone() for buffer in trainer.network.buffers()]
    states, outputs = [], []
    with torch.no_grad():
        for part in parts:
            states.append(random_states(trainer.device))
            outputs.append(outputs_of(part))
        for buffer, value in zip(trainer.network.buffers(), buffers, strict=True):
            buffer.copy_(value)  # the second pass updates the batch-norm statistics
    whole, leaves = _joined(outputs)
    loss = trainer.loss(whole, *labels, trainer.progress())
    trainer.scaler.scale(loss / accumulated).backward()
    for part, state in zip(parts, states, strict=True):
        set_random_states(state, trainer.device)  # for the same dropout as in the first pass
        used = [pair for pair in zip(tensors_of(outputs_of(part)), leaves, strict=True) if pair[1].grad is not None]
        torch.autograd.backward([output for output, _ in used], [leaf.grad[part] for _, leaf in used])
    return loss.detach()


def _joined(outputs: list[torch.Tensor | Outputs]) -> tuple[torch.Tensor | Outputs, list[torch.Tensor]]:
    """(the outputs of several parts as those of one batch, their tensors, which collect gradients)"""
    leaves = [torch.cat(tensors).requires_grad_() for tensors in zip(*map(tensors_of, outputs), strict=True)]
    if isinstance(outputs[0], torch.Tensor):
        return leaves[0], leaves
    mask, *others = leaves
    presence = None if outputs[0].presence is None else others.pop(0)
    return Outputs(mask, presence, tuple(others)), leaves


def tensors_of(outputs: torch.Tensor | Outputs) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [outputs.mask, *([] if outputs.presence is None else [outputs.presence]), *outputs.deep]


def random_states(device: torch.device) -> list[torch.Tensor]:
    """The states of torch's random numbers, on the CPU and on a GPU."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_states(states: list[torch.Tensor], device: torch.device) -> None:
    """Undo draws: set what `random_states` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
