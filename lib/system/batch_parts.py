"""Batches that do not fit into memory are computed in parts. One mechanism for training, scoring and prediction."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from lib.errors import UserError
from lib.failures.memory_errors import is_out_of_memory
from lib.system.memory import give_back
from lib.system.terminal import warn_once

_Result = TypeVar("_Result")


class BatchParts:
    """Computes whole batches, and from the first one that does not fit into memory on, parts of them.

    `size`: samples of a part at most; None: batches are whole.

    >>> def work(parts):
    ...     if max(part.stop - part.start for part in parts) > 2:
    ...         raise MemoryError
    ...     return parts
    >>> BatchParts("03: base/fold0_seed42", "train.crop").run(5, work)
    warning: 03: base/fold0_seed42: a batch of 5 does not fit into memory and is computed in parts of at most 2
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """

    def __init__(self, name: str, options: str, size: int | None = None):
        """`name`: of what is computed, in messages. `options`: which to lower where one sample does not fit."""
        self.name, self.options, self.size = name, options, size

    def run(self, count: int, work: Callable[[list[slice]], _Result], undo: Callable[[], object] = bool) -> _Result:
        """`work(parts)`, where the slices `parts` cover a batch of `count` samples in their order.

        Where memory does not suffice, `undo()` is called, and `work` again with parts of half the size. Raises
        UserError where not even one sample fits.
        """
        before = self.size
        while True:
            # Outside of `except` nothing keeps the arrays of the failed attempt.
            done, result = _attempt(work, parts_of(count, self.size or count))
            if done:
                break
            self.size = self._half_of(min(self.size or count, count))
            undo()
            free_memory()
        if self.size != before:
            warn_once(
                f"{self.name}: a batch of {count} does not fit into memory and is computed in parts of at most "
                f"{self.size}"
            )
        return result

    def _half_of(self, size: int) -> int:
        if size > 1:
            return size // 2
        raise UserError(f"{self.name}: a single sample does not fit into memory; lower {self.options}")


def parts_of(count: int, size: int) -> list[slice]:
    """Slices of at most `size` that cover `count` samples.

    >>> parts_of(4, 3)
    [slice(0, 3, None), slice(3, 4, None)]
    """
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def free_memory() -> None:
    """Return memory that nothing uses to the device and the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    give_back()


def _attempt(work: Callable[[list[slice]], _Result], parts: list[slice]) -> tuple[bool, _Result | None]:
    """(whether memory sufficed, the result)"""
    try:
        return True, work(parts)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False, None
