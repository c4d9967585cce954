"""`auto` of windows and views: the rule, its trial on out-of-fold images, and what depends on the choice."""

import json
import runpy
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from lib.config import load
from lib.inference import members as members_of
from lib.inference.networks import Ensemble
from lib.inference.windows import Windows
from lib.oof.evaluation import Evaluation
from lib.predict import trials as trials
from lib.predict.auto_views import _recipes, _sizes, choose_variant
from lib.predict.trials import TimedEnsemble, TrialResult
from lib.report import look as looking
from lib.report.stale import outdated
from lib.workspace import Workspace
from tests.conftest import make_tiny

ROOT = Path(__file__).resolve().parents[2]


def right(*shares):
    """Counts of one image for each share of 1000 pixels that is right."""
    more = [round(1000 * share) - 500 for share in shares]
    return np.array([[[[500, 500, 1000 - n], [n, 500, n], [0, 0, 0]]] for n in more])


def found(seconds, *scores, pays=0.001, folds=(0, 0, 1, 1), groups="abcd"):
    """What is kept of `scores`, each a list of four images' shares, and the table."""
    config = load(None, ["--competition.classes", "a", "b", "--competition.metric", "pixel_accuracy",
                         "--infer.min_gain", str(pays)])  # fmt: skip
    evaluations = [Evaluation([f"im{i}" for i in range(4)], np.concatenate([right(share) for share in shares]))
                   for shares in scores]  # fmt: skip
    rows = pd.DataFrame({"image_id": evaluations[0].image_ids, "fold": folds, "group": list(groups)})
    names = ["none", "hflip", "d4"]
    return choose_variant(
        "infer.tta", names, names, TrialResult(evaluations, np.array(seconds), rows, False), 9, config
    )


PLAIN, BETTER, BEST = [0.9] * 4, [0.904] * 4, [0.906] * 4


@pytest.mark.parametrize("seconds, pays, kept", [
    ((1, 2, 8), 0.001, "hflip"),  # .903 for .903: the first of those that are alike
    ((1, 2, 7), 0.001, "d4"),
    ((1, 2, 8), 0.0005, "d4"),
    ((1, 2, 8), 0.0035, "hflip"),
    ((1, 2, 8), 0.0045, "none"),
    ((1, 32, 64), 0.001, "none"),
    ((8, 4, 8), 0.003, "hflip"),  # cheaper and better
])  # fmt: skip
def test_kept_is_what_scores_best_after_a_price_for_every_doubling_of_the_seconds(seconds, pays, kept):
    finding = found(seconds, PLAIN, BETTER, BEST, pays=pays)
    assert finding["chosen"] == kept
    assert [row["infer.tta"] for row in finding["rows"] if row[""] == "chosen"] == [kept]
    assert [row["seconds"] for row in finding["rows"]][:3] == [f"{each / seconds[0]:.2f}" for each in seconds]
    gains = [row["gain (95 % over 4 groups)"] for row in finding["rows"]]
    assert gains[0] is None and gains[1] == "+0.0040 (+0.0040 to +0.0040)"
    assert "on 4 of 9 out-of-fold images" in finding["note"]


def test_the_last_row_is_of_a_choice_that_does_not_know_its_images():
    # Flips help one fold and harm the other: what the one fold keeps is wrong for the other.
    finding = found((1, 1, 1), PLAIN, [0.95, 0.95, 0.88, 0.88], PLAIN)
    assert finding["chosen"] == "hflip" and finding["rows"][1]["OOF score"] > finding["rows"][0]["OOF score"]
    assert finding["rows"][-1]["infer.tta"] == "chosen on other folds"
    assert finding["rows"][-1]["OOF score"] == pytest.approx(np.mean([0.9, 0.9, 0.88, 0.88]))


def test_groups_of_one_fold_do_not_know_what_is_kept_on_the_others():
    # Flips help one group far more than they harm the others: only its own image keeps none.
    finding = found((1, 1, 1), PLAIN, [0.99, 0.88, 0.88, 0.88], PLAIN, folds=(0, 0, 0, 0))
    assert finding["chosen"] == "hflip" and finding["rows"][1]["OOF score"] > finding["rows"][0]["OOF score"]
    assert finding["rows"][-1]["infer.tta"] == "chosen on other groups of the fold"
    assert finding["rows"][-1]["OOF score"] == pytest.approx(np.mean([0.9, 0.88, 0.88, 0.88]))
    assert "The row 'chosen on other groups of the fold' is free of that" in finding["note"]
    assert len(found((1, 1, 1), PLAIN, BETTER, BEST, folds=(0, 0, 0, 0), groups="aaaa")["rows"]) == 3


def test_images_of_one_group_decide_nothing():
    finding = found((1, 1, 1), PLAIN, BETTER, BEST, groups="aaaa")
    assert finding["chosen"] == "none" and "all of one group, so the values cannot be compared" in finding["note"]
    assert found((1, 1, 1), PLAIN, BETTER, BEST, groups="aaab")["chosen"] == "d4"


def test_what_there_was_no_time_for_is_said():
    finding = found((1, 2), PLAIN, BETTER)
    assert finding["chosen"] == "hflip" and "There was no time for d4; raise infer.trial_limit" in finding["note"]


def test_windows_reach_no_further_than_images_and_free_views_need_overlaps():
    def sizes(size, height, width, scale=1.0):
        images = pd.DataFrame({"height": [50, height, 9999], "width": [50, width, 9999],
                               "split": ["train", "test", "unlabeled"]})  # fmt: skip
        return _sizes([Windows(size, 0.5, scale, "gaussian", 0.25)], images)

    assert sizes(256, 4000, 100) == [0, 384, 512]
    assert sizes(256, 4000, 100, scale=0.1) == [0, 384, 448]
    assert sizes(256, 300, 270) == [0, 320]
    assert sizes(256, 256, 200) == [0]
    overlapping = Windows(64, 0.5, 1.0, "gaussian", 0.25)
    for grid, free in ((overlapping, True), (Windows(64, 0.0, 1.0, "gaussian", 0), False),
                       (Windows(64, 0.5, 1.0, "constant", 0, "stretch"), False)):  # fmt: skip
        assert ("free" in _recipes([grid], None)) == free


EAGER = ["--infer.backend", "eager", "--train.epochs", "1"]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


class Flawed(nn.Module):
    """Finds the tiny competition's bright discs, but says less on one side of its windows, or nothing at their rim."""

    def __init__(self, flaw):
        super().__init__()
        self.flaw = flaw

    def forward(self, x):
        logits = (x.mean(1, keepdim=True) - 150) / 8
        if self.flaw == "side":
            return logits + torch.linspace(9, -9, x.shape[-1], device=x.device)
        rim = torch.full_like(logits, -9)
        rim[..., 20:-20, 20:-20] = logits[..., 20:-20, 20:-20]
        return rim if self.flaw == "rim" else logits


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    config = make_tiny(tmp_path_factory.mktemp("settle"))
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, config, *EAGER)
    return config


@pytest.fixture
def members(once, tmp_path, monkeypatch):
    """(YAML of the tiny competition, a function that says how all its members are flawed)."""
    values = yaml.safe_load(once.read_text())
    shutil.copytree(values["workspace"], tmp_path / "work")
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump({**values, "workspace": str(tmp_path / "work")}))

    def flaw(kind):
        monkeypatch.setattr(members_of, "load_network", lambda *_: Flawed(kind))

    return config, flaw


def choices(config):
    return Workspace(config.parent / "work").choices.all()


def chosen(config, option):
    return [value["chosen"] for key, value in choices(config).items() if key.startswith(f"infer.{option} ")]


def test_views_that_pay_are_kept_and_used_and_the_choice_is_made_once(members, capsys, monkeypatch):
    config, flaw = members
    work, plainly = config.parent / "work", [*EAGER, "--infer.overlap", "0"]
    auto = [*plainly, "--infer.tta", "auto"]
    flaw("side")
    monkeypatch.setattr(TimedEnsemble, "seconds", property(lambda self: self.windows * len(self.forward.views) / 9))
    met, plain = [], trials.Trial.image
    monkeypatch.setattr(trials.Trial, "image", lambda self, *rest: (met.append(rest), plain(self, *rest))[1])
    run("05_infer_ensemble", config, *auto)
    out = capsys.readouterr().out
    assert chosen(config, "tta") == ["hflip"], "what mends a flaw of left and right in two views"
    assert "infer.tta" in out and "chosen on other folds" in out and "on 6 of 6 out-of-fold images" in out
    folds = pd.read_csv(work / "folds.csv", comment="#").set_index("image_id")["fold"]
    assert {image for image, *_ in met} == set(folds.index), "no test image"
    assert all(folds[image] == fold for image, fold, _ in met)
    made_from = json.loads((work / "manifests/05_infer_ensemble.json").read_text())["made_from"]
    assert made_from["option infer.tta"] == "hflip"
    assert yaml.safe_load(next((work / "submissions").glob("*.yaml")).read_text())["infer"]["tta"] == "hflip"
    assert "Windows and views that were tried" in (work / "report/index.html").read_text()

    # Again: nothing to do; nor with the words themselves; `look` takes them too.
    met.clear()
    run("05_infer_ensemble", config, *auto)
    run("05_infer_ensemble", config, *plainly, "--infer.tta", "hflip")
    assert capsys.readouterr().out.count("up to date") == 2 and not met
    seen, scale_groups = [], looking.scale_groups

    def noted(session, parts, *rest, **more):
        seen.append(session.config.infer.tta)
        return scale_groups(session, parts, *rest, **more)

    monkeypatch.setattr(looking, "scale_groups", noted)
    looking.draw_look(load(config, auto), "im1")
    assert seen == ["hflip"] and not met

    # Another choice redoes what was made with it; another price makes the choice anew.
    first, maps, written = (work / "submission.csv").read_bytes(), set((work / "oof").glob("*.npz")), choices(config)
    key, finding = next(item for item in written.items() if item[0].startswith("infer.tta "))
    Workspace(work).choose(key, {**finding, "chosen": "vflip"})
    run("05_infer_ensemble", config, *auto)
    assert "infer.tta changed from hflip to vflip" in capsys.readouterr().out
    assert (work / "submission.csv").read_bytes() != first and set((work / "oof").glob("*.npz")) > maps and not met
    run("05_infer_ensemble", config, *auto, "--infer.min_gain", "1")
    assert sorted(chosen(config, "tta")) == ["none", "vflip"] and met


def test_seconds_are_of_windows_without_what_a_new_shape_of_batch_takes_once():
    built = set()

    def forward(windows):
        time.sleep(0.1 * (windows.shape not in built) + 0.01 * len(windows))
        built.add(windows.shape)
        return windows

    forward.runs, forward.map_count = [], 1
    clocked = TimedEnsemble(forward, set())
    for count in (8, 8, 3):
        assert len(clocked(np.zeros((count, 4, 4, 3)))) == count
    assert clocked.windows == 19 and clocked.seconds > 0.18
    assert min(clocked.per_window) >= 0.0099 and max(clocked.per_window) < 0.1 / 3, "building is not in it"


def test_windows_that_pay_are_kept(members, capsys, monkeypatch):
    config, flaw = members
    work, auto = config.parent / "work", [*EAGER, "--infer.window", "auto", "--infer.overlap", "0"]
    plain = Ensemble.member

    def by_pixels(self, network, images, views=None):
        time.sleep(1e-7 * images.numel() * len(views or self.views))
        return plain(self, network, images, views)

    monkeypatch.setattr(Ensemble, "member", by_pixels)
    flaw("rim")
    run("05_infer_ensemble", config, *auto)
    assert chosen(config, "window") == [128]
    assert "64 as trained" in capsys.readouterr().out
    windows = json.loads((work / "manifests/05_infer_ensemble.json").read_text())["facts"]["windows"]
    assert "size=128" in windows[0]
    assert outdated(Workspace(work), load(config, auto)) == {}, "what auto comes to is no other option"
    run("05_infer_ensemble", config, *auto, "--infer.min_gain", "9", "--infer.tta", "auto")
    assert sorted(chosen(config, "window")) == [0, 128] and chosen(config, "tta") == ["none"]
    assert "infer.window changed from 128 to 0" in capsys.readouterr().out


def test_a_trial_ends_in_time_and_a_wider_one_is_used_within_a_limit(members, capsys, monkeypatch):
    config, flaw = members
    flaw("none")
    auto, plain = [*EAGER, "--infer.overlap", "0", "--infer.tta", "auto"], Ensemble.member

    def slow(self, network, images, views=None):
        time.sleep(0.003 * len(images) * len(views or self.views))
        return plain(self, network, images, views)

    monkeypatch.setattr(Ensemble, "member", slow)
    run("05_infer_ensemble", config, *auto, "--infer.time_limit", "4")
    out = capsys.readouterr().out
    assert "on out-of-fold images, for at most 0 s" in out and "There was no time for" in out
    assert "05: plans " in out, "the limit's own plan of what was chosen"
    run("05_infer_ensemble", config, *auto, "--infer.trial_limit", "100")
    assert "on 6 of 6 out-of-fold images" in capsys.readouterr().out
    before = chosen(config, "tta")
    run("05_infer_ensemble", config, *auto, "--infer.trial_limit", "100", "--infer.time_limit", "20")
    assert chosen(config, "tta") == before and "on 6 of 6 out-of-fold images" in capsys.readouterr().out
