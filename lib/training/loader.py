"""The batches that a member trains on, epoch after epoch."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader

from lib.data.dataset import TileDataset
from lib.training.distributed import SINGLE_PROCESS, ProcessGroup


@dataclass
class Data:
    """What a member trains on."""

    dataset: TileDataset
    sampler: Any  # as lib/data/sampler.py:BalancedSampler
    workers: int
    batch_size: int
    pinned: bool = False
    """Whether batches come in memory that a copy to the GPU need not wait for."""

    def batches(self, epoch: int, progress: float = 0.0) -> Iterator[tuple[torch.Tensor, ...]]:
        """The batches of one epoch, whole ones only (batch norm dislikes a batch of one).

        `progress`: share of the training that is done.
        """
        return self._load(self._groups(epoch, progress))

    def endless(
        self, epoch: int, progress: Callable[[int], float], processes: ProcessGroup = SINGLE_PROCESS
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """The batches of `epoch` and of all after it, or this process's shares of them, from processes that live on.

        `progress(epoch)` is asked as an epoch is drawn, some batches before it begins.
        """
        groups = (group for number in count(epoch) for group in self._groups(number, progress(number)))
        return self._load(map(processes.shard, groups))

    def _groups(self, epoch: int, progress: float) -> list[list]:
        keys = self.sampler.keys(epoch, progress)
        size = min(self.batch_size, len(keys))
        return [keys[i : i + size] for i in range(0, len(keys) - size + 1, size)]

    def _load(self, groups: Iterable[list]) -> Iterator[tuple[torch.Tensor, ...]]:
        # No torch generator: every sample is seeded by its key, so workers may come and go.
        return iter(
            DataLoader(
                self.dataset, batch_sampler=groups, num_workers=self.workers,
                prefetch_factor=4 if self.workers else None, pin_memory=self.pinned,
                worker_init_fn=end_with_parent,
            )
        )  # fmt: skip

    def steps(self) -> int:
        return max(1, self.sampler.size // min(self.batch_size, self.sampler.size))


def end_with_parent(_worker: int) -> None:
    """Called in a loading process: it will end when the process that started it ends, however early that is.

    torch's own check notes the parent's id when the worker begins to wait for batches. If the parent has ended before,
    the id is that of the process that adopted the worker, and the worker waits for ever. A signal to the process group
    does not end such a worker either: Python forgets signals that arrive during a fork.
    """

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
