"""docs/reference/files.md names every file of a workspace."""

import fnmatch
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = [
    pattern
    for row in re.findall(r"^\| (`[^|]+`) \|", (ROOT / "docs/reference/files.md").read_text("utf-8"), re.MULTILINE)
    for pattern in re.findall(r"`([^`]+)`", row)
]


def run(script, config, *flags):
    runpy.run_path(str(ROOT / f"{script}.py"))["main"]([str(config), *flags])


def unnamed(files: list[str]) -> list[str]:
    return [file for file in files if not any(fnmatch.fnmatch(file, pattern) for pattern in PATTERNS)]


def test_every_file_is_named(tiny):
    run("01_preprocess", tiny)
    run("02_make_folds", tiny)
    run("03_train", tiny, "--train.epochs", "1")
    run("04_pseudo_label", tiny, "--train.round", "1")
    run("04_pseudo_label", tiny, "--clean")
    run("05_infer_ensemble", tiny, "--infer.averaging", "geometric")
    work = tiny.parent / "work"
    files = [path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file()]
    assert len(files) > 60 and unnamed(files) == []


def test_an_unnamed_file_is_found():
    assert unnamed(["images.csv", "surprise.csv", "runs/base/fold0_seed42/notes.txt"]) == [
        "surprise.csv",
        "runs/base/fold0_seed42/notes.txt",
    ]
