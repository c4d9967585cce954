"""Several processes train one member as one process does."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lib.errors import UserError
from lib.plugins import names
from lib.training.distributed import SINGLE_PROCESS, ProcessGroup
from lib.training.losses import build_loss  # noqa: F401 (registers the losses)

ROOT = Path(__file__).resolve().parents[2]


def test_every_sample_of_a_batch_belongs_to_one_process():
    shares = [ProcessGroup(rank, 3).shard(list("abcdef")) for rank in range(3)]
    assert sorted(sum(shares, [])) == list("abcdef") and {len(share) for share in shares} == {2}
    assert SINGLE_PROCESS.shard([1, 2]) == [1, 2] and SINGLE_PROCESS.broadcast(0.5) == 0.5


def test_a_batch_that_cannot_be_shared_evenly_is_one_sentence():
    ProcessGroup(0, 2).check_batch_size(4)
    with pytest.raises(UserError, match=r"batches of 4 .* multiple of 3"):
        ProcessGroup(0, 3).check_batch_size(4)


@pytest.fixture(scope="module")
def by_size(tmp_path_factory):
    """What one and two processes (tests/training/ranks.py) make of the same batch and training."""
    folder, found = tmp_path_factory.mktemp("ranks"), {}
    for size in (1, 2):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(size)]
        command = [*torchrun, str(Path(__file__).with_name("ranks.py")), str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        found[size] = torch.load(folder / f"{size}.pt", weights_only=True)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("classes", ["one", "exclusive", "overlapping"])
@pytest.mark.parametrize("name", names("loss"))
def test_processes_that_share_a_batch_compute_its_loss(by_size, name, classes):
    (one, alone), (two, together) = (by_size[size]["losses"][f"{name} {classes}"] for size in (1, 2))
    assert two == pytest.approx(one, rel=1e-5)
    assert alone.keys() == together.keys() and any(float(gradient.abs().max()) > 1e-4 for gradient in alone.values())
    for key, gradient in alone.items():
        assert torch.allclose(together[key], gradient, rtol=1e-4, atol=1e-6), key


@pytest.mark.timeout(300)
def test_accumulated_clipped_and_weighted_steps_are_those_of_one_process(by_size):
    one, two = (by_size[size]["training"] for size in (1, 2))
    for part in ("network", "ema"):
        assert all(torch.allclose(one[part][key], two[part][key], atol=1e-6) for key in one[part]), part
    assert (one["unused"], two["unused"]) == (None, ["idle.weight", "idle.bias"]), "frozen where it would hang"


@pytest.mark.timeout(300)
def test_two_processes_end_where_one_does(tiny):
    for stage in ("01_preprocess", "02_make_folds"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(tiny)])
    options = [
        "--train.folds",
        "0",
        "--train.optimizer",
        "sgd",
        "--train.accumulate",
        "2",
        "--train.loss.terms",
        "{bce: 1}",
        "--train.frozen",
        "['1']",
        "--train.evaluations",
        "1",
        "--train.device",
        "cpu",
    ]  # fmt: skip  (batch norm, which sees its own process's share alone, is frozen)
    runpy.run_path(str(ROOT / "03_train.py"))["main"]([str(tiny), *options, "--train.experiment", "one"])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, str(ROOT / "03_train.py"), str(tiny), *options, "--train.experiment", "two"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("03: two/fold0_seed42: OOF") == 1
    ends = {}
    for name in ("one", "two"):
        member = tiny.parent / f"work/runs/{name}/fold0_seed42"
        ends[name] = torch.load(member / "last.pt", weights_only=True)
        lines = [json.loads(line) for line in (member / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines if "loss" in line] == [0, 1]
    assert ends["one"]["score"] == pytest.approx(ends["two"]["score"], abs=1e-6)
    one, two = (ends[name]["network"] for name in ("one", "two"))
    assert all(torch.allclose(one[key].float(), two[key].float(), atol=1e-6) for key in one)
