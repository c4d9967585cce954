"""Faults of what lies around: other people's folders and files, variables of the environment, answers of elsewhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from unittest import mock

import pytest
from faults.bench import Change, Fault, both, copy, delete, edit, halve, nothing, put
from PIL import Image

MEMBER = "work/runs/base/fold0_seed42"
ANEW, OTHER_VIEWS = ("--train.lr", "0.02"), ("--infer.tta", "hflip")
NO_WHEELS = ("--package.wheels", "false")
ANSWER = "work/submission.csv"


def variables(**values: str):
    """The context with these variables in the environment."""
    return lambda: mock.patch.dict(os.environ, values)


def answer(text: str) -> Change:
    return put(ANSWER, f"id,predicted\n{text}")


def other_pixels(name: str) -> Change:
    """An array's name for a picture's content."""
    return both(delete("raw/train/im1.png"), lambda folder: Image.new("RGB", (9, 9)).save(folder / name, "PNG"))


def moved(source: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / target).parent.mkdir(parents=True)
        shutil.copytree(folder / source, folder / target)

    return change


FOLDERS = [
    *(
        Fault(
            f"the workspace is {place}",
            nothing,
            "01_preprocess",
            rf"workspace: {place} lies where competition.train_images .* looks for images.*; give a folder",
            flags=("--workspace", place),
        )
        for place in ("raw", "raw/train")
    ),
    Fault(
        "a glob of all folders reaches the workspace",
        nothing,
        "01_preprocess",
        "workspace: work lies where",
        flags=("--competition.root", ".", "--competition.train_images", "**/*.png"),
    ),
    Fault(
        "a glob that reaches the workspace has too many braces",
        nothing,
        "01_preprocess",
        "is not a pattern of files",
        flags=("--competition.root", ".", "--competition.train_images", "{a,b}" * 20),
    ),
    Fault(
        "the images lie where tiles go",
        moved("raw", "home/tiles"),
        "01_preprocess",
        "competition.train_images: the images lie in .*home/tiles, which stages replace",
        flags=("--workspace", "home", "--competition.root", "home/tiles"),
    ),
    Fault(
        "somebody's folder lies where tiles go",
        put("home/tiles/mine.txt", "mine"),
        "01_preprocess",
        "home/tiles holds files that no stage has made",
        flags=("--workspace", "home"),
        mend=delete("home/tiles"),
    ),
    Fault(
        "somebody's folder lies where a rehearsal goes",
        put("work-preflight/mine.txt", "mine"),
        "lib preflight CONFIG",
        "work-preflight holds other files",
        mend=delete("work-preflight"),
    ),
    Fault(
        "a package in the place of somebody's notebook",
        both(put("pack/kernel-metadata.json", "{}"), put("pack/mine.ipynb", "mine")),
        "lib package CONFIG pack",
        "pack holds other files .mine.ipynb.; give a new folder",
        flags=NO_WHEELS,
        mend=delete("pack"),
    ),
    Fault(
        "a package in the place of a notebook's settings",
        put("pack/kernel-metadata.json", "{}"),
        "lib package CONFIG pack",
        "pack holds other files .kernel-metadata.json.",
        flags=NO_WHEELS,
    ),
    Fault(
        "predictions among the images",
        nothing,
        "lib predict CONFIG raw/test/im6.png",
        "--out: raw/test lies where competition.test_images .* looks for images",
        flags=("--out", "raw/test"),
    ),
]
WEIGHTS = [
    Fault(
        "the weights of another fold",
        copy("work/runs/base/fold1_seed42/swa_weights.pt", f"{MEMBER}/swa_weights.pt"),
        "05_infer_ensemble",
        "swa_weights.pt is not what 03_train.py wrote",
        flags=OTHER_VIEWS,
        then=("03_train",),
        same=(f"{MEMBER}/swa_weights.pt",),
    ),
    Fault(
        "the averaged weights are gone",
        delete(f"{MEMBER}/swa_weights.pt"),
        "05_infer_ensemble",
        "fold0_seed42 has no swa weights; run 03",
        flags=OTHER_VIEWS,
        then=("03_train",),
    ),
    Fault(
        "the averaged weights are gone, and are packaged",
        delete(f"{MEMBER}/swa_weights.pt"),
        "lib package CONFIG pack",
        "fold0_seed42 has no swa weights; run 03",
        flags=NO_WHEELS,
    ),
    Fault(
        "other weights are packaged",
        copy("work/runs/base/fold1_seed42/swa_weights.pt", f"{MEMBER}/swa_weights.pt"),
        "lib package CONFIG pack",
        "swa_weights.pt is not what 03_train.py wrote",
        flags=NO_WHEELS,
    ),
]
IMAGES = [
    Fault("a test image is replaced", lambda folder: Image.new("RGB", (50, 60)).save(folder / "raw/test/im6.png"),
          "05_infer_ensemble", "raw/test/im6.png is not the file that 01_preprocess.py read", flags=OTHER_VIEWS,
          then=("01_preprocess",)),
    Fault("a training image is cut off", halve("raw/train/im1.png"), "05_infer_ensemble",
          "raw/train/im1.png is not the file that 01_preprocess.py read", flags=OTHER_VIEWS),
    Fault("an image to be labeled is replaced", put("raw/test/im6.png", b""), "04_pseudo_label --train.round 1",
          "raw/test/im6.png is not the file that 01", flags=("--pseudo.max_tiles", "3")),
    Fault("labels are edited", edit("raw/train.csv", lambda text: text.replace(b" ", b" 1", 1)), "03_train",
          "raw/train.csv is not the file that 01_preprocess.py read: it was replaced, edited", flags=ANEW),
    Fault("half of the options of an answer",
          edit("work/submissions/*_ensemble.yaml", lambda text: text[: text.index(b"\ninfer:")]),
          "lib package CONFIG pack",
          "_ensemble.yaml is damaged .it lacks workspace, so its end is missing.; run 05", flags=NO_WHEELS),
]  # fmt: skip
ANSWERS = [
    Fault(
        "an answer with blanks in its ids",
        answer(" im6,\nim7,\n"),
        "lib check CONFIG",
        "the id ' im6' is 'im6' in the sample submission",
    ),
    Fault("an empty answer", put(ANSWER, b""), "lib check CONFIG", "has no column 'id'; it has none"),
    Fault(
        "an answer of control characters",
        put(ANSWER, bytes(range(128))),
        "lib check CONFIG",
        r"has no column 'id'; it has \\x00\\x01",
    ),
    Fault("an answer without a row", answer(""), "lib check CONFIG", "has 0 rows, the sample submission 2"),
    Fault("an answer with a stranger", edit(ANSWER, lambda text: text + b"im9,\n"), "lib check CONFIG", "has 3 rows"),
    Fault("an answer of half a run", answer("im6,1\nim7,\n"), "lib check CONFIG", "im6: the run-length has 1 numbers"),
    Fault("an answer outside of its image", answer("im6,1 99999999\nim7,\n"), "lib check CONFIG", "lies outside"),
    Fault("an answer that is NaN", answer("im6,nan\nim7,\n"), "lib check CONFIG", "the answer is NaN"),
    Fault("an answer whose runs overlap", answer("im6,1 5 3 5\nim7,\n"), "lib check CONFIG", "at 1 and 3 overlap"),
    Fault(
        "an answer with old line ends",
        edit(ANSWER, lambda text: text.replace(b"\n", b"\r")),
        "lib check CONFIG",
        "a carriage return alone ends no line",
    ),
    Fault(
        "an answer in UTF-16",
        edit(ANSWER, lambda text: text.decode().encode("utf-16")),
        "lib check CONFIG",
        "is not a CSV in UTF-8",
    ),
]
SURROUNDINGS = [
    *(
        Fault(f"torchrun left {left}", nothing, "03_train", says, flags=ANEW, during=variables(**left))
        for left, says in (
            ({"WORLD_SIZE": "two"}, "the variable WORLD_SIZE is 'two', but a number is expected; start 03_train.py by"),
            ({"WORLD_SIZE": "2"}, "the variable RANK is missing"),
            ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": ""}, "MASTER_PORT is missing"),
            ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0", "MASTER_PORT": "1"}, "RANK is 2, and WORLD_SIZE 2"),
        )
    ),
    Fault(
        "a rank without torchrun",
        nothing,
        "02_make_folds",
        does="02: 6 images in 2 groups",
        flags=("--folds.leak_check", "true"),
        during=variables(RANK="1"),
    ),
    Fault(
        "an array's name for a picture",
        other_pixels("raw/train/im1.npy"),
        "01_preprocess",
        "im1.npy is not a readable array .it does not begin as np.save writes it",
    ),
]
OPTIONS = [
    Fault(f"{option} {' '.join(words)}", nothing, "03_train", says, flags=(f"--{option}", *words))
    for option, words, says in (
        ("train.epochs", ("1e300",), "train.epochs: found '1e300'; input should be less than or equal to 1000000"),
        ("train.lr", ("1e300",), r"train.lr: found 1e\+300; numbers go up to 1e\+30"),
        ("train.loss.then", ("{0.5: {}}",), "train.loss.then: from 0.5 on, no loss has a weight above 0"),
        ("train.loss.class_weights", ("0", "0"), "train.loss.class_weights are all 0"),
        ("train.loss.soft_edges", ("100000",), "train.loss.soft_edges: found '100000'; input should be less than or"),
        ("model.decoder_channels", ("0",), "model.decoder_channels.0: found '0'; input should be greater than"),
        ("train.threads", ("10000",), "train.threads: found '10000'; input should be less than or equal to 1024"),
        ("train.device", ("meta",), "train.device: 'meta' cannot be used here"),
    )
] + [
    Fault("crops of one pixel", nothing, "03_train", does="OOF", flags=(*ANEW, "--train.crop", "1")),
    Fault("a member's options are gone", delete(f"{MEMBER}/resolved.yaml"), "05_infer_ensemble",
          "resolved.yaml, the options that base/fold0_seed42 was trained with, is gone; delete the member's folder",
          flags=OTHER_VIEWS, mend=delete(MEMBER), then=("03_train",)),
]  # fmt: skip
ODD_NAMES = {"a line end": b"/raw/train/im\n8.png", "bytes that are no text": b"/raw/train/im\xff.png"}


def named(name: bytes) -> Change:
    """One more image, of this name."""
    return lambda folder: shutil.copy(folder / "raw/train/im1.png", os.fsencode(folder) + name)


PROPOSALS = [
    *(Fault(f"init: a name with {what}", named(name), "lib init raw --name mine", does="written: configs/mine.yaml")
      for what, name in ODD_NAMES.items()),
    Fault("init: a name that is too long", nothing, "lib init raw", "cannot name a configuration; give up to 100",
          flags=("--name", "n" * 101)),
]  # fmt: skip
FAULTS = [*PROPOSALS, *OPTIONS, *FOLDERS, *WEIGHTS, *IMAGES, *ANSWERS, *SURROUNDINGS]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_faults(bench, fault):
    bench.check(fault)
