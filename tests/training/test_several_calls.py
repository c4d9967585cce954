"""The same 03 command started several times: every member is trained by one call alone."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from lib.config import load
from lib.locks import Claim, Held
from lib.stages import member_stage
from lib.training.distributed import SINGLE_PROCESS
from lib.training.member import member_inputs
from lib.training.train_member import TrainingJob, tell_left
from lib.workspace import Member, Workspace, read_json

ROOT = Path(__file__).resolve().parents[2]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def start(config, *flags):
    command = [sys.executable, str(ROOT / "03_train.py"), str(config), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.timeout(300)
def test_the_same_command_three_times_trains_each_member_once(tiny):
    for stage in ("01_preprocess", "02_make_folds"):
        run(stage, tiny)
    processes = [start(tiny, "--train.seeds", "1", "2", "--train.epochs", "6") for _ in range(3)]
    ended = [(*process.communicate(), process.returncode) for process in processes]
    trained = [name for out, _, _ in ended for name in re.findall(r"03: (base/fold\d_seed\d): OOF", out)]
    assert sorted(trained) == [f"base/fold{fold}_seed{seed}" for fold in (0, 1) for seed in (1, 2)], ended
    for out, errors, code in ended:
        assert code == 0 or (code == 2 and "is running already" in errors and "03: base" not in out), (out, errors)
    assert not list((tiny.parent / "work/locks").glob("03_*")), "all claims are given back"


@pytest.fixture
def job(tiny):
    for stage in ("01_preprocess", "02_make_folds"):
        run(stage, tiny)
    config = load(tiny)
    workspace = Workspace.of(config)
    member = Member("base", 0, 42, workspace.member_dir("base", 0, 42))
    session = type("Opened", (), {"config": config, "workspace": workspace})()
    yield TrainingJob(member, session, SINGLE_PROCESS, 1)
    Claim(workspace.root / "locks/03_base_fold0_seed42").release()


def test_a_member_that_another_call_has_just_finished_is_not_trained_again(job):
    left = []
    assert not job.is_finished()
    config, workspace = job.session.config, job.session.workspace
    member_stage(job.member, config, workspace, member_inputs(workspace, config)).finish([])
    assert not job.claim(left) and left == []
    assert not (workspace.root / "locks/03_base_fold0_seed42.lease").exists()


def test_a_member_that_another_call_trains_is_left_to_it(job, monkeypatch, capsys):
    def take(claim):
        raise Held("it is running already: process 7; wait")

    left = []
    with monkeypatch.context() as patch:
        patch.setattr("lib.locks.Claim.take", take)
        assert not job.claim(left) and len(left) == 1
    tell_left(left, trained=True)
    assert capsys.readouterr().out == "note: it is running already: process 7\n"
    with pytest.raises(Held, match="process 7; wait"):
        tell_left(left, trained=False)
    assert job.claim(left) and read_json(job.session.workspace.root / "locks/03_base_fold0_seed42.json", {})
