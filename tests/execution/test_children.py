"""Commands as child processes: their log, what went wrong, starts after a kill, and the end of their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.execution.children import CHILD, run_child

ROOT = Path(__file__).resolve().parents[2]


def script(folder, text):
    path = folder / "script.py"
    path.write_text(f"import os, signal, sys\nfrom pathlib import Path\nhere = Path({str(folder)!r})\n{text}")
    return [str(path)]


def test_a_command_gets_its_environment_and_writes_its_log(tmp_path):
    command = script(tmp_path, "print('on', os.environ['CUDA_VISIBLE_DEVICES'], sys.argv[1])")
    for _ in range(2):
        assert run_child("03: a", [*command, "x"], {"CUDA_VISIBLE_DEVICES": "5"}, tmp_path / "logs/log.txt") == ""
    assert (tmp_path / "logs/log.txt").read_text() == "on 5 x\non 5 x\n"


def test_a_sentence_of_the_command_names_its_log(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("error: of an earlier start\n")
    command = script(tmp_path, "print('error: tile 3 is damaged', file=sys.stderr); sys.exit(2)")
    assert run_child("03: a", command, {}, log) == f"tile 3 is damaged (see {log})"


def test_a_killed_command_is_started_again_three_times_at_most(tmp_path):
    log = tmp_path / "log.txt"
    dies = (
        "starts = here / 'starts'\nn = int(starts.read_text()) if starts.exists() else 0\n"
        "starts.write_text(str(n + 1))\n"
    )
    command = script(tmp_path, dies + "n < 2 and os.kill(os.getpid(), signal.SIGKILL)")
    assert run_child("03: a", command, {}, log) == "" and (tmp_path / "starts").read_text() == "3"
    command = script(tmp_path, dies + "os.kill(os.getpid(), signal.SIGKILL)")
    (tmp_path / "starts").unlink()
    assert run_child("03: a", command, {}, log) == (
        f"03: a ended 3 times by signal 9; memory may be short; its output is in {log}"
    )
    assert (tmp_path / "starts").read_text() == "3"


def test_work_that_a_lost_workers_child_still_has_is_waited_for(tmp_path):
    command = script(
        tmp_path,
        "if not (here / 'gone').exists():\n"
        "    (here / 'gone').touch(); print('error: 03_a is running already', file=sys.stderr); sys.exit(2)",
    )
    assert run_child("03: a", command, {}, tmp_path / "log.txt") == ""
    (tmp_path / "gone").unlink()
    assert "03_a is running already" in run_child("03: a", command, {}, tmp_path / "log.txt", held=-1.0)


ENDS = """
import sys, time
from lib.execution.children import end_as_child
end_as_child()
print("here", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="Linux tells which processes live")
@pytest.mark.parametrize("late", [False, True], ids=["while it runs", "before it looks"])
def test_a_child_ends_with_its_parent(late):
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    if not late:
        holder = f"import os, subprocess, sys; os.environ['{CHILD}'] = str(os.getpid());"
        code = f"{holder} subprocess.run([sys.executable, '-c', {ENDS!r}])"
        parent.kill()
        parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert parent.stdout.readline() == "here\n"
        child = int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()[0])
        parent.send_signal(signal.SIGKILL)
    else:
        parent.kill()
        parent.wait()
        environment = {**os.environ, CHILD: str(parent.pid)}
        process = subprocess.Popen([sys.executable, "-c", ENDS], cwd=ROOT, env=environment)
        assert process.wait(60) == 1
        return
    parent.wait()
    end = time.monotonic() + 30
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < end, "the child lives on"
        time.sleep(0.1)
