"""Distributed training of one member: processes that `torchrun` starts, each with its part of every batch.

The batch, the steps, the learning rate and the loss are those of one process. The shares of a batch may differ by one
sample. A loss sums over the samples of all processes (`summed`, `gathered`), so each process knows the loss of the
whole batch. DistributedDataParallel averages the gradients. Only the main process (rank 0) scores, writes and prints.
Without torchrun there is one process and no communication.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lib.errors import UserError

BARRIER_TIMEOUT = timedelta(days=1)  # the other processes wait while the main one scores whole images

START_BY_TORCHRUN = "start 03_train.py by torchrun, or take WORLD_SIZE out of the environment"


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train one member together, seen from one of them.

    `rank`: of this process, 0 to `size` - 1. `device`: where this process computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def shard(self, batch: list) -> list:
        """The samples of a batch that belong to this process.

        >>> ProcessGroup(rank=1, size=2).shard(["a", "b", "c", "d"])
        ['b', 'd']
        """
        return batch[self.rank :: self.size]

    def check_batch_size(self, batch_size: int) -> None:
        """Raises UserError where a process would get no sample of a batch."""
        if batch_size < self.size:
            raise UserError(
                f"a batch of {batch_size} cannot be shared by {self.size} processes, each of which needs a sample; "
                f"raise train.batch_size to {self.size} or more, or start torchrun with a lower --nproc_per_node"
            )

    def wrap(self, network: nn.Module, synced: bool = False) -> nn.Module:
        """The network, with a backward pass that averages the gradients over all processes.

        `synced`: batch norm takes its statistics from the samples of all processes. Raises UserError on a CPU, where
        torch cannot do that.
        """
        if self.size == 1:
            return network
        if synced and self.device.type != "cuda":
            raise UserError(
                "train.sync_batch_norm is true, which works on GPUs only; set it to false, or train.device to cuda"
            )
        if synced:
            network = with_synced_batch_norm(network)
        return DistributedDataParallel(network, device_ids=[self.device] if self.device.type == "cuda" else None)

    def no_sync(self, replica: nn.Module, last: bool) -> AbstractContextManager:
        """Inside, gradients are not averaged, except for the `last` of the accumulated batches.

        `replica`: what `wrap` returned.
        """
        return nullcontext() if last or self.size == 1 else replica.no_sync()

    @contextmanager
    def one_batch(self) -> Iterator[None]:
        """Inside, `summed` and `gathered` join the processes' parts of one batch. All processes must enter it."""
        global _active
        before, _active = _active, self
        try:
            yield
        finally:
            _active = before

    def all(self, value: bool) -> bool:
        """Whether `value` is true in every process."""
        if self.size == 1:
            return value
        shared = torch.tensor(float(value), device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MIN)
        return bool(shared)

    def common(self, names: list[str]) -> list[str]:
        """Those of `names` that every process gives, in the order of the main process."""
        each: list = [None] * self.size
        dist.all_gather_object(each, names)
        return [name for name in each[0] if all(name in other for other in each)]

    def broadcast(self, value: float) -> float:
        """The main process's value, in all processes."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def shared(self, value: object) -> object:
        """The main process's value, of any kind, in all processes."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
        return box[0]

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.broadcast(0.0)

    def close(self) -> None:
        """End the communication."""
        if self.size > 1:
            dist.destroy_process_group()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block first, then the others, which can read the files that it wrote."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()


SINGLE_PROCESS = ProcessGroup()
_active = SINGLE_PROCESS  # whose processes share the batch of which a loss is computed just now


def summed(values: torch.Tensor) -> torch.Tensor:
    """`values` (any shape), summed over the processes that share the batch; with one process, the values themselves.

    A loss must pass every sum over a batch through this function, else each process normalises by its own samples
    only. DistributedDataParallel takes the mean of the processes' gradients. The gradients are scaled so that this mean
    is the gradient of one process with the whole batch.
    """
    return values if _active.size == 1 else _Sum.apply(values, _active.size)


def gathered(values: torch.Tensor) -> torch.Tensor:
    """`values` (N, ...) of all processes that share the batch, concatenated. N may differ between processes.

    For losses that sort or count pixels of the whole batch. Gradients are as in `summed`.
    """
    return values if _active.size == 1 else _Gather.apply(values, _active)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: torch.Tensor, size: int) -> torch.Tensor:
        ctx.size = size
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple:
        return gradient * ctx.size, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: torch.Tensor, processes: ProcessGroup) -> torch.Tensor:
        lengths = torch.zeros(processes.size, dtype=torch.int64, device=values.device)
        lengths[processes.rank] = len(values)
        dist.all_reduce(lengths)
        lengths = lengths.tolist()
        ctx.size, start = processes.size, sum(lengths[: processes.rank])
        ctx.part = slice(start, start + len(values))
        padded = values.new_zeros(max(lengths), *values.shape[1:])  # all_gather needs equal shapes
        padded[: len(values)] = values.detach()
        parts = [torch.empty_like(padded) for _ in range(processes.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple:
        return gradient[ctx.part] * ctx.size, None


def join_process_group(device: torch.device) -> ProcessGroup:
    """The processes that torchrun started together with this one; without torchrun, this process alone.

    Each process uses one GPU where `device` is CUDA. Raises UserError where there are more processes than GPUs, and
    where only some of torchrun's variables are set.
    """
    size = _number_of_torchrun("WORLD_SIZE") if "WORLD_SIZE" in os.environ else 1
    if size == 1:
        return ProcessGroup(device=device)
    rank, local, _ = (_number_of_torchrun(name) for name in ("RANK", "LOCAL_RANK", "MASTER_PORT"))
    if not rank < size:
        raise UserError(f"the variable RANK is {rank}, and WORLD_SIZE {size}; {START_BY_TORCHRUN}")
    if device.type == "cuda":
        gpus = torch.cuda.device_count()
        if local >= gpus:
            raise UserError(f"torchrun started more processes here than there are GPUs ({gpus}); each needs its own")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"  # states are broadcast in main memory
    store, rank, size = next(dist.rendezvous("env://", timeout=BARRIER_TIMEOUT))
    # After a restart, torchrun's store still holds the addresses of the processes that have ended.
    store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=BARRIER_TIMEOUT)
    return ProcessGroup(dist.get_rank(), size, device)


def with_synced_batch_norm(network: nn.Module) -> nn.Module:
    """A network of the same parameters and statistics whose batch norm sees the samples of all processes."""
    tensors = [*network.parameters(), *network.buffers()]
    return convert_sync_batchnorm(copy.deepcopy(network, {id(tensor): tensor for tensor in tensors}))


def _number_of_torchrun(name: str) -> int:
    """A variable that torchrun sets. Raises UserError where it is missing, or is no whole number."""
    text = os.environ.get(name, "")
    if not (text.isascii() and text.isdigit()):
        found = repr(text) if text else "missing"
        raise UserError(f"the variable {name} is {found}, but a number is expected; {START_BY_TORCHRUN}")
    return int(text)


def unused_parameters(network: nn.Module, loss_of: Callable[[nn.Module], torch.Tensor]) -> list[str]:
    """Names of the parameters that the loss does not depend on. A copy of the network is tried on one batch.

    DistributedDataParallel would wait for gradients of these parameters for ever.
    """
    probe = copy.deepcopy(network).train()
    loss_of(probe).backward()
    return [name for name, value in probe.named_parameters() if value.requires_grad and value.grad is None]
