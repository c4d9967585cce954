"""Several members at the same time, each in a process of its own on its own devices."""

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import make_tiny

from lib.config import load
from lib.errors import UserError
from lib.session import Session
from lib.training.spread import is_spread, longest_first, train_apart
from lib.workspace import ALL_FOLDS, Member, read_json

ROOT = Path(__file__).resolve().parents[2]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    config = make_tiny(tmp_path_factory.mktemp("spread"))
    for stage in ("01_preprocess", "02_make_folds"):
        run(stage, config)
    return config


def test_devices_that_are_named_or_a_cluster_train_members_apart():
    for flags, wanted in (
        ([], False), (["--execution.devices", "auto"], False), (["--execution.devices", "1"], True),
        (["--execution.devices", "cpu", "cpu"], True),
        (["--execution.per_member", "2"], True), (["--execution.backend", "dask"], True),
    ):  # fmt: skip
        assert is_spread(load(None, flags)) == wanted, flags


def test_the_longest_training_comes_first(tiled):
    session = Session(load(tiled))
    session.folds = pd.DataFrame({"image_id": [f"im{i}" for i in range(6)], "fold": [0, 1, 1, 1, 2, 2]})
    members = [Member("base", fold, 42, Path("x")) for fold in (1, 0, 2, ALL_FOLDS)]
    assert [member.fold for member in longest_first(members, session)] == [ALL_FOLDS, 0, 2, 1]


def test_a_time_limit_for_all_members_is_refused(tiled):
    session = Session(load(tiled, ["--train.time_limit", "60", "--execution.devices", "cpu", "cpu"]))
    with pytest.raises(UserError, match=r"train.time_limit .* set train.member_limit instead"):
        train_apart(session, [str(tiled)], [])


def test_the_first_failure_is_told_after_the_others_have_ended(tiled, monkeypatch):
    session, begun = Session(load(tiled, ["--execution.devices", "cpu", "cpu"])), []

    def child(name, command, environment, log):
        begun.append((name, environment["CUDA_VISIBLE_DEVICES"], log.name))
        return f"{name} failed" if "fold0" in name else ""

    monkeypatch.setattr("lib.training.spread.run_child", child)
    members = [Member("new", fold, 42, session.workspace.member_dir("new", fold, 42)) for fold in (0, 1)]
    with pytest.raises(UserError, match=r"^03: new/fold0_seed42 failed$"):
        train_apart(session, [str(tiled)], members)
    assert sorted(begun) == [(f"03: new/fold{i}_seed42", "", f"fold{i}_seed42.log.txt") for i in (0, 1)]


def test_on_a_cluster_the_lease_of_a_lost_machine_is_waited_for(tiled, monkeypatch):
    seen = []

    class Cluster:
        def map(self, function, arguments, *words):
            seen.extend(arguments)
            return [""] * len(arguments)

    address = ["--execution.address", "tcp://a:1"]
    config = load(tiled, ["--execution.backend", "dask", *address, "--execution.lease", "200"])
    session = Session(config)
    monkeypatch.setattr("lib.training.spread.executor", Cluster)
    members = [Member("far", fold, 42, session.workspace.member_dir("far", fold, 42)) for fold in (0, 1)]
    train_apart(session, [str(tiled), "--execution.backend", "dask", *address], members)
    assert [held for *_, held in seen] == [210, 210]
    alone = load(tiled, seen[0][1][2:]).execution
    assert (alone.backend, alone.address) == ("local", ""), "the child uses no cluster"


def weights(config, experiment):
    folder = config.parent / "work/runs" / experiment
    return {path.parent.name: torch.load(path, weights_only=True) for path in folder.glob("*/last_weights.pt")}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_members_on_two_devices_are_those_of_one_process(tiled, capsys):
    run("03_train", tiled, "--train.threads", "1")
    devices = ["--execution.devices", "cpu", "cpu", "--execution.threads", "1"]
    run("03_train", tiled, "--train.threads", "1", "--train.experiment", "apart", *devices)
    alone, apart = weights(tiled, "base"), weights(tiled, "apart")
    assert alone.keys() == apart.keys() == {"fold0_seed42", "fold1_seed42"}
    for name, tensors in alone.items():
        assert all(torch.equal(tensors[key], apart[name][key]) for key in tensors), name
    log = (tiled.parent / "work/runs/apart/fold0_seed42.log.txt").read_text()
    assert re.search(r"03: apart/fold0_seed42: OOF", log)
    assert "apart/fold1_seed42" in capsys.readouterr().out
    run("03_train", tiled, "--train.threads", "1", "--train.experiment", "apart", *devices)
    assert "03_apart_fold0_seed42: up to date" in capsys.readouterr().out
    assert (tiled.parent / "work/runs/apart/fold0_seed42.log.txt").read_text() == log, "no process was started"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_devices_share_each_member(tiled):
    flags = ["--execution.devices", "cpu", "cpu", "--execution.per_member", "2", "--train.folds", "0"]
    run("03_train", tiled, "--train.experiment", "pair", "--train.device", "cpu", *flags)
    done = read_json(tiled.parent / "work/runs/pair/fold0_seed42/done.json", {})
    assert done["steps"] == 12
