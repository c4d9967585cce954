"""Two at once, and what the dead left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import contextmanager

import pytest
from faults.bench import Fault, nothing, put
from filelock import SoftFileLease

from lib.files import HOST
from lib.locks import LEASE_SECONDS

STAGES = {
    "01_preprocess": ("01_preprocess", ("--preprocess.stride", "48")),
    "02_make_folds": ("02_make_folds", ("--folds.leak_check", "true")),
    "03_train": ("03_base_fold0_seed42", ("--train.lr", "0.02", "--train.folds", "0")),
    "04_pseudo_label --train.round 1": ("04_pseudo_label_round1", ("--pseudo.max_tiles", "3")),
    "04_pseudo_label --clean": ("04_clean", ("--clean.list_below", "0.5")),
    "05_infer_ensemble": ("05_infer_ensemble", ("--infer.tta", "hflip")),
}
"""Command -> name of its claim, and options with which there is something to do."""
LEFT = (
    "work/.tiles.{owner}.tmp/tile.png", "work/.images.{owner}.tmp.csv", "work/manifests/.01.{owner}.tmp.json",
    "work/runs/base/fold0_seed42/.last.{owner}.tmp.pt", "work/oof/.a.{owner}.tmp.npz",
    "work/submissions/.answer.{owner}.tmp.csv", "work/pseudo/round1/.tiles.{owner}.tmp/tile.png",
    "work/report/csv/.costs.{owner}.tmp.csv",
)  # fmt: skip
DEAD = f"{HOST}-{2**22 + 1}-0123abcd"  # Linux gives no process so large a number
ALIVE = f"{HOST}-{os.getpid()}-0123abcd"


def held(name: str, bench: Callable[[], object]):
    """The context in which another process has a claim. A second lease of this process stands for it."""

    @contextmanager
    def during():
        locks = bench().folder / "work/locks"
        with SoftFileLease(locks / f"{name}.lease", lease_duration=LEASE_SECONDS):
            holder = {"host": HOST, "pid": os.getppid(), "since": "2026-11-30 12:00:00"}
            (locks / f"{name}.json").write_text(json.dumps(holder), encoding="utf-8")
            yield

    return during


@pytest.mark.parametrize("command", STAGES)
def test_the_second_is_told_who_does_it_and_since_when(bench, command):
    name, flags = STAGES[command]
    says = rf"{name} is running already in .*work: process {os.getppid()} on {HOST}, since 2026-11-30 12:00:00; wait"
    bench.check(Fault(name, nothing, command, says, flags=flags, during=held(name, lambda: bench), then=(command,)))


@pytest.mark.parametrize("stage", ["02_make_folds", "05_infer_ensemble"])
def test_the_next_start_deletes_what_the_dead_left_and_nothing_of_the_living(bench, stage):
    def leave(folder):
        for name in LEFT:
            for owner in (DEAD, ALIVE):
                put(name.format(owner=owner), "half")(folder)

    bench.check(Fault("left", leave, stage, does="up to date"))
    for name in LEFT:
        assert not (bench.folder / name.format(owner=DEAD)).exists(), name
        assert (bench.folder / name.format(owner=ALIVE)).exists(), name


def test_an_old_member_whose_successor_took_its_place_is_deleted_and_another_one_is_kept(bench):
    beside = "work/runs/.new/base"

    def leave(folder):
        put(f"{beside}/fold0_seed42.old/done.json", "{}")(folder)
        put(f"{beside}/fold5_seed42.old/done.json", "{}")(folder)

    bench.check(Fault("old members", leave, "02_make_folds", does="up to date"))
    assert [path.name for path in (bench.folder / beside).iterdir()] == ["fold5_seed42.old"]
