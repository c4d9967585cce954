"""Measured choices and the ledger: many processes write at once and lose nothing; another machine measures anew."""

import json
import multiprocessing
from types import SimpleNamespace

import pytest
import torch
from writers import EACH, WRITERS, measure_once, write_much

from lib.config import load
from lib.submissions import ledger
from lib.system import device as devices
from lib.system.device import machine_of
from lib.training.time_limit import Budget
from lib.workspace import Member, Workspace


def at_once(function, *arguments):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=function, args=(*arguments, number)) for number in range(WRITERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def test_writers_at_once_lose_no_choice_and_no_row(tmp_path):
    at_once(write_much, tmp_path)
    workspace, wanted = Workspace(tmp_path), {(n, i) for n in range(WRITERS) for i in range(EACH)}
    assert workspace.choices.all() == {f"choice {n} {i}": [n, i] for n, i in wanted}
    table = ledger.read_ledger(workspace)
    assert sorted(table["file"]) == sorted(f"{n}_{i}.csv" for n, i in wanted)
    assert all(row.message == "sent " + row.file[:-4].replace("_", " ") for row in table.itertuples())


def test_of_many_that_want_one_choice_one_measures(tmp_path):
    at_once(measure_once, tmp_path)
    measured = (tmp_path / "measured").read_text().split()
    assert len(measured) == 1
    got = [json.loads((tmp_path / f"got{number}").read_text()) for number in range(WRITERS)]
    assert got == [{"by": int(measured[0])}] * WRITERS


def test_choices_of_an_older_version_are_read_and_never_written(tmp_path):
    old = json.dumps({"a": 1, "b": [2]})
    (tmp_path / "choices.json").write_text(old)
    workspace = Workspace(tmp_path)
    assert workspace.choice("a") == 1 and workspace.choose_once("b", lambda: pytest.fail("known")) == [2]
    workspace.choose("a", 3)
    assert workspace.choice("a") == 3 and workspace.choices.all() == {"a": 3, "b": [2]}
    assert (tmp_path / "choices.json").read_text() == old


def test_what_is_half_written_is_no_choice(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.choose("a", 1)
    (workspace.choices.folder / ".b_123.77.tmp.json").write_text('{"key": "b')
    assert workspace.choices.all() == {"a": 1}


def test_two_gpus_of_other_models_or_memory_are_two_machines(monkeypatch):
    cards = {0: ("NVIDIA T4", 15), 1: ("NVIDIA L4", 15), 2: ("NVIDIA T4", 30), 3: ("NVIDIA T4", 15)}

    def properties(device):
        name, gib = cards[device.index]
        return SimpleNamespace(name=name, total_memory=gib * 2**30)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    names = [machine_of(torch.device("cuda", index)) for index in cards]
    assert names[0] == names[3] and len(set(names)) == 3
    here = machine_of(torch.device("cpu"))
    monkeypatch.setattr(devices, "_cpu_model", lambda: "another CPU")
    assert machine_of(torch.device("cpu")) != here


def test_a_time_limit_is_shared_anew_where_options_or_the_machine_differ(tmp_path):
    workspace, config = Workspace(tmp_path), load(None, ["--train.time_limit", "10m"])
    members = [Member("base", fold, 42, workspace.member_dir("base", fold, 42)) for fold in (0, 1)]
    first = Budget(config, workspace, members, 30, made_from=[{"train.lr": 0.1}, "cpu"])
    given = first.seconds(members[0])
    for other in ([{"train.lr": 0.2}, "cpu"], [{"train.lr": 0.1}, "gpu"]):
        assert Budget(config, workspace, members, 100, made_from=other).seconds(members[0]) < given - 30
    assert Budget(config, workspace, members, 100, made_from=[{"train.lr": 0.1}, "cpu"]).seconds(members[0]) == given
