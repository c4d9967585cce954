"""Errors that say that another of the processes that train together has ended."""

from __future__ import annotations

from lib.failures.stops import several_processes

ANOTHER_ENDED = (
    "another one of the processes that train together was killed or has failed; memory may be short. Run the same "
    "command again, it goes on from the last save (torchrun does so by itself with --max-restarts 3)"
)
SIGNS = ("gloo", "NCCL", "ProcessGroup", "Connection closed by peer", "Connection reset by peer", "Broken pipe")


def lost_connection(error: BaseException) -> bool:
    """Whether a call that joins several processes has failed because one of them is gone.

    >>> lost_connection(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))  # no torchrun
    False
    """
    return several_processes() and isinstance(error, RuntimeError) and any(words in str(error) for words in SIGNS)
