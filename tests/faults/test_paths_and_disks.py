"""Faults of names, folders and disks: nothing outside the workspace is touched, and a sentence names the path."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from faults.bench import (
    Fault,
    both,
    copy,
    delete,
    file_in_place_of,
    folder_in_place_of,
    link_circle,
    nothing,
    put,
)

MEMBER = "work/runs/base/fold0_seed42"
OUTSIDE = ("../../../victim", "../victim", "..", "/victim", "a/b", "a\\b", "", " ", "C:victim", "a\nb")
NAMES = {
    "train.experiment": "03_train", "competition.name": "01_preprocess", "infer.tag": "05_infer_ensemble",
    "infer.experiments": "05_infer_ensemble",
}  # fmt: skip
STAGE_OF = {"work/manifests": "01_preprocess", "work/tiles": "01_preprocess", "work/leaks": "02_make_folds",
            "work/runs": "03_train", "work/runs/base": "03_train", MEMBER: "03_train", "work/oof": "05_infer_ensemble",
            "work/submissions": "05_infer_ensemble", "work/report": "05_infer_ensemble",
            "work/choices": "05_infer_ensemble", "work/locks": "05_infer_ensemble"}  # fmt: skip
AGAIN = {"01_preprocess": ("--preprocess.stride", "48"), "02_make_folds": ("--folds.leak_check", "true"),
         "03_train": ("--train.lr", "0.02"), "05_infer_ensemble": ("--infer.tta", "hflip")}  # fmt: skip


def failing(number: int, call: str):
    """The context in which a function of the system fails, as on a disk that is read-only, broken or full."""

    @contextmanager
    def during():
        def fail(path, *_, **__):  # what fails on an open file does not know its name
            raise OSError(number, os.strerror(number), *[] if isinstance(path, int) else [str(path)])

        with mock.patch(call, fail):
            yield

    return during


DISK = [
    Fault(f"{what} in {stage}", nothing, stage, says, flags=AGAIN[stage], during=failing(number, call))
    for stage in AGAIN
    for what, number, call, says in (
        ("a read-only disk", errno.EROFS, "os.replace", "the disk is read-only; set workspace to a folder"),
        ("no permission", errno.EACCES, "os.replace", "there is no permission; change the permissions"),
        ("a broken disk", errno.EIO, "os.fsync", "the disk reports a fault; check the disk"),
        ("a full disk", errno.ENOSPC, "os.fsync", "the disk is full, or your share of it; make room"),
    )
]
FAULTS = [
    *(
        Fault(f"{option} is {value!r}", nothing, stage, f"{option}.*expected a name for files",
              flags=(f"--{option}", value))
        for option, stage in NAMES.items()
        for value in OUTSIDE
    ),
    *DISK,
    *(
        Fault(f"a file in the place of {name}", file_in_place_of(name), stage, "is a file where a folder is expected",
              flags=AGAIN[stage], mend=delete(name))
        for name, stage in STAGE_OF.items()
    ),
    *(
        Fault(f"a folder in the place of {name}", folder_in_place_of(name), stage,
              f"{Path(name).name}(: there is a| is damaged)", mend=delete(name), then=then, flags=flags)
        for name, stage, then, flags in (
            ("work/manifests/01_preprocess.json", "01_preprocess", (), ()),
            ("work/folds.csv", "03_train", ("02_make_folds",), ()),
            (f"{MEMBER}/done.json", "03_train", (), ()),
            (f"{MEMBER}/network.yaml", "05_infer_ensemble", ("03_train",), ("--infer.tta", "hflip")),
            (f"{MEMBER}/swa_weights.pt", "05_infer_ensemble", ("03_train",), ("--infer.tta", "hflip")),
            ("work/decision.json", "lib predict CONFIG raw/test/im6.png --out out", ("05_infer_ensemble",), ()),
        )
    ),
    *(
        Fault(f"{name} is a link to itself", link_circle(name), stage, says, mend=mend, then=then)
        for name, stage, says, mend, then in (
            ("work/images.csv", "02_make_folds", "images.csv does not exist yet; run 01", None, ("01_preprocess",)),
            ("work/folds.csv", "03_train", "folds.csv does not exist yet; run 02", None, ("02_make_folds",)),
            ("work", "01_preprocess", "work.*links lead in a circle; remove the links", delete("work"), ()),
        )
    ),
    Fault("a workspace with too long a name", nothing, "01_preprocess", "the name is too long for this disk",
          flags=("--workspace", "x" * 300)),
    Fault("tiles is a link to the user's folder",
          both(copy("work/tiles", "../victim/tiles"), delete("work/tiles"),
               lambda folder: (folder / "work/tiles").symlink_to("../../victim/tiles")),
          "01_preprocess", does="01: ", flags=AGAIN["01_preprocess"]),
    Fault("the workspace of a rehearsal is a link",
          both(put("../victim/mine/note.txt", "mine"),
               lambda folder: (folder / "work-preflight").symlink_to("../victim/mine")),
          "lib preflight CONFIG", does="forecast: about"),
    Fault("a record of predict names another file",
          both(put("out/im6.tif.json", '{"files": ["../../victim/mine.txt"], "made_from": {}}')),
          "lib predict CONFIG raw/test/im6.png", does="note: .*im6.tif.json is damaged", flags=("--out", "out")),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_faults(bench, fault):
    bench.check(fault)
