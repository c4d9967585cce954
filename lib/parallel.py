"""Work spread over processes, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from joblib import Parallel, delayed
from tqdm import tqdm


def parallel(
    function: Callable, arguments: Sequence[tuple], jobs: int, description: str, unit: str, batch_size: int | str = 1
) -> list:
    """`[function(*a) for a in arguments]`, in order. `jobs`: processes; 0 for one per core."""
    work = Parallel(n_jobs=jobs or -1, return_as="generator", batch_size=batch_size)(
        delayed(function)(*a) for a in arguments
    )
    return list(tqdm(work, total=len(arguments), desc=description, unit=unit))
