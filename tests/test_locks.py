"""Claims: one process at a time, whoever is second is told who is first, the dead hold nothing, the frozen find out."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.errors import UserError
from lib.files import HOST, replacing, replacing_dir, write_json, write_text
from lib.locks import Claim, Held, Lost, release_all
from lib.workspace import read_json

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    release_all()


def hold(path, taken, seconds, lease):
    Claim(path, lease).take()
    taken.set()
    time.sleep(seconds)


def started(path, seconds=60.0, lease=120.0):
    """A process that holds the claim."""
    context = multiprocessing.get_context("spawn")
    taken = context.Event()
    process = context.Process(target=hold, args=(path, taken, seconds, lease))
    process.start()
    assert taken.wait(60)
    return process


def test_the_second_is_told_who_holds_it_and_since_when_and_the_dead_hold_nothing(tmp_path):
    path = tmp_path / "work/locks/01_preprocess"
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
    claim, began = Claim(path), time.monotonic()
    claim.take()
    assert time.monotonic() - began < 5, "a dead holder on this machine is replaced at once"
    assert read_json(path.with_suffix(".json"), {})["pid"] == os.getpid()
    claim.release()
    assert not path.with_suffix(".json").exists() and not path.with_suffix(".lease").exists()


def test_a_process_may_claim_again_what_it_has(tmp_path):
    path = tmp_path / "locks/a.b"
    Claim(path).take()
    Claim(path).take()
    Claim(path).release()
    process = started(path, 0.0)
    process.join(30)
    assert process.exitcode == 0


def of_another_machine(path, age, lease=120.0):
    """A lease as a process of another machine leaves it, renewed `age` seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    marker = path.with_suffix(".lease")
    words = ["filelock/2", "pid=4242", "host=elsewhere", "mode=lease", f"token={'ab' * 16}", f"duration={lease!r}"]
    marker.write_text("\n".join(words) + "\n")
    os.utime(marker, (time.time() - age,) * 2)
    write_json(path.with_suffix(".json"), {"host": "elsewhere", "pid": 4242, "since": "2026-01-01 00:00:00"})
    return marker


def test_a_holder_on_another_machine_that_renews_its_lease_keeps_it(tmp_path):
    path = tmp_path / "locks/a"
    of_another_machine(path, 30)
    with pytest.raises(Held, match=r"process 4242 on elsewhere, since 2026-01-01 00:00:00"):
        Claim(path).take()


def test_a_holder_on_another_machine_is_replaced_after_its_lease_and_not_before(tmp_path):
    path = tmp_path / "locks/a"
    of_another_machine(path, 1000, 1.5)
    began = time.monotonic()
    Claim(path, 1.5).take()
    assert 1.4 < time.monotonic() - began < 10
    assert read_json(path.with_suffix(".json"), {})["pid"] == os.getpid()


def test_an_old_lease_that_is_renewed_while_one_waits_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "locks/a"
    marker, naps = of_another_machine(path, 1000, 30.0), []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            os.utime(marker)

    monkeypatch.setattr("lib.locks.time.sleep", sleep)
    with pytest.raises(Held, match="on elsewhere"):
        Claim(path, 30.0).take()
    assert len(naps) == 3


def test_processes_with_other_leases_are_told(tmp_path):
    path = tmp_path / "locks/a"
    of_another_machine(path, 10, 60.0)
    with pytest.raises(Held, match=r"4242 on elsewhere.*another execution.lease"):
        Claim(path, 30.0).take()


FROZEN = """
import sys, time
from pathlib import Path
from lib.errors import run_script
from lib.files import write_text
from lib.locks import Claim

def main(argv):
    folder = Path(argv[0])
    Claim(folder / "locks/03_base_fold0_seed42", 1.5).take()
    write_text(folder / "before", "1")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.02)
        if (folder / "awake").exists():
            write_text(folder / argv[1], "after the sleep")

run_script(main)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be frozen here")
def test_a_frozen_holder_finds_out_when_it_wakes_and_ends_before_it_writes(tmp_path):
    command = [sys.executable, "-c", FROZEN, str(tmp_path), "result"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "before").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGSTOP)
    claim = Claim(tmp_path / "locks/03_base_fold0_seed42", 1.5)
    with pytest.raises(Held):
        claim.take()
    time.sleep(1.6)
    claim.take()
    (tmp_path / "awake").touch()
    os.kill(process.pid, signal.SIGCONT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2 and errors.count("\n") == 1, errors
    assert re.search(rf"taken over by process {os.getpid()} on {HOST}, because this process did not answer", errors)
    assert not (tmp_path / "result").exists() and not list(tmp_path.glob(".*.tmp*"))
    claim.check()
    assert read_json(claim._holder, {})["pid"] == os.getpid(), "the frozen holder leaves its successor's claim alone"


def test_nothing_is_put_in_place_after_a_claim_was_lost(tmp_path, monkeypatch):
    path = tmp_path / "locks/a"
    claim, clock = Claim(path, 30.0), [1000.0]
    monkeypatch.setattr("lib.locks.now", lambda: clock[0])
    claim.take()
    of_another_machine(path, 0, 30.0)
    write_text(tmp_path / "soon", "1")  # the lease is not read each time
    (tmp_path / "old").mkdir()
    (tmp_path / "log").write_text("")

    def folder():
        with replacing_dir(tmp_path / "old") as new:
            (new / "x").touch()

    def file():
        with replacing(tmp_path / "new") as new:
            new.touch()

    from lib.training.resume import append_log

    for write in (folder, file, lambda: append_log(tmp_path / "log", {"step": 1})):
        Claim._own[claim.path] = claim
        clock[0] += 11
        with pytest.raises(Lost, match="a in .* was taken over by process 4242 on elsewhere"):
            write()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["locks", "log", "old", "soon"]
    assert not list((tmp_path / "old").iterdir()) and not (tmp_path / "log").read_text()


def test_a_lease_is_renewed_while_its_holder_works(tmp_path):
    path = tmp_path / "locks/a"
    process = started(path, 60.0, 1.5)
    time.sleep(2)
    with pytest.raises(Held):
        Claim(path, 1.5).take()
    process.kill()
    process.join(30)


@pytest.mark.parametrize("record", ["", "[1]", '{"pid": "many"}'])
def test_a_damaged_record_of_the_holder_is_no_fault(tmp_path, record):
    path = tmp_path / "locks/a"
    process = started(path)
    path.with_suffix(".json").write_text(record)
    with pytest.raises(Held, match="a is running already"):
        Claim(path).take()
    process.kill()
    process.join(30)


def test_only_one_of_many_takes_a_dead_holders_claim(tmp_path):
    path = tmp_path / "locks/a"
    process = started(path)
    process.kill()
    process.join(30)
    context, results = multiprocessing.get_context("spawn"), []
    results = context.Queue()
    racers = [context.Process(target=race, args=(path, results)) for _ in range(3)]
    for racer in racers:
        racer.start()
    found = [results.get(timeout=60) for _ in racers]
    for racer in racers:
        racer.join(30)
    assert sorted(found) == ["held", "held", "taken"]


def race(path, results):
    try:
        Claim(path).take()
        results.put("taken")
        time.sleep(3)
    except Held:
        results.put("held")
