"""Competitions whose test images are put in when a notebook is scored: there is none here, and a sample of one line."""

import runpy
import shutil

from tests.conftest import ROOT


def test_without_test_images_the_answer_is_the_head_alone(tiny, capsys):
    raw = tiny.parent / "raw"
    shutil.rmtree(raw / "test")
    (raw / "test").mkdir()
    (raw / "sample_submission.csv").write_text("id, predicted\n")
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(tiny), "--infer.window", "96"])
    said = " ".join(capsys.readouterr().out.split())
    assert (tiny.parent / "work/submission.csv").read_text() == "id, predicted\n"
    assert "there is no test image, so the answer is a copy of the sample submission" in said
    assert "python -m lib package` makes a notebook" in said
