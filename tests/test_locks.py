"""Claims: one process at a time, whoever is second is told who is first, and the dead hold nothing."""

import fcntl
import multiprocessing
import os
import signal
import time

import pytest

from lib.errors import UserError
from lib.files import HOST, is_alive
from lib.locks import Claim, Held, release_all
from lib.workspace import read_json, write_json


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    release_all()


def hold(path, taken, seconds):
    Claim(path).take()
    taken.set()
    time.sleep(seconds)


def started(path, seconds=60.0):
    """A process that holds the claim."""
    context = multiprocessing.get_context("spawn")
    taken = context.Event()
    process = context.Process(target=hold, args=(path, taken, seconds))
    process.start()
    assert taken.wait(60)
    return process


def test_the_second_is_told_who_holds_it_and_since_when_and_the_dead_hold_nothing(tmp_path):
    path = tmp_path / "work/locks/01_preprocess.lock"
    process = started(path)
    with pytest.raises(Held) as refused:
        Claim(path).take()
    told, since = str(refused.value), read_json(path.with_suffix(".json"), {})["since"]
    assert isinstance(refused.value, UserError) and told == (
        f"01_preprocess is running already in {tmp_path / 'work'}: process {process.pid} on {HOST}, since {since}; "
        "wait until it has ended, or end it, and run the same command again"
    )
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    claim = Claim(path)
    claim.take()
    assert read_json(path.with_suffix(".json"), {})["pid"] == os.getpid()
    claim.release()
    assert not path.with_suffix(".json").exists()


def test_a_process_may_claim_again_what_it_has(tmp_path):
    path = tmp_path / "locks/a.lock"
    Claim(path).take()
    Claim(path).take()
    Claim(path).release()
    process = started(path, 0.0)
    process.join(30)
    assert process.exitcode == 0


def child_that_lives_on(path, taken, seconds):
    """Hold the claim, and fork a child that inherits it and outlives this process.

    The lock is not filelock's: some of its versions, and not all that are allowed, close it in the child.
    """
    path.parent.mkdir()
    write_json(path.with_suffix(".json"), {"host": HOST, "pid": os.getpid(), "since": "2026-11-30 12:00:00"})
    file = path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    if not os.fork():
        time.sleep(seconds)
        os._exit(0)
    taken.set()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("child_seconds", "given"), [(20, 0.3), (2, 60.0)], ids=["it lives on", "it ends in time"])
def test_a_lock_that_a_child_of_the_dead_holder_inherited_is_taken_over(tmp_path, monkeypatch, child_seconds, given):
    monkeypatch.setattr("lib.locks.DEAD_HOLDER_SECONDS", given)
    path = tmp_path / "locks/03_base_fold0_seed42.lock"
    context = multiprocessing.get_context("spawn")
    taken = context.Event()
    process = context.Process(target=child_that_lives_on, args=(path, taken, child_seconds))
    process.start()
    assert taken.wait(60)
    file = path.stat().st_ino
    while is_alive(process.pid):
        time.sleep(0.05)
    Claim(path).take()
    assert read_json(path.with_suffix(".json"), {})["pid"] == os.getpid()
    assert (path.stat().st_ino == file) == (child_seconds < given), "the file is given up only where the child lives on"


def test_a_holder_on_another_machine_is_never_taken_for_dead(tmp_path):
    path = tmp_path / "locks/a.lock"
    process = started(path)
    write_json(path.with_suffix(".json"), {"host": "elsewhere", "pid": 2**22 + 1, "since": "2026-01-01 00:00:00"})
    with pytest.raises(Held, match=r"process 4194305 on elsewhere, since 2026-01-01 00:00:00"):
        Claim(path).take()
    process.kill()
    process.join(30)


@pytest.mark.parametrize("record", ["", "[1]", '{"pid": "many"}'])
def test_a_damaged_record_of_the_holder_is_no_fault(tmp_path, record):
    path = tmp_path / "locks/a.lock"
    process = started(path)
    path.with_suffix(".json").write_text(record)
    with pytest.raises(Held, match="a is running already"):
        Claim(path).take()
    process.kill()
    process.join(30)
