"""Several processes train one member as one process does."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lib.config.training import Model
from lib.errors import UserError, exit_code
from lib.failures.lost_processes import ANOTHER_ENDED
from lib.models.network import build_network
from lib.plugins import names
from lib.training.distributed import SINGLE_PROCESS, ProcessGroup, with_synced_batch_norm
from lib.training.losses import build_loss  # noqa: F401 (registers the losses)

ROOT = Path(__file__).resolve().parents[2]


def test_every_sample_of_a_batch_belongs_to_one_process():
    shares = [ProcessGroup(rank, 3).shard(list("abcdef")) for rank in range(3)]
    assert sorted(sum(shares, [])) == list("abcdef") and {len(share) for share in shares} == {2}
    assert SINGLE_PROCESS.shard([1, 2]) == [1, 2] and SINGLE_PROCESS.broadcast(0.5) == 0.5


def test_a_batch_need_not_divide_by_the_processes_but_each_needs_a_sample():
    assert [len(ProcessGroup(rank, 3).shard(list("abcde"))) for rank in range(3)] == [2, 2, 1]
    ProcessGroup(0, 3).check_batch_size(4)
    with pytest.raises(UserError, match=r"a batch of 2 cannot be shared by 3 .* raise train.batch_size to 3 or more"):
        ProcessGroup(0, 3).check_batch_size(2)


def run_ranks(folder, size, *words):
    """tests/training/ranks.py by torchrun, which starts it again once."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(size)]
    command = [*torchrun, "--max-restarts", "1", str(Path(__file__).with_name("ranks.py")), str(folder), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return torch.load(folder / f"{size}.pt", weights_only=True), done.stderr


@pytest.fixture(scope="module")
def by_size(tmp_path_factory):
    """What one, two and three processes (tests/training/ranks.py) make of the same batch and training."""
    folder = tmp_path_factory.mktemp("ranks")
    return {size: run_ranks(folder, size)[0] for size in (1, 2, 3)}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("classes", ["one", "exclusive", "overlapping"])
@pytest.mark.parametrize("name", names("loss"))
def test_processes_that_share_a_batch_compute_its_loss(by_size, name, classes):
    one, alone = by_size[1]["losses"][f"{name} {classes}"]
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in alone.values())
    for size in (2, 3):  # eight samples for three processes: 3, 3 and 2
        several, together = by_size[size]["losses"][f"{name} {classes}"]
        assert several == pytest.approx(one, rel=1e-5)
        assert alone.keys() == together.keys()
        for key, gradient in alone.items():
            assert torch.allclose(together[key], gradient, rtol=1e-4, atol=1e-6), (size, key)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [2, 3])
def test_accumulated_clipped_and_weighted_steps_are_those_of_one_process(by_size, size):
    one, several = (by_size[number]["training"] for number in (1, size))
    for part in ("network", "ema"):
        assert all(torch.allclose(one[part][key], several[part][key], atol=1e-6) for key in one[part]), part
    assert (one["unused"], several["unused"]) == (None, ["idle.weight", "idle.bias"]), "frozen where it would hang"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("size", "killed"), [pytest.param(2, 1, marks=pytest.mark.slow), (3, 0)])
def test_a_killed_process_is_one_sentence_and_the_restarted_training_ends_in_the_same_bytes(
    by_size, tmp_path, size, killed
):
    found, errors = run_ranks(tmp_path, size, str(killed))
    assert errors.count("run the same command again") + errors.count(ANOTHER_ENDED) == 1, errors
    assert "Traceback" not in errors.partition("torch.distributed.elastic")[0]
    calm, resumed = by_size[size]["training"], found["training"]
    for part in ("network", "ema"):
        assert all(torch.equal(calm[part][key], resumed[part][key]) for key in calm[part]), part


def test_only_the_first_of_the_processes_that_end_together_says_why(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fails(argv):
        raise UserError("train.lr is wrong")

    for name, value in {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_RESTART_COUNT": "0"}.items():
        monkeypatch.setenv(name, value)
    assert [exit_code(fails, []) for _ in range(2)] == [2, 2]
    assert capsys.readouterr().err == "error: train.lr is wrong\n"
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    exit_code(fails, [])
    assert capsys.readouterr().err == "error: train.lr is wrong\n", "after a restart it is said again"


def test_batch_norm_over_all_processes_has_the_same_tensors_and_needs_gpus():
    torch.manual_seed(0)
    network = build_network(Model(architecture="unet", weights="none"), 1).eval()
    twin = with_synced_batch_norm(network)
    assert {type(layer).__name__ for layer in twin.modules() if "BatchNorm" in type(layer).__name__} == {
        "SyncBatchNorm", "SyncBatchNormAct",
    }  # fmt: skip
    assert not any("Sync" in type(layer).__name__ for layer in network.modules())
    kept, shared = network.state_dict(), twin.state_dict()
    assert kept.keys() == shared.keys()
    assert all(kept[name].data_ptr() == shared[name].data_ptr() for name in kept)
    images = torch.rand(2, 3, 64, 64) * 255
    assert torch.equal(twin.eval()(images), network(images))
    with pytest.raises(UserError, match="train.sync_batch_norm is true, which works on GPUs only"):
        ProcessGroup(0, 2).wrap(network, synced=True)


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
