import os
import signal

import pytest
from joblib import Parallel

from lib.errors import UserError
from lib.system.parallel import parallel


def double(number):
    return 2 * number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order():
    assert parallel(double, [(i,) for i in range(9)], 2, "test", "number") == list(range(0, 18, 2))


def test_no_more_processes_start_than_there_is_work_for(monkeypatch):
    started = []

    def counting(n_jobs, **options):
        started.append(n_jobs)
        return Parallel(n_jobs=1, return_as=options["return_as"])

    monkeypatch.setattr("lib.system.parallel.Parallel", counting)
    for count in (2, 1, 0):
        assert parallel(double, [(1,)] * count, 100_000, "test", "number") == [2] * count
    assert started == [2, 1, 1]


def test_a_killed_process_is_one_sentence_and_the_next_work_goes_on():
    with pytest.raises(UserError, match="a process of `test` was killed; memory may be short"):
        parallel(die, [(i,) for i in range(4)], 2, "test", "number")
    assert parallel(double, [(1,), (2,)], 2, "test", "number", work=[3, 1]) == [2, 4]
