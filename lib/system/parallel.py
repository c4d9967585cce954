"""Calls spread over processes, with a progress bar."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from lib.errors import UserError
from lib.system.terminal import progress

QUIET_TRACKER = "ignore:resource_tracker"  # what joblib's own process prints after a stop; it tidies up all the same


_executor = None  # computes in place of processes of this machine (lib/execution)


def use(executor: object) -> None:
    """Have `parallel` computed by an executor; None: by processes of this machine."""
    global _executor
    _executor = executor


def executor_in_use() -> object:
    """What `use` was called with last."""
    return _executor


def parallel(
    function: Callable, arguments: Sequence[tuple], jobs: int, description: str, unit: str, work: Sequence[float] = ()
) -> list:
    """`[function(*a) for a in arguments]`, in order, computed by `jobs` processes; 0 means one process per core. An
    executor that is in use computes them instead.

    `description` and `unit` are shown in the progress bar. `work`: the relative cost of each call, where costs differ;
    the bar moves by it. Raises UserError when a process is killed from outside.
    """
    if _executor is not None:
        return _executor.map(function, arguments, description, unit, work)
    total, results = sum(work), []
    shares = [len(work) * part / total for part in work] if total else [1] * len(arguments)
    bar = progress(len(arguments), description, unit, parts=bool(total))
    processes = Parallel(
        # No more than there is work for: joblib would start them all.
        n_jobs=max(1, min(jobs or cpu_count(), len(arguments))),
        return_as="generator",
        batch_size=1,
        initializer=end_with_parent,
        initargs=(os.getpid(),),
    )
    try:
        with _signals_for_this_process_alone():
            done = processes(delayed(function)(*a) for a in arguments)
        for result, share in zip(done, shares, strict=True):
            results.append(result)
            bar.update(share)
    except TerminatedWorkerError:
        raise UserError(
            f"a process of `{description}` was killed; memory may be short, so try again with --jobs 1"
        ) from None
    finally:
        bar.close()
    return results


@contextlib.contextmanager
def _signals_for_this_process_alone() -> Iterator[None]:
    """Processes that start inside never see Ctrl-C and SIGTERM, which a terminal sends to all of them.

    They would print a traceback each. This process ends them. Its own signals wait until the end of the block.
    """
    quiet_tracker()
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def quiet_tracker() -> None:
    """Have processes that start from now on say nothing of what Python's own tracker tidies up after a stop."""
    filters = os.environ.get("PYTHONWARNINGS", "")
    if QUIET_TRACKER not in filters:
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [filters, QUIET_TRACKER]))


def end_with_parent(parent: int) -> None:
    """Called in a new process: ends it as soon as the process `parent`, which started it, has ended."""

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
