"""A stop of a stage on an own Dask cluster is one sentence, and nothing lives on."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("distributed")
ROOT = Path(__file__).resolve().parents[2]
SLEEPS = """
import time
from lib.config.execution import Execution
from lib.errors import run_script
from lib.execution.dask_executor import DaskExecutor

run_script(lambda argv: DaskExecutor(Execution(devices=["cpu"])).map(time.sleep, [(600,)] * 2, "test", "task", []))
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="Linux tells which processes live")
@pytest.mark.timeout(300)
def test_a_stop_of_a_cluster_is_one_sentence_and_ends_its_workers():
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPS], cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    try:
        shown = process.stderr.readline()
        assert shown.startswith("test: 0 %"), shown
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130 and errors == "\nstopped; run the same command again to go on from here\n"
    end = time.monotonic() + 30
    while subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True).returncode == 0:
        assert time.monotonic() < end, "a process lives on"
        time.sleep(0.2)
