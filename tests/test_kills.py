"""Nothing is lost: stages that are killed or stopped go on, and end in the same answer."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BOTH_STOPS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def start(*command):
    """A process in a group of its own, as a terminal would start it."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=ROOT, start_new_session=True, stdout=pipe, stderr=pipe, text=True
    )


def check_stopped(process):
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.count("run the same command again") == 1
    assert "Traceback" not in errors and "rror" not in errors and "leaked" not in errors, errors


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_disturbed_stages_end_in_the_same_files_byte_for_byte(tmp_path):
    """A small sample of what benchmarks/chaos.py does."""
    process = start("benchmarks/chaos.py", "--kills", 24, "--faults", 6, "--pairs", 3, "--folder", tmp_path / "chaos")
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    found = json.loads(printed.splitlines()[-1])
    assert found["kills"] >= 24 and found["full_disks"] + found["read_only"] == 6 and found["pairs"] == 3
    assert found["differences"] == found["unclear"] == found["leftovers"] == found["hangs"] == 0, printed


@pytest.mark.slow
@BOTH_STOPS
def test_a_stop_reaches_the_whole_group_and_is_one_sentence(tiny, number):
    for stage in ("01_preprocess", "02_make_folds"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(tiny)])
    process = start("03_train.py", tiny, "--train.workers", "2", "--train.epochs", "100000")
    log = tiny.parent / "work/runs/base/fold0_seed42/metrics.jsonl"
    while not log.is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    os.killpg(process.pid, number)
    check_stopped(process)


WORKS_IN_PROCESSES = """
import os, sys, time
from pathlib import Path
from lib.errors import run_script
from lib.system.parallel import parallel

def work(number):
    Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(600)

run_script(lambda argv: parallel(work, [(i,) for i in range(8)], 2, "test", "number"))
"""


def in_processes(folder):
    """(a script that waits for two processes, their ids)"""
    code = WORKS_IN_PROCESSES.replace("sys.argv[1]", repr(str(folder)))
    process = start("-c", code)
    while len(ids := [int(path.name) for path in folder.iterdir()]) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process, ids


def check_ended(ids):
    end = time.monotonic() + 30
    while any(Path(f"/proc/{number}").exists() for number in ids):
        assert time.monotonic() < end, "a process lives on"
        time.sleep(0.05)


@BOTH_STOPS
def test_a_stop_of_parallel_work_is_one_sentence(tmp_path, number):
    process, ids = in_processes(tmp_path)
    os.killpg(process.pid, number)
    check_stopped(process)
    check_ended(ids)


@pytest.mark.skipif(not Path("/proc").exists(), reason="Linux tells which processes live")
def test_processes_end_with_the_one_that_started_them(tmp_path):
    process, ids = in_processes(tmp_path)
    process.kill()
    process.communicate()
    check_ended(ids)


def test_a_process_that_is_killed_ends_the_script_with_one_sentence(tmp_path):
    process, ids = in_processes(tmp_path)
    os.kill(ids[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if not line.startswith("test:")]
    assert process.returncode == 2 and len(lines) == 1 and "a process of `test` was killed" in lines[0], errors
    check_ended(ids)
