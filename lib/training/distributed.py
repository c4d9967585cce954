"""Processes that train one member together, as `torchrun` starts them: each on its share of every batch.

The batch, the steps, the schedule and the loss stay those of one process. A loss sums over the samples of all processes
(`summed`, `gathered`), so each process knows the loss of the whole batch. torch's DistributedDataParallel averages the
gradients. One process leads: it alone scores, writes and prints. Without torchrun a team is one process, and nothing is
sent.
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
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lib.errors import UserError

PATIENCE = timedelta(days=1)  # the others wait while the leader scores whole images


@dataclass(frozen=True)
class Team:
    """This process's place among `size` processes."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, batch: list) -> list:
        """What this process takes of a batch's samples."""
        return batch[self.rank :: self.size]

    def check(self, batch_size: int) -> None:
        """Raises UserError where a batch cannot be shared evenly."""
        if batch_size % self.size:
            raise UserError(
                f"batches of {batch_size} samples cannot be shared evenly by {self.size} processes; make "
                f"train.batch_size a multiple of {self.size}, or start torchrun with another --nproc_per_node"
            )

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network whose backward pass averages gradients over the team."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network, device_ids=[self.device] if self.device.type == "cuda" else None)

    def unsent(self, replica: nn.Module, last: bool) -> AbstractContextManager:
        """Keeps gradients here until the `last` of the batches that are accumulated."""
        return nullcontext() if last or self.size == 1 else replica.no_sync()

    @contextmanager
    def one_batch(self) -> Iterator[None]:
        """Inside, `summed` and `gathered` join what the processes hold of one batch. All of them must go through it."""
        global _joined
        before, _joined = _joined, self
        try:
            yield
        finally:
            _joined = before

    def all(self, here: bool) -> bool:
        """Whether it is true on every process."""
        if self.size == 1:
            return here
        shared = torch.tensor(float(here), device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MIN)
        return bool(shared)

    def of_all(self, names: list[str]) -> list[str]:
        """Those of `names` that every process has, in the leader's order."""
        each: list = [None] * self.size
        dist.all_gather_object(each, names)
        return [name for name in each[0] if all(name in other for other in each)]

    def leaders(self, value: float) -> float:
        """The leader's value, on all processes."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def wait(self) -> None:
        """For all to come here."""
        self.leaders(0.0)

    def part(self) -> None:
        """The work is done: nothing is sent any more."""
        if self.size > 1:
            dist.destroy_process_group()

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader goes through alone, then the others: what it wrote down is there for them to read."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


ALONE = Team()
_joined = ALONE  # the team whose processes hold one batch together, while its loss is computed


def summed(values: torch.Tensor) -> torch.Tensor:
    """`values` (any shape), summed over the processes that share the batch; with one process, the values themselves.

    Every sum over a batch in a loss goes through this, or each process would weigh its own samples alone. Gradients
    come out such that their mean over the processes, which DistributedDataParallel takes, is that of one process.
    """
    return values if _joined.size == 1 else _Sum.apply(values, _joined.size)


def gathered(values: torch.Tensor) -> torch.Tensor:
    """`values` (N, ...) of all processes that share the batch, one after another; N may differ between processes.

    For losses that sort or count pixels of the whole batch. Gradients are as in `summed`.
    """
    return values if _joined.size == 1 else _Gather.apply(values, _joined)


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
    def forward(ctx, values: torch.Tensor, team: Team) -> torch.Tensor:
        lengths = torch.zeros(team.size, dtype=torch.int64, device=values.device)
        lengths[team.rank] = len(values)
        dist.all_reduce(lengths)
        lengths = lengths.tolist()
        ctx.size, start = team.size, sum(lengths[: team.rank])
        ctx.own = slice(start, start + len(values))
        padded = values.new_zeros(max(lengths), *values.shape[1:])  # pieces of one shape are sent
        padded[: len(values)] = values.detach()
        parts = [torch.empty_like(padded) for _ in range(team.size)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple:
        return gradient[ctx.own] * ctx.size, None


def assemble(device: torch.device) -> Team:
    """The team that torchrun started this process in, or one of a single process. Each takes a GPU of its own."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return ALONE
    if device.type == "cuda":
        local, here = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= here:
            raise UserError(f"torchrun started more processes here than there are GPUs ({here}); each needs its own")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    return Team(dist.get_rank(), size, device)


def unused_parameters(network: nn.Module, loss_of: Callable[[nn.Module], torch.Tensor]) -> list[str]:
    """Names of parameters that the loss does not depend on, found in a copy of the network.

    DistributedDataParallel would wait for their gradients.
    """
    probe = copy.deepcopy(network).train()
    loss_of(probe).backward()
    return [name for name, value in probe.named_parameters() if value.requires_grad and value.grad is None]
