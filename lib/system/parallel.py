"""Calls spread over processes, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from lib.errors import UserError
from lib.system.terminal import progress


def parallel(
    function: Callable, arguments: Sequence[tuple], jobs: int, description: str, unit: str, work: Sequence[float] = ()
) -> list:
    """`[function(*a) for a in arguments]`, in order, computed by `jobs` processes; 0 means one process per core.

    `description` and `unit` are shown in the progress bar. `work`: the relative cost of each call, where costs differ;
    the bar moves by it. Raises UserError when a process is killed from outside.
    """
    total, results = sum(work), []
    shares = [len(work) * part / total for part in work] if total else [1] * len(arguments)
    bar = progress(len(arguments), description, unit, parts=bool(total))
    done = Parallel(n_jobs=jobs or -1, return_as="generator", batch_size=1)(delayed(function)(*a) for a in arguments)
    try:
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
