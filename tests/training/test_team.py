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
from lib.training.team import ALONE, Team

ROOT = Path(__file__).resolve().parents[2]


def test_every_sample_of_a_batch_is_one_processes():
    shares = [Team(rank, 3).share(list("abcdef")) for rank in range(3)]
    assert sorted(sum(shares, [])) == list("abcdef") and {len(share) for share in shares} == {2}
    assert ALONE.share([1, 2]) == [1, 2] and ALONE.leaders(0.5) == 0.5


def test_a_batch_that_cannot_be_shared_evenly_is_one_sentence():
    Team(0, 2).check(4)
    with pytest.raises(UserError, match=r"batches of 4 .* multiple of 3"):
        Team(0, 3).check(4)


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
