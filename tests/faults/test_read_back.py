"""Faults of the files that stages write and read back: records, tables, tiles, weights, caches."""

from __future__ import annotations

import io
import os
import pickle

import pytest
import torch
from faults.bench import Fault, both, copy, delete, edit, flip, folder_in_place_of, half_the_rows, halve, put, replace

MEMBER = "work/runs/base/fold0_seed42"
MANIFESTS = "work/manifests"
ALL = ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble")
ANSWER = ("work/submission.csv",)


def saved(value: object) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


class Runs:
    """An object that runs a command when it is unpickled without care."""

    def __reduce__(self):
        return os.system, ("touch ../victim/ran",)


def damages(name: str) -> dict[str, object]:
    """The ways in which a JSON file can be damaged."""
    return {
        "empty": put(name, b""),
        "half": halve(name),
        "garbage": put(name, bytes(range(256))),
        "a list": put(name, "[1, 2]"),
        "null": put(name, "null"),
        "no keys": put(name, "{}"),
        "in UTF-16": edit(name, lambda content: content.decode().encode("utf-16")),
        "deeply nested": put(name, "[" * 100_000),
    }


def json_faults(name: str, run: str, says: str = "", does: str = "", **more: object) -> list[Fault]:
    """A fault for each way in which a JSON file can be damaged."""
    return [
        Fault(f"{name.rsplit('/', 1)[-1]} is {how}", change, run, says, does, **more)
        for how, change in damages(name).items()
    ]


FAULTS = [
    *json_faults(f"{MANIFESTS}/01_preprocess.json", "01_preprocess", does="note: .*01_preprocess.json is damaged"),
    *json_faults(
        f"{MANIFESTS}/03_base_fold0_seed42.json", "03_train", does="note: .*fold0_seed42.json is damaged",
        same=(f"{MEMBER}/last_weights.pt", f"{MEMBER}/swa_weights.pt"),
    ),
    *json_faults(
        f"{MEMBER}/done.json", "03_train", "done.json is damaged .* run 03_train.py again",
        mend=delete(f"{MEMBER}/done.json"), same=(f"{MEMBER}/swa_weights.pt",),
    ),
    *json_faults(
        "work/decision.json", "lib look CONFIG im0", "decision.json is damaged .* run 05_infer_ensemble.py again",
        then=("05_infer_ensemble",),
    ),
    # Tables
    Fault("images.csv is half", half_the_rows("work/images.csv"), "02_make_folds", "images.csv is not what 01_.* wrote",
          then=("01_preprocess",), same=("work/images.csv", "work/folds.csv")),
    Fault("images.csv has a header alone", edit("work/images.csv", lambda t: t.splitlines(True)[0]), "02_make_folds",
          "images.csv has a header and no row", then=("01_preprocess",)),
    Fault("images.csv lacks a column", replace("work/images.csv", ",width,", ",wide,"), "02_make_folds",
          "lacks the column.*width.*run 01_preprocess.py again", then=("01_preprocess",)),
    Fault("an image twice in images.csv", edit("work/images.csv", lambda t: t + t.splitlines(True)[1]), "02_make_folds",
          "more than one row for 'im0'", then=("01_preprocess",)),
    Fault("folds.csv is half", half_the_rows("work/folds.csv"), "03_train", "no row for the training image .*run 02",
          then=("02_make_folds",), same=("work/folds.csv",)),
    Fault("half a fold", edit("work/folds.csv", lambda t: t.replace(b",0,", b",0.5,", 1)), "03_train",
          "holds 0.5, which is not a whole number.*run 02", then=("02_make_folds",)),
    Fault("a stranger in folds.csv", edit("work/folds.csv", lambda t: t + b"stranger,x,0,\n"), "03_train",
          "row for 'stranger', which is not a training image", then=("02_make_folds",)),
    Fault("an image twice in folds.csv", edit("work/folds.csv", lambda t: t + t.splitlines(True)[2]), "03_train",
          "more than one row for image", then=("02_make_folds",)),
    Fault("a group in two folds", edit("work/folds.csv", lambda t: t.replace(b",0,", b",1,", 1)), "03_train",
          "group .* is in more than one fold", then=("02_make_folds",)),
    Fault("a test image in a fold", edit("work/folds.csv", lambda t: t + b"im6,im6,0,\n"), "05_infer_ensemble",
          "row for 'im6', which is not a training image", then=("02_make_folds",)),
    Fault("folds.csv is gone", delete("work/folds.csv"), "03_train", "folds.csv does not exist yet; run 02",
          then=("02_make_folds",), same=("work/folds.csv",)),
    # Tiles
    Fault("a tile is gone", delete("work/tiles/*.png"), "01_preprocess", does="again, because .*tiles changed"),
    Fault("a tile is gone, and a member is trained", delete("work/tiles/*.png"), "03_train",
          "tiles is not what 01_preprocess.py wrote.*run 01_preprocess.py again", then=("01_preprocess",),
          flags=("--train.lr", "0.02")),
    Fault("a tile is empty", put("work/tiles/*.png", b""), "03_train", "run 01_preprocess.py again",
          then=("01_preprocess",), flags=("--train.lr", "0.02")),
    Fault("a byte of a tile changed", flip("work/tiles/*.png"), "03_train", "run 01_preprocess.py again",
          then=("01_preprocess",), flags=("--train.lr", "0.02")),
    Fault("the tiles are gone", delete("work/tiles"), "01_preprocess", does="again, because .*tiles is gone"),
    # Weights and states
    Fault("weights are empty", put(f"{MEMBER}/swa_weights.pt", b""), "05_infer_ensemble",
          "swa_weights.pt is damaged.*run 03_train.py again", then=("03_train",), flags=("--infer.tta", "hflip"),
          same=(f"{MEMBER}/swa_weights.pt",)),
    Fault("weights are cut off", halve(f"{MEMBER}/swa_weights.pt"), "05_infer_ensemble", "swa_weights.pt is damaged",
          then=("03_train",), flags=("--infer.tta", "hflip")),
    Fault("last.pt is cut off", both(halve(f"{MEMBER}/last.pt"), delete(f"{MEMBER}/done.json")), "03_train",
          "last.pt is damaged .*delete .*fold0_seed42 and run 03", mend=delete(MEMBER)),
    Fault("half a line of the log",
          both(edit(f"{MEMBER}/metrics.jsonl", lambda t: t[:-9]), delete(f"{MEMBER}/done.json")),
          "03_train", does="fold0_seed42: OOF", same=(f"{MEMBER}/swa_weights.pt",)),
    Fault("network.yaml is empty", put(f"{MEMBER}/network.yaml", b""), "05_infer_ensemble", "network.yaml is damaged",
          then=("03_train",), flags=("--infer.tta", "hflip")),
    Fault("resolved.yaml of another version", replace(f"{MEMBER}/resolved.yaml", "  warmup:", "  gone: 1\n  warmup:"),
          "05_infer_ensemble", "resolved.yaml: unknown key train.gone", mend=delete(MEMBER), then=("03_train",),
          flags=("--infer.tta", "hflip")),
    *(
        Fault(f"{name} is {how}", change, "05_infer_ensemble", f"{name}(:| is damaged)", flags=("--infer.tta", "hflip"),
              mend=delete(MEMBER), then=("03_train",))
        for name in ("network.yaml", "resolved.yaml")
        for how, change in damages(f"{MEMBER}/{name}").items()
        if how not in ("no keys", "in UTF-16") or name == "network.yaml"
    ),
    Fault("the weights are text", put(f"{MEMBER}/swa_weights.pt", "weights"), "05_infer_ensemble",
          "swa_weights.pt is damaged", then=("03_train",), flags=("--infer.tta", "hflip")),
    Fault("the weights are of another network", edit(f"{MEMBER}/swa_weights.pt", lambda _: saved({"a": torch.ones(1)})),
          "05_infer_ensemble", "holds the weights of another network", then=("03_train",),
          flags=("--infer.tta", "hflip")),
    Fault("the weights are a list", edit(f"{MEMBER}/swa_weights.pt", lambda _: saved([1, 2])), "05_infer_ensemble",
          "swa_weights.pt is damaged", then=("03_train",), flags=("--infer.tta", "hflip")),
    Fault("the weights are numbers", edit(f"{MEMBER}/swa_weights.pt", lambda _: saved({"a": 1})), "05_infer_ensemble",
          "swa_weights.pt is damaged", then=("03_train",), flags=("--infer.tta", "hflip")),
    Fault("the weights would run code", edit(f"{MEMBER}/swa_weights.pt", lambda _: pickle.dumps(Runs())),
          "05_infer_ensemble", "swa_weights.pt is damaged", then=("03_train",), flags=("--infer.tta", "hflip")),
    Fault("weights are gone", delete(f"{MEMBER}/swa_weights.pt"), "03_train",
          does="again, because .*swa_weights.pt changed", same=(f"{MEMBER}/swa_weights.pt",)),
    *(
        Fault(f"last.pt is {how}", both(change, delete(f"{MEMBER}/done.json")), "03_train",
              "last.pt .*delete .*fold0_seed42 and run 03", mend=delete(MEMBER))
        for how, change in (
            ("empty", put(f"{MEMBER}/last.pt", b"")),
            ("text", put(f"{MEMBER}/last.pt", "state")),
            ("of another program", edit(f"{MEMBER}/last.pt", lambda _: saved({"epoch": 1}))),
            ("a list", edit(f"{MEMBER}/last.pt", lambda _: saved([1]))),
        )
    ),
    Fault("a network of two classes", replace(f"{MEMBER}/network.yaml", "channels: 1", "channels: 2"),
          "05_infer_ensemble", "has 2 outputs, and competition.classes makes 1", mend=delete(MEMBER),
          then=("03_train",), flags=("--infer.tta", "hflip")),
    # Caches
    Fault("a cache is empty", both(put("work/oof/*.npz", b""), delete(f"{MANIFESTS}/05_infer_ensemble.json")),
          "05_infer_ensemble", does="note: .*npz is damaged, so it is made again", same=ANSWER),
    Fault("a preview is cut off", both(halve("work/oof/*.shown"), delete(f"{MANIFESTS}/05_infer_ensemble.json")),
          "05_infer_ensemble", does="note: .*shown is damaged, so it is made again", same=ANSWER),
    # Stage 4
    Fault("a pseudo-label is gone", delete("work/pseudo/round1/tiles/*_fold0.png"), "03_train --train.round 1",
          "tiles is not what 04_pseudo_label.py --train.round 1 wrote", then=("04_pseudo_label --train.round 1",)),
    Fault("half of the pseudo-labels' table", half_the_rows("work/pseudo/round1/tiles.csv"), "03_train --train.round 1",
          "tiles.csv is not what 04_pseudo_label.py --train.round 1", then=("04_pseudo_label --train.round 1",)),
    Fault("half of the table of wrong labels", half_the_rows("work/clean/tiles.csv"), "03_train --clean.use true",
          "tiles.csv is not what 04_pseudo_label.py --clean wrote", then=("04_pseudo_label --clean",)),
    # Folders
    Fault("a copied member under a legal name", copy(MEMBER, "work/runs/base/fold0_seed43"), "05_infer_ensemble",
          does="note: .*fold0_seed43 is left out, because it holds the networks of base/fold0_seed42: it is a copy"),
    Fault("a member of a fold that is gone", copy(MEMBER, "work/runs/base/fold7_seed42"), "05_infer_ensemble",
          does="fold7_seed42 is left out"),
    Fault("a stranger's folder under runs", put("work/runs/base/notes/done.json", "{}"), "05_infer_ensemble",
          does="note: .*notes is left out", flags=("--infer.tta", "hflip")),
    Fault("a copied member", copy(MEMBER, f"{MEMBER} (copy)"), "05_infer_ensemble",
          does="note: .*copy. is left out", flags=("--infer.tta", "hflip")),
    Fault("a folder in the place of images.csv", folder_in_place_of("work/images.csv"), "02_make_folds",
          "images.csv: there is a folder where a file is expected", mend=delete("work/images.csv"),
          then=("01_preprocess",)),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_faults(bench, fault):
    bench.check(fault)
