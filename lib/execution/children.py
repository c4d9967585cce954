"""Commands as child processes: with their devices, their output in a log, and an end when their parent ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from lib.system.parallel import end_with_parent

ROOT = Path(__file__).resolve().parents[2]
STARTS = 3  # how often a command is started that is killed from outside
HELD_SECONDS = 10.0  # in which a child, which has the same work, ends after its parent on this machine
CHILD = "SEGMENTATION_CHILD_OF"  # environment variable: id of the process with which a child ends
INTERRUPTED = 130


def run_child(name: str, command: list[str], environment: dict[str, str], log: Path, held: float = HELD_SECONDS) -> str:
    """Run a command of Python's (a script with its arguments, or `-m` and a module). Empty, or what went wrong.

    Its output is added to `log`. A command that is killed is started again, because every stage continues where it was.
    Work that another process holds is tried again for `held` seconds, for that process may have died.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    killed, until = 0, time.monotonic() + held
    while True:
        begun = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
            variables = {**os.environ, **environment, CHILD: str(os.getpid()), "PYTHONPATH": path}
            code = subprocess.call([sys.executable, *command], env=variables, stdout=file, stderr=subprocess.STDOUT)
        if code == 0:
            return ""
        sentence = _last_error(log, begun)
        if code == INTERRUPTED:
            return f"{name} was stopped; run the same command again to go on from here"
        if "is running already" in sentence and time.monotonic() < until:
            time.sleep(1)
            continue
        if sentence and code > 0:
            return f"{sentence} (see {log})"
        killed += 1
        if killed == STARTS:
            reason = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            return f"{name} ended {STARTS} times {reason}; memory may be short; its output is in {log}"


def _last_error(log: Path, begun: int) -> str:
    with log.open("rb") as file:
        file.seek(begun)
        text = file.read().decode("utf-8", "replace")
    found = re.findall(r"^error: (.*)$", text, re.MULTILINE)
    return found[-1] if found else ""


def end_as_child() -> None:
    """Have this process end with its parent, if it is a child of `run_child`, or a process of its torchrun.

    The parent may have ended before this is called.
    """
    if parent := os.environ.get(CHILD):
        end_with_parent(int(parent))


if __name__ == "__main__":  # torchrun, which knows of no parent
    import runpy

    end_as_child()
    os.environ[CHILD] = str(os.getpid())
    sys.argv = ["torchrun", *sys.argv[1:]]
    runpy.run_module("torch.distributed.run", run_name="__main__")
