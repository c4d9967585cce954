"""Work spread over processes, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from lib.errors import UserError
from lib.system.terminal import progress


def parallel(
    function: Callable, arguments: Sequence[tuple], jobs: int, description: str, unit: str, batch_size: int | str = 1,
    work: Sequence[float] = (),
) -> list:  # fmt: skip
    """`[function(*a) for a in arguments]`, in order. `jobs`: processes; 0 for one per core.

    `work`: how much each is, where they differ; the bar moves by it. Raises UserError when a process is killed from
    outside.
    """
    total, results = sum(work), []
    shares = [len(work) * part / total for part in work] if total else [1] * len(arguments)
    bar = progress(len(arguments), description, unit, parts=bool(total))
    done = Parallel(n_jobs=jobs or -1, return_as="generator", batch_size=batch_size)(
        delayed(function)(*a) for a in arguments
    )
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
