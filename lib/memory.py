"""Memory that the process had, and what it freed and its allocator keeps."""

from __future__ import annotations

import ctypes
import resource
import sys


def give_back() -> None:
    """Hand freed memory back to the system, where the C library is glibc: between large arrays of many sizes it keeps
    several hundred MB. Takes some milliseconds."""
    if _TRIM is not None:
        _TRIM(0)


def peak_gib() -> float:
    """Largest memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _find_trim() -> object | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):  # another C library
        return None


_TRIM = _find_trim()
