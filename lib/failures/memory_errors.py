"""Errors that say that memory does not suffice: Python's, torch's, OpenCV's and the system's."""

from __future__ import annotations

import errno

NO_MEMORY = (
    "out of memory", "can't allocate memory", "Cannot allocate memory", "not enough memory", "bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
)  # fmt: skip
INSUFFICIENT_MEMORY = -4  # the code of OpenCV's error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, on the CPU or a GPU.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    True
    >>> is_out_of_memory(RuntimeError("sizes do not match")), is_out_of_memory(MemoryError())
    (False, True)
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):
        of_torch = type(error).__name__ == "OutOfMemoryError"  # by its name: torch takes seconds to import
        return of_torch or any(words in str(error) for words in NO_MEMORY)
    return isinstance(error, MemoryError) or getattr(error, "code", None) == INSUFFICIENT_MEMORY


def memory_advice(error: BaseException) -> str:
    """The sentence for an error for which `is_out_of_memory` holds."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return (
        f"memory does not suffice ({reason}); lower --jobs in 01 and 02, train.workers, train.batch_size or train.crop "
        "in 03, infer.batch_size, infer.window or infer.max_gib in 04 and 05, and run the same command again"
    )
