"""05's mixtures and decisions on the tiny competition, as a user would ask for them."""

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


@pytest.fixture
def trained(tiny, capsys):
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, tiny, "--train.seeds", "42", "43", "--train.epochs", "4")
    capsys.readouterr()
    return tiny


def test_a_fitted_mixture_and_decision_reach_the_submission(trained, capsys):
    work = trained.parent / "work"
    flags = ["--infer.ensemble_weights", "greedy", "--infer.averaging", "geometric"]
    flags += ["--infer.postprocess", "objects", "holes"]
    run("05_infer_ensemble", trained, *flags)
    out = capsys.readouterr().out
    for line in ("ensemble, over the best member", "its mean and weights, over equal ones", "over a threshold"):
        assert line in out
    decision = json.loads((work / "decision.json").read_text())
    assert sum(decision["weights"].values()) == pytest.approx(1)
    nothing, rule = decision["rules"]
    assert nothing is None and set(rule) == {"low", "high", "area", "hole", "largest"}
    first = (work / "submission.csv").read_bytes()

    # Another decision takes the same out-of-fold maps; of the same one, the same bytes come out again.
    made = {path: path.stat().st_mtime_ns for path in (work / "oof").iterdir()}
    assert sorted(path.suffix for path in made) == [".maps", ".maps", ".npz", ".npz", ".shown", ".shown"]
    run("05_infer_ensemble", trained, "--infer.averaging", "geometric", "--infer.postprocess", "largest")
    run("05_infer_ensemble", trained, *flags, "--infer.max_gib", "0.00001")
    assert made == {path: path.stat().st_mtime_ns for path in (work / "oof").iterdir()}
    assert (work / "submission.csv").read_bytes() == first, "not changed by the memory allowed"


def test_images_are_inferred_at_another_scale_than_trained_at_and_answered_at_their_own_size(trained):
    from lib.competition import rle

    work, answers, scores = trained.parent / "work", set(), []
    for scale in ("0.5", "1", "1.5"):
        run("05_infer_ensemble", trained, "--infer.scale", scale, "--infer.window", "64", "--infer.tag", scale)
        about = json.loads(next((work / "submissions").glob(f"*_{scale}.json")).read_text())
        assert f"scale={float(scale)}" in about["windows"][0]
        table = pd.read_csv(work / "submission.csv", keep_default_na=False)
        masks = [rle.decode(text, 150 + 7 * i, 200 - 5 * i) for i, text in zip((6, 7), table["predicted"], strict=True)]
        answers.add(tuple(int(mask.sum()) for mask in masks))
        scores.append(about["oof_score"])
    assert len(answers) == 3 and len(set(scores)) == 3, "it changes nothing"


def test_an_object_that_is_too_small_is_in_no_submission(trained, monkeypatch):
    from lib.competition import rle
    from lib.decision import fit as fitting
    from lib.decision.objects.postprocess import Rule

    monkeypatch.setattr(fitting.Fitting, "rules", lambda *_: (None, Rule(128, high=129, area=400)))
    run("05_infer_ensemble", trained, "--infer.postprocess", "objects")
    some = pd.read_csv(trained.parent / "work/submission.csv", keep_default_na=False)["predicted"]
    monkeypatch.setattr(fitting.Fitting, "rules", lambda *_: (None, Rule(128, high=129, area=10**6)))
    run("05_infer_ensemble", trained, "--infer.postprocess", "objects", "--infer.tag", "none")
    none = pd.read_csv(trained.parent / "work/submission.csv", keep_default_na=False)["predicted"]
    assert (none == "").all() and (some != "").any()
    import cv2

    masks = [rle.decode(text, 150 + 7 * i, 200 - 5 * i) for i, text in zip((6, 7), some, strict=True)]
    areas = np.concatenate([cv2.connectedComponentsWithStats(mask)[2][1:, cv2.CC_STAT_AREA] for mask in masks])
    assert len(areas) and areas.min() >= 400


def test_maps_that_may_not_fit_the_disk_are_refused_at_once(trained):
    with pytest.raises(UserError, match=r"infer.maps_gib is 1e-05, and the out-of-fold maps of 6 images, 3 to each"):
        run("05_infer_ensemble", trained, "--infer.postprocess", "holes", "--infer.maps_gib", "0.00001")
    assert not list((trained.parent / "work").glob("oof/*"))
    with pytest.raises(UserError, match="infer.postprocess priors"):
        run("05_infer_ensemble", trained, "--infer.postprocess", "priors")
    with pytest.raises(UserError, match="infer.gate fit: no member has a classification head"):
        run("05_infer_ensemble", trained, "--infer.gate", "fit")
