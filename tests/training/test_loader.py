"""Loading processes: they do not outlive the process that started them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trainings import data_of

from lib.errors import UserError
from lib.system.device import SHARE, loading_processes

ROOT = Path(__file__).resolve().parents[2]
# The parent is killed as it starts a worker, which goes on only after that.
KILLED_WHILE_IT_STARTS_A_WORKER = """
import os, signal, time
from types import SimpleNamespace
from lib.training.loader import TrainingData

def kill_parent():
    parent = os.getppid()
    os.kill(parent, signal.SIGKILL)
    while os.getppid() == parent:
        time.sleep(0.01)
    print("the worker goes on alone", flush=True)

os.register_at_fork(after_in_child=kill_parent)
sampler = SimpleNamespace(size=1, keys=lambda epoch, progress: [0])
next(TrainingData([0.0], sampler, workers=1, batch_size=1).batches(0))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
def test_a_worker_ends_with_its_parent_even_if_that_ends_first():
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_WHILE_IT_STARTS_A_WORKER], cwd=ROOT, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        printed, errors = process.communicate(timeout=60)  # until the worker, too, has closed its end
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == -signal.SIGKILL and printed == "the worker goes on alone\n", errors


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_tile_is_one_sentence(tiles, workers):
    tiles[3].image.write_bytes(b"no image")
    with pytest.raises(UserError) as raised:
        list(data_of(tiles, workers).batches(0))
    assert str(raised.value) == f"{tiles[3].image} cannot be read as an image; run 01_preprocess.py again"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loading_process_that_lacks_memory_is_one_sentence(tiles, workers, monkeypatch):
    def lacks(*_):
        raise MemoryError

    monkeypatch.setattr("lib.data.dataset.read_image", lacks)
    with pytest.raises(UserError, match="memory does not suffice to load a batch; lower train.workers"):
        next(data_of(tiles, workers).batches(0))


def test_workers_that_share_a_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    gpu, found = torch.device("cuda"), {}
    for sharing in (None, "3", "64"):
        if sharing:
            monkeypatch.setenv(SHARE, sharing)
        found[sharing] = loading_processes("auto", gpu)
    assert found == {None: 8, "3": 4, "64": 1}
    assert loading_processes("auto", torch.device("cpu")) == 0 and loading_processes(5, gpu) == 5
