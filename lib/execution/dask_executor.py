"""Work on a Dask cluster, by the plain client of `distributed`: a running cluster, or an own one on this machine.

A task runs again when its worker is lost. One that has lost several workers is given up, with a sentence that names it,
and the other tasks go on.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from lib.config.execution import Execution
from lib.errors import UserError
from lib.execution.devices import devices_of, environment_for, grouped
from lib.system.parallel import quiet_tracker
from lib.system.terminal import Bar, progress

RESOURCE = "device"
ALLOWED_LOSSES = 1  # workers that a task may lose, once with other tasks and once alone, before it is given up
COUNT_SECONDS = 5  # between two counts of the workers
CONNECT_SECONDS = 30


class DaskExecutor:
    """A cluster, with one task at a time on each device."""

    def __init__(self, execution: Execution):
        self.execution = execution
        self.client, self._cluster = _connected(execution)
        self.workers, self._counted = self._check_workers(), time.monotonic()
        atexit.register(self.close)

    @staticmethod
    def of(execution: Execution) -> DaskExecutor:
        """The engine of these options, which is opened once."""
        return _opened(execution.model_dump_json())

    def map(
        self, function: Callable, arguments: Sequence[tuple], description: str, unit: str, work: Sequence[float]
    ) -> list:
        """`[function(*a) for a in arguments]`, in order. Raises UserError where a call does, or cannot be computed.

        A task whose workers were lost runs again at the end, alone: it may have waited on a worker that another task
        has ended.
        """
        total = sum(work)
        shares = [len(work) * part / total for part in work] if total else [1] * len(arguments)
        bar, results = progress(len(arguments), description, unit, parts=bool(total)), {}

        def done(number: int, result: object) -> None:
            results[number] = result
            bar.update(shares[number])

        try:
            suspects = self._run(function, dict(enumerate(arguments)), done)
            guilty = [one for one in suspects if self._run(function, {one: arguments[one]}, done)]
        finally:
            bar.close()
        if guilty:
            raise UserError(
                f"{description}: {unit} {guilty[0] + 1} of {len(arguments)} ends each worker that it runs on; memory "
                "may be short there. All other pieces are done; run the same command again, it goes on from here"
            )
        return [results[number] for number in range(len(arguments))]

    def _run(self, function: Callable, tasks: dict[int, tuple], done: Callable[[int, object], None]) -> list[int]:
        """Run tasks, as many at a time as there are devices. Returns those that have lost too many workers."""
        from distributed import as_completed

        waiting, numbers, lost = deque(tasks), {}, []
        completed = as_completed()

        def submit() -> None:
            while waiting and len(numbers) < self._slots():
                number = waiting.popleft()
                future = self.client.submit(_called, function, tasks[number], pure=False, resources={RESOURCE: 1})
                numbers[future] = number
                completed.add(future)

        try:
            submit()
            for future in completed:
                number = numbers.pop(future)
                if future.status == "error":
                    _check_lost(future.exception())
                    lost.append(number)
                else:
                    result, problem = future.result()
                    if problem:
                        raise UserError(problem)
                    done(number, result)
                submit()
        finally:
            with suppress(Exception):  # the cluster may be gone
                self.client.cancel(list(numbers), force=True)
        return lost

    def _slots(self) -> int:
        """How many tasks run at the same time now: workers come and go."""
        if time.monotonic() - self._counted > COUNT_SECONDS:
            self.workers = max(1, self._devices())
            self._counted = time.monotonic()
        return self.workers

    def _devices(self) -> int:
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return sum(int(worker.get("resources", {}).get(RESOURCE, 0)) for worker in workers)

    def close(self) -> None:
        """End the connection, and an own cluster."""
        for one in (self.client, self._cluster):
            with suppress(Exception):
                one.close(timeout=5)

    def _check_workers(self) -> int:
        """How many tasks run at the same time. Raises UserError where no worker can ever take one."""
        with suppress(TimeoutError):
            self.client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        slots = self._devices()
        if not slots:
            where, count = self.execution.address or "the own cluster", len(self.client.nthreads())
            raise UserError(
                f"execution.address: none of the {count} workers of {where} has the resource {RESOURCE}; start "
                f'workers with `dask worker … --nthreads 1 --resources "{RESOURCE}=1"`'
            )
        return slots


@lru_cache(maxsize=1)
def _opened(execution_json: str) -> DaskExecutor:
    return DaskExecutor(Execution.model_validate_json(execution_json))


def _connected(execution: Execution) -> tuple:
    """(client, own cluster or None)"""
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")  # of the workers
    quiet_tracker()
    try:
        import dask
        import distributed
    except ImportError:
        raise UserError("execution.backend dask needs a package: pip install distributed") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": ALLOWED_LOSSES,
            "distributed.worker.daemon": False,  # workers have children: trainings, loading processes
            "distributed.admin.log-format": "%(message)s",
        }
    )
    if not execution.address:
        cluster = _own_cluster(execution)
        return distributed.Client(cluster, timeout=CONNECT_SECONDS), cluster
    is_file = "://" not in execution.address
    if is_file and not Path(execution.address).is_file():
        raise UserError(
            f"execution.address: {execution.address} is no scheduler file; write tcp://host:port, or the file that "
            "`dask scheduler --scheduler-file` wrote"
        )
    where = {"scheduler_file": execution.address} if is_file else {"address": execution.address}
    try:
        return distributed.Client(**where, timeout=CONNECT_SECONDS, set_as_default=False), None
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(
            f"execution.address: no scheduler answers at {execution.address} ({' '.join(str(error).split())[:200]}); "
            "start it, or correct the address"
        ) from None


def _own_cluster(execution: Execution):
    """A scheduler in this process and a nanny with one worker for each device, all bound to 127.0.0.1."""
    from distributed import Nanny, Scheduler, SpecCluster

    groups, workers = grouped(devices_of(execution), execution.per_member), {}
    for number, group in enumerate(groups):
        # A device is chosen before torch is imported: the nanny starts its worker with this environment.
        options = {
            "nthreads": 1, "resources": {RESOURCE: 1}, "memory_limit": 0, "host": "127.0.0.1",
            "env": environment_for(group, execution.threads, len(groups)), "silence_logs": logging.CRITICAL,
        }  # fmt: skip
        workers[number] = {"cls": Nanny, "options": options}
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"},
    }
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL)


def _called(function: Callable, arguments: tuple) -> tuple[object, str]:
    """(result, what the user has to mend), in the worker. Errors of the user need not be sent as objects."""
    Bar.quiet = True  # the driver shows one bar for all
    try:
        return function(*arguments), ""
    except UserError as error:
        return None, str(error)


def _check_lost(error: BaseException) -> None:
    """Raises what has failed otherwise than by the loss of workers."""
    kind = type(error).__name__
    if kind in ("FutureCancelledError", "CancelledError", "CommClosedError"):
        raise UserError("the Dask cluster has ended; start it and run the same command again, it goes on from here")
    if kind != "KilledWorker":
        raise error
