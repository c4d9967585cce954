"""Nothing is lost: stages that are killed or stopped go on, and end in the same answer."""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STAGES = [
    ("01_preprocess", 0), ("02_make_folds", 0), ("03_train", 0), ("04_pseudo_label", 1), ("03_train", 1),
    ("05_infer_ensemble", 1),
]  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def start(stage, config, *flags):
    """A stage in a process group of its own, as a terminal would start it."""
    command = [sys.executable, str(ROOT / f"{stage}.py"), str(config), *flags]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=pipe, stderr=pipe, text=True)


def test_killed_at_many_instants_the_submission_is_the_same_byte_for_byte(tiny, tmp_path):
    flags = ["--train.epochs", "30", "--train.workers", "1"]
    for stage, round_ in STAGES:  # each in a process of its own: loaders fork, and pytest has threads
        calm = start(stage, tiny, *flags, "--workspace", str(tmp_path / "calm"), "--train.round", str(round_))
        _, errors = calm.communicate()
        assert calm.returncode == 0, errors
    flags += ["--workspace", str(tmp_path / "killed")]
    kills = 0
    for stage, round_ in STAGES:
        delay = 3.0
        while True:
            process = start(stage, tiny, *flags, "--train.round", str(round_))
            try:
                _, errors = process.communicate(timeout=delay)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
                delay += 1.5
                continue
            assert process.returncode == 0, errors
            break
    assert kills >= 6
    calm, killed = ((tmp_path / name / "submission.csv").read_bytes() for name in ("calm", "killed"))
    assert calm == killed and len(calm) > 100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_reaches_the_whole_group_and_is_one_sentence(tiny, number):
    for stage in ("01_preprocess", "02_make_folds"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(tiny)])
    process = start("03_train", tiny, "--train.workers", "2", "--train.epochs", "100000")
    log = tiny.parent / "work/runs/base/fold0_seed42/metrics.jsonl"
    while not log.is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "run the same command again" in errors
    assert "Traceback" not in errors and "Error" not in errors, errors
