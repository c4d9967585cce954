"""Memory that the process had, and what it freed and its allocator keeps."""

from __future__ import annotations

import contextlib
import ctypes
import sys

with contextlib.suppress(ImportError):  # Windows has no such module
    import resource


def give_back() -> None:
    """Hand freed memory back to the system, where the C library is glibc: between large arrays of many sizes it keeps
    several hundred MB. Takes some milliseconds."""
    if _LIBC is not None:
        _LIBC.malloc_trim(0)


def keep_freed() -> None:
    """Keep freed memory in the process, where the C library is glibc; `give_back` still hands it back.

    A network's maps come and go with every batch. Taken from the system each time, their pages took a tenth of a
    training's time and a quarter of a prediction's. Arrays above 32 MiB, the most that glibc allows, still go at once.
    """
    if _LIBC is not None:
        _LIBC.mallopt(_MMAP_THRESHOLD, 32 << 20)
        _LIBC.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def peak_gib() -> float:
    """Largest memory that this process has had; 0 on Windows, which does not tell it in this way."""
    if "resource" not in globals():
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _find_glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None  # another library's


_LIBC = _find_glibc()
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
