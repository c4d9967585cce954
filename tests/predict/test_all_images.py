"""One network of all images, and of the ensemble's soft labels: trained, judged by its folds' likes, and sent in."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import yaml

from lib import tables
from lib.__main__ import main
from lib.config import load
from lib.errors import UserError
from lib.report.stale import outdated
from lib.training.member import training_tiles
from lib.workspace import ALL_FOLDS, Workspace

ROOT = Path(__file__).resolve().parents[2]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def about(workspace):
    return json.loads(sorted(workspace.submissions.glob("*.json"))[-1].read_text())


def test_the_ensemble_becomes_one_network_of_all_images(tiny, capsys, monkeypatch):
    from lib.inference.checkpoints import named_checkpoints
    from lib.predict import write_submission as submit

    workspace = Workspace(tiny.parent / "work")
    for stage, *flags in (
        ["01_preprocess"], ["02_make_folds"], ["03_train"], ["04_pseudo_label", "--train.round", "1"],
        ["03_train", "--train.round", "1", "--train.folds", "0", "1", "all", "--train.evaluations", "1"],
    ):  # fmt: skip
        run(stage, tiny, *flags)
    out = capsys.readouterr().out
    assert "base-r1/all_seed42: all images, so no OOF score of its own" in out
    member = workspace.member_dir("base-r1", ALL_FOLDS, 42)
    done = json.loads((member / "done.json").read_text())
    assert member.name == "all_seed42" and done["score"] is None and done["steps"] > 0
    assert not (member / "best_weights.pt").exists(), "nothing to choose the best by"

    main(["chosen_round", str(tiny)])
    assert capsys.readouterr().out.strip() == "1", "the round that run_all.sh trains it in"

    config = load(tiny, ["--train.round", "1"])
    folds = tables.read(workspace.folds, tables.FOLDS, "02")
    own, *rest = (training_tiles(workspace, folds, fold, config) for fold in (ALL_FOLDS, 0, 1))
    true = own[~own["pseudo"]]
    assert set(true["image_id"]) == {f"im{i}" for i in range(6)} and len(true) == len(set(true["tile_id"]))
    assert all(0 < len(set(tiles.loc[~tiles["pseudo"], "image_id"])) < 6 for tiles in rest)
    labels = [set(tiles.loc[tiles["pseudo"], "mask_path"]) for tiles in (own, *rest)]
    assert labels[0] == labels[1] | labels[2] and not labels[1] & labels[2], "every fold's soft labels"

    run("05_infer_ensemble", tiny, "--infer.experiments", "base-r1", "--infer.tag", "each")
    each, sent = about(workspace), workspace.submission.read_bytes()
    capsys.readouterr()
    seen, plain = [], submit.predict_multi_scale

    def watched(sources, groups, *rest):
        seen.extend(groups)
        return plain(sources, groups, *rest)

    monkeypatch.setattr(submit, "predict_multi_scale", watched)
    run("05_infer_ensemble", tiny, "--infer.experiments", "base-r1", "--infer.folds", "all", "--infer.tag", "one")
    out = capsys.readouterr().out
    one = about(workspace)
    assert "trained on all images, of which there can be no out-of-fold score" in out
    assert one["members"] == ["base-r1/all_seed42 swa"] and one["judged"] == each["members"]
    assert [len(group.forward.runs) for group in seen] == [1], "a single network predicts"
    assert one["decision"] == each["decision"], "what the folds' members say"
    assert workspace.submission.read_bytes() != sent
    (part,) = named_checkpoints(one["members"], workspace)
    assert part.member.path == member
    assert np.isfinite(one["oof_score"])

    text = (workspace.report / "index.html").read_text()
    assert "base-r1 all seed42" in text, "its training is shown, too"
    why = outdated(workspace, load(tiny, ["--train.lr", "0.5"]))["03_base-r1_all_seed42"]
    assert why.startswith("train.lr changed")


def test_what_cannot_be_is_one_sentence(tiny, capsys):
    for stage in ("01_preprocess", "02_make_folds"):
        run(stage, tiny)
    soup = ["--train.soup", "true", "--train.checkpoints", "2"]
    with pytest.raises(UserError, match="train.folds all: train.soup goes by the scores"):
        run("03_train", tiny, "--train.folds", "all", *soup)
    with pytest.raises(UserError, match="train.folds names fold 7"):
        run("03_train", tiny, "--train.folds", "7", "all")
    run("03_train", tiny, "--train.folds", "0", "1")
    with pytest.raises(UserError, match="holds no member of all images; run 03_train.py .* --train.folds all first"):
        run("05_infer_ensemble", tiny, "--infer.folds", "all")
    run("03_train", tiny, "--train.folds", "all", "--train.seeds", "43")
    with pytest.raises(UserError, match="no fold has a member of the same model .* with train.seeds 43 too"):
        run("05_infer_ensemble", tiny, "--infer.folds", "all")
    run("03_train", tiny, "--train.folds", "all")
    capsys.readouterr()
    run("05_infer_ensemble", tiny, "--infer.folds", "all")
    assert "base/all_seed43 swa is left out: no fold has a member of the same model" in capsys.readouterr().out


@pytest.mark.slow
def test_under_a_time_limit_it_is_trained_as_its_judges_were(tiny, capsys):
    for stage in ("01_preprocess", "02_make_folds"):
        run(stage, tiny)
    # Time for the members of one seed.
    limit = ["--train.time_limit", "8", "--train.min_member_time", "3", "--train.seeds", "42", "43"]
    run("03_train", tiny, *limit)
    run("03_train", tiny, *limit, "--train.folds", "all")
    members = sorted(path.parent.name for path in (tiny.parent / "work/runs/base").glob("*/done.json"))
    assert members == ["all_seed42", "fold0_seed42", "fold1_seed42"], "no other could be judged"
    own, *judges = (
        yaml.safe_load((tiny.parent / f"work/runs/base/{name}/resolved.yaml").read_text())["train"] for name in members
    )
    assert 0 < own["member_limit"] == max(judge["member_limit"] for judge in judges) < 6
    run("05_infer_ensemble", tiny, "--infer.folds", "all")
    assert "predicted by base/all_seed42 swa, trained on all images" in capsys.readouterr().out
