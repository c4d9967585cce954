"""What is chosen by trial, and how a time limit is shared."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from records import done

from lib.config.load import load
from lib.config.units import seconds
from lib.training.autotune import autotune, largest_batch_size
from lib.training.time_limit import Budget, members_in_time
from lib.workspace import Member, Workspace, write_json


def test_the_largest_batch_is_found_by_trial():
    def cuda(size):
        if size > 20:
            raise torch.OutOfMemoryError

    assert largest_batch_size(cuda, torch.device("cuda"), limit=1000) == 8
    assert largest_batch_size(lambda size: None, torch.device("cuda"), limit=5) == 4


def test_what_auto_comes_to_is_measured_once_and_used_again(tmp_path, monkeypatch):
    from lib.config.load import load
    from lib.training import autotune as settling
    from lib.training.trainer import TrainingData

    autos = ["--train.channels_last", "auto", "--train.compile", "auto", "--train.batch_size", "0"]
    config = load(None, ["--model.architecture", "tiny", "--train.epochs", "1", *autos])
    item = (torch.zeros(3, 32, 32, dtype=torch.uint8), torch.zeros(1, 32, 32), torch.ones(1, 32, 32), np.float32(1))
    sampler = SimpleNamespace(keys=lambda epoch: [0] * 16, size=16)
    data = TrainingData([item], sampler, 0, 0)
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: compiled.append(1) or network)
    settled = autotune(Workspace(tmp_path), config, 1, data, torch.device("cpu")).train
    assert settled.precision in ("fp32", "bf16") and 1 <= settled.batch_size == data.batch_size <= 16
    assert isinstance(settled.channels_last, bool) and isinstance(settled.compile, bool) and compiled
    monkeypatch.setattr(settling, "build_network", lambda *_: pytest.fail("measured again"))
    assert autotune(Workspace(tmp_path), config, 1, data, torch.device("cpu")).train == settled


def test_durations():
    assert [seconds(text) for text in ("25m", "1.5h", "90", "20 s")] == [1500, 5400, 90, 20]
    with pytest.raises(ValueError, match="25m"):
        seconds("soon")


def members_in(workspace, folds=3, seeds=2):
    return [Member("base", f, s, workspace.member_dir("base", f, s)) for s in range(seeds) for f in range(folds)]


def test_a_time_limit_leaves_out_seeds_first_then_folds(tmp_path):
    members = members_in(Workspace(tmp_path))
    for limit, names in ((1000, 6), (500, 3), (320, 3), (200, 2), (50, 1)):
        assert len(members_in_time(members, limit, overhead=20, min_seconds=80)) == names, limit
    assert {m.seed for m in members_in_time(members, 500, 20, 80)} == {0}


def test_a_time_limit_is_shared_and_remembered(tmp_path):
    workspace = Workspace(tmp_path)
    config = load(None, ["--train.time_limit", "10m", "--train.min_member_time", "60"])
    members = members_in(workspace, folds=2, seeds=1)
    budget = Budget(config, workspace, members, overhead=30)
    assert budget.seconds(members[0]) == 270
    write_json(members[0].path / "done.json", done(seconds=400.0))  # slower than thought
    assert budget.seconds(members[1]) == 170
    again = Budget(config, workspace, members, overhead=5)
    assert [again.seconds(member) for member in members] == [270, 170], "a resumed call gives the same"


def test_what_a_call_has_taken_and_members_took_beside_training_is_not_given_again(tmp_path):
    workspace = Workspace(tmp_path)
    config = load(None, ["--train.time_limit", "10m", "--train.min_member_time", "60"])
    members = members_in(workspace, folds=3, seeds=1)
    budget = Budget(config, workspace, members, overhead=30, started=time.monotonic() - 12)
    assert budget.seconds(members[0]) == pytest.approx((600 - 12) / 3 - 30 - 12, abs=1)
    first = done(seconds=220.0, train_seconds=166.0, beside_seconds=20.0)  # a first part of it was pretraining
    write_json(members[0].path / "done.json", first)
    assert budget.seconds(members[1]) == pytest.approx((600 - 12 - 220) / 2 - 20 - 12, abs=1)
    write_json(members[1].path / "done.json", done(seconds=20.0, beside_seconds=4.0))
    budget.started -= 300  # more has gone by than members say
    assert budget.seconds(members[2]) == pytest.approx(600 - 312 - 20 - 12, abs=1)


def test_time_is_shared_anew_for_other_members_and_trained_ones_do_not_count(tmp_path):
    workspace = Workspace(tmp_path)
    config = load(None, ["--train.time_limit", "10m", "--train.min_member_time", "60"])
    first, second = members_in(workspace, folds=2, seeds=1)
    assert Budget(config, workspace, [first], overhead=0).members == [first]
    assert Budget(config, workspace, [second], overhead=0).members == [second]
    for member in (first, second):  # by an ordinary call, before
        write_json(member.path / "done.json", done(seconds=100.0))
    assert Budget(config, workspace, [first, second], overhead=0).seconds(first) == 300
