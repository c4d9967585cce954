"""Sections say when options or data have changed since they were made."""

import os
import runpy
from pathlib import Path

import cv2
import pytest

from lib.config import load
from lib.report.page import render_page
from lib.report.stale import outdated
from lib.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


@pytest.fixture
def done(tiny):
    """The tiny competition after all stages, one round and another experiment of other options."""
    run("01_preprocess", tiny)
    run("02_make_folds", tiny)
    run("03_train", tiny)
    run("03_train", tiny, "--train.experiment", "other", "--train.epochs", "1")
    run("04_pseudo_label", tiny, "--train.round", "1")
    run("03_train", tiny, "--train.round", "1")
    run("05_infer_ensemble", tiny, "--infer.experiments", "base")
    return tiny


def test_what_an_option_or_a_file_has_changed_is_outdated_and_what_rests_on_it(done):
    workspace, index = Workspace.of(load(done)), done.parent / "work/report/index.html"

    def old(*flags):
        return outdated(workspace, load(done, ["--infer.experiments", "base", *flags]))

    assert old() == {}, "another experiment's options, and a later round, are no change"
    assert 'class="stale"' not in index.read_text()
    assert old("--infer.threshold", "half") == {"05_infer_ensemble": "infer.threshold changed from fit to half"}
    assert old("--infer.tta", "flips")["04_pseudo_label_round1"] == "infer.tta changed from none to flips"
    assert old("--report.pictures", "1", "--quiet", "--jobs", "2", "--train.workers", "3") == {}
    trained = {f"03_base{round_}_fold{fold}_seed42" for round_ in ("", "-r1") for fold in (0, 1)}
    found = old("--train.epochs", "9")
    assert set(found) == trained | {"04_pseudo_label_round1", "05_infer_ensemble"}
    assert found["03_base_fold0_seed42"] == "train.epochs changed from 2.0 to 9.0"
    assert found["05_infer_ensemble"] == "03_base_fold0_seed42 is outdated"
    assert {"01_preprocess", "02_make_folds", "03_other_fold0_seed42"} <= set(old("--preprocess.tile_size", "64"))

    # The page says it where it is shown; the sections of what is up to date say nothing.
    text = render_page(load(done, ["--infer.experiments", "base", "--folds.seed", "9"])).read_text()
    sections = {part.split('"')[0]: part for part in text.split('<section id="')[1:]}
    assert "outdated" not in sections["data"].lower() and "Outdated: folds.seed changed from" in sections["folds"]
    assert "6 of 6 are outdated" in sections["training"] and "is outdated" in sections["oof"]

    sample = done.parent / "raw/sample_submission.csv"
    rows = sample.read_text()
    sample.write_text(rows + "\n")
    assert old() == {"05_infer_ensemble": f"{sample} changed"}, "it has the answer's rows"
    sample.write_text(rows)
    image = next((done.parent / "raw/train").glob("*.png"))
    os.utime(image, (1, 1))
    assert old() == {}, "the content decides, not the time of change"
    pixels = cv2.imread(str(image))
    cv2.imwrite(str(image), pixels[::-1])
    assert old()["01_preprocess"] == f"{image} changed"
    (workspace.root / "manifests/02_make_folds.json").unlink()
    text = render_page(load(done)).read_text()
    assert "Of an earlier run: 02_make_folds was begun anew and has not finished." in text
