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
from torch.utils.data import DataLoader, Dataset, default_collate

from lib.data.dataset import TileDataset
from lib.errors import UserError
from lib.failures.memory_errors import is_out_of_memory
from lib.training.distributed import SINGLE_PROCESS, ProcessGroup


@dataclass
class TrainingData:
    """The samples that a member trains on, in batches."""

    dataset: TileDataset
    sampler: Any  # such as BalancedSampler in lib/data/sampler.py
    workers: int
    batch_size: int
    pinned: bool = False
    """Whether batches are in pinned memory, which is copied to a GPU asynchronously."""

    def batches(self, epoch: int, progress: float = 0.0) -> Iterator[tuple[torch.Tensor, ...]]:
        """The batches of one epoch. An incomplete last batch is dropped: batch norm fails on a batch of one sample.

        `progress`: finished share of the training, 0 to 1.
        """
        return self._load(self._batch_keys(epoch, progress))

    def endless_batches(
        self, epoch: int, progress: Callable[[int], float], processes: ProcessGroup = SINGLE_PROCESS
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """The batches of `epoch` and of all later epochs; of several processes, this process's part of each batch.

        One set of loading processes serves all epochs. `progress(epoch)` is called when the samples of an epoch are
        drawn, some batches before the epoch begins.
        """
        batches = (keys for number in count(epoch) for keys in self._batch_keys(number, progress(number)))
        return self._load(map(processes.shard, batches))

    def _batch_keys(self, epoch: int, progress: float) -> list[list]:
        keys = self.sampler.keys(epoch, progress)
        size = min(self.batch_size, len(keys))
        return [keys[i : i + size] for i in range(0, len(keys) - size + 1, size)]

    def _load(self, batches: Iterable[list]) -> Iterator[tuple[torch.Tensor, ...]]:
        # No torch generator is needed: each sample is seeded by its key, whichever process loads it.
        loader = DataLoader(
            _QuietDataset(self.dataset), batch_sampler=batches, num_workers=self.workers,
            prefetch_factor=4 if self.workers else None, pin_memory=self.pinned, collate_fn=_collated,
            worker_init_fn=exit_with_parent,
        )  # fmt: skip
        return map(_raised, iter(loader))

    def steps(self) -> int:
        """Batches of an epoch."""
        return max(1, self.sampler.size // min(self.batch_size, self.sampler.size))


class _QuietDataset(Dataset):
    """A dataset that returns its UserError in place of a batch. (torch would add a loading process's traceback.)"""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitems__(self, keys: list) -> list | UserError:
        try:
            return [self.dataset[key] for key in keys]
        except UserError as error:
            return error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return UserError(
                "memory does not suffice to load a batch; lower train.workers, train.batch_size or train.crop, and run "
                "the same command again"
            )


def _collated(samples: list | UserError) -> list[torch.Tensor] | UserError:
    return samples if isinstance(samples, UserError) else default_collate(samples)


def _raised(batch: Any) -> Any:
    if isinstance(batch, UserError):
        raise batch
    return batch


def exit_with_parent(_worker: int) -> None:
    """Called in a loading process: ends it as soon as the process that started it has ended.

    torch's own check reads the parent's id when the worker begins to wait for batches. If the parent has ended before,
    this is the id of the process that adopted the worker, and the worker waits for ever. A signal to the process group
    does not end such a worker either, because Python loses signals that arrive during a fork.
    """

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
