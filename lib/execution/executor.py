"""The executor of a call: who computes the pieces of work that a stage divides itself into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from lib.config.execution import Execution
from lib.errors import UserError
from lib.system import parallel


class Executor(Protocol):
    """Computes calls of a function, wherever it does that. Only names and small tables travel; results are files."""

    def map(
        self, function: Callable, arguments: Sequence[tuple], description: str, unit: str, work: Sequence[float]
    ) -> list:
        """`[function(*a) for a in arguments]`, in order; see `lib.system.parallel.parallel`."""


def use_executor(execution: Execution) -> None:
    """From now on `parallel` uses the executor that the options name. Raises UserError where they contradict."""
    if execution.backend == "local" and execution.address:
        raise UserError(
            f"execution.address is {execution.address}, but execution.backend is local, which uses no cluster; set "
            "execution.backend to dask, or remove execution.address"
        )
    if execution.backend == "local":
        parallel.use(None)
        return
    from lib.execution.dask_executor import DaskExecutor

    parallel.use(DaskExecutor.of(execution))


def executor() -> Executor | None:
    """The cluster of this call; None where the work is done on this machine alone."""
    return parallel.executor_in_use()


def compute_each(function: Callable, arguments: Sequence[tuple], description: str, unit: str) -> list:
    """`[function(*a) for a in arguments]`, on the cluster of this call, or one after another in this process."""
    if executor() is None:
        return [function(*one) for one in arguments]
    return executor().map(function, arguments, description, unit, [])
