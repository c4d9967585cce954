"""05 inside a time limit: a first pass for all, planned, never late, and going on as it was planned after a kill."""

import json
import runpy
import shutil
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny
from torch import nn

from lib.config import load
from lib.imaging.grid import window_starts
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.windows import Windows
from lib.oof import out_of_fold as maps_of_folds
from lib.oof.score_images import in_turns
from lib.predict import time_plan as planning
from lib.predict import workload
from lib.predict.time_pacer import FirstPass, GroupWork, Pace, PacedEnsemble, TimeOver
from lib.predict.time_plan import Planner, rank_by_gain
from lib.predict.workload import enough_images, expected_windows, measured, warm
from lib.session import Session
from lib.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def simulate(limit, windows, expected, truly, between=0.0, batch=8, rest=0.0):
    """(seconds taken, passes of each batch, seconds expected at first) of a group whose passes truly take `truly(i)`
    times what is expected, and whose windows take `between` seconds beside them, in all `rest` as far as foreseen."""
    clock, counts = Clock(), []
    pace = Pace(limit, [GroupWork(windows, expected)], rest, clock=clock)
    foretold = pace.expected()
    for done in range(0, windows, batch):
        (count,) = pace.plan()
        seconds = batch * sum(expected[:count]) * truly(done / windows)
        clock.now += seconds + between * batch
        pace.took(0, batch, count, seconds)
        counts.append(count)
    return clock.now, counts, foretold


SCENES = {
    "as expected": lambda done: 1.0,
    "twice as slow": lambda done: 2.0,
    "faster": lambda done: 0.5,
    "slow from the middle on": lambda done: 1.0 if done < 0.5 else 1.6,
}


@pytest.mark.parametrize("between", [0.0, 0.002])
@pytest.mark.parametrize("name", SCENES)
def test_time_is_used_and_never_overrun(name, between):
    taken, counts, _ = simulate(100, 8000, [0.001] * 24, SCENES[name], between)
    assert taken <= 100
    assert taken > 85 or counts[-1] == 24
    assert min(counts) >= 1


@pytest.mark.parametrize("limit", [1000, 110, 50])
def test_what_is_foretold_is_what_it_takes_where_the_rest_is_known(limit):
    taken, counts, foretold = simulate(limit, 8000, [0.001] * 12, lambda _: 1.0, between=0.004, rest=30.0)
    assert foretold == pytest.approx(taken, rel=0.03)
    assert (min(counts) == 12) == (limit > 110)
    blind = simulate(limit, 8000, [0.001] * 12, lambda _: 1.0, between=0.004)[1]
    assert counts[0] <= blind[0] and (limit != 110 or counts[0] < blind[0]), "it does not begin with too many"


def test_what_is_planned_at_once_is_what_it_takes():
    pace = Pace(100, [GroupWork(8000, [0.001] * 24), GroupWork(500, [0.002] * 4)], clock=Clock())
    counts = pace.plan()
    assert 85 < pace.cost(counts) <= 100 and counts[1] >= 1


def test_every_window_of_a_further_round_gets_a_pass():
    taken, counts, _ = simulate(10, 8000, [0.01] * 4, lambda _: 1.0)
    assert min(counts) == 1 and taken == pytest.approx(80), "whoever calls it stops where the time is over"


class Says(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        return torch.logit(torch.full((len(x), 1, *x.shape[2:]), self.p))


def test_a_window_gets_the_first_passes_and_systems_without_a_turn_the_mean_of_the_others():
    whole = Ensemble([Says(0.2), Says(0.4), Says(0.9)], CPU, groups=[[0, 1], [2], [0, 1, 2]])
    order, windows = [(2, 0), (0, 0), (1, 0)], np.zeros((2, 16, 16, 3), np.uint8)
    for count, expected in ((1, [0.9, 0.9, 0.9]), (2, [0.2, 0.9, 0.55]), (3, [0.3, 0.9, 0.5])):
        clock = Clock()
        pace = SimpleNamespace(plan=lambda c=count: [c], took=lambda *_: None, expect=lambda *_: None, clock=clock)
        pace.over = lambda *_: False
        paced = PacedEnsemble(whole, order, pace, 0)
        probs = paced(windows)
        assert probs.shape == (2, 3, 1, 16, 16) and np.allclose(probs[0, :, 0, 0, 0], expected, atol=1e-6)
        assert paced.windows_by_passes == {count: 2} and paced.windows == 2
    assert np.array_equal(probs, whole(windows))
    pace.over = lambda *_: True
    with pytest.raises(TimeOver):
        paced(windows)


def test_the_first_pass_is_one_network_told_as_every_system_until_the_time_is_over():
    clock = Clock()

    class Ticks(Says):
        def forward(self, x):
            clock.now += 2.0
            return super().forward(x)

    whole, windows = Ensemble([Ticks(0.2), Ticks(0.4)], CPU, tta="flips"), np.zeros((2, 16, 16, 3), np.uint8)
    first = FirstPass(whole, 1, 3, np.array([0.1]), 7.0, clock)
    for expected, late in ((0.4, 0), (0.4, 0), (0.4, 0), (0.4, 0), (0.1, 2), (0.1, 4)):
        probs = first(windows)
        assert probs.shape == (2, 3, 1, 16, 16) and np.allclose(probs, expected, atol=1e-6)
        clock.now += 0.0 if first.windows > 4 else 0.25  # reading
        assert first.late == late
    assert first.windows == 12 and first.seconds_per_window() == (1.0, pytest.approx(0.5 / 6))


def test_systems_come_by_what_they_add_for_their_seconds():
    scores = {(0,): 0.8, (1,): 0.7, (2,): 0.75, (3,): 0.2, (0, 1): 0.84, (0, 2): 0.85, (0, 3): 0.6}
    scorer = SimpleNamespace(
        values=[0] * 4, score=lambda w: scores.get(tuple(np.flatnonzero(w).tolist()), 0.86 - 0.2 * (w[3] > 0))
    )
    assert rank_by_gain(scorer, {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}) == [0, 2, 1, 3]
    assert rank_by_gain(scorer, {0: 9.0, 1: 1.0, 2: 5.0, 3: 0.1}) == [0, 1, 2, 3], (
        "0.04 a second before 0.01; the best first"
    )
    assert rank_by_gain(scorer, {0: 1.0, 2: 1.0}) == [0, 2]


def test_one_network_of_each_kind_is_timed_and_views_count_by_their_pixels():
    calls = Counter()

    class Sleeps(Says):
        def forward(self, x):
            calls[self.p] += 1
            time.sleep(self.p)
            return super().forward(x)

    forward = Ensemble([Sleeps(0.01), Sleeps(0.011), Sleeps(0.03)], CPU, tta="hflip scale=1,2")
    windows = np.zeros((2, 64, 64, 3), np.uint8)
    seconds = measured(forward, windows, ["a", "a", "b"])
    assert calls == {0.01: 3, 0.03: 3} and seconds[0] == seconds[1]
    assert 0.005 <= seconds[0][0] < seconds[2][0] and [s / seconds[2][0] for s in seconds[2]] == [1, 4, 1, 4]
    forward.lazy = True
    warm(forward, windows)
    assert calls[0.011] == 2, "each network is built for both sizes beforehand"


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """A tiny competition with two members to each of two folds."""
    path = make_tiny(tmp_path_factory.mktemp("trained"))
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, path, "--train.seeds", "42", "43", "--train.epochs", "4")
    return path


@pytest.fixture
def trained(trained_once, tmp_path):
    """(its YAML, a workspace of one's own)."""
    shutil.copytree(trained_once.parent / "work", tmp_path / "work")
    path = tmp_path / "tiny.yaml"
    path.write_text(trained_once.read_text().replace(str(trained_once.parent / "work"), str(tmp_path / "work")))
    return path, tmp_path / "work"


@pytest.mark.slow
def test_limits_are_kept_with_a_checked_csv_and_the_best_members_first(trained, monkeypatch, capsys):
    tiny, work = trained
    plain = Ensemble.member

    def slow(self, *arguments):
        images = arguments[1]
        time.sleep(0.02 * len(images) * (len(arguments[2]) if len(arguments) > 2 else len(self.views)))
        return plain(self, *arguments)

    monkeypatch.setattr(Ensemble, "member", slow)
    flags = ["--infer.tta", "flips", "--infer.backend", "eager"]
    started = time.monotonic()
    run("05_infer_ensemble", tiny, *flags)
    full = time.monotonic() - started
    best = json.loads((work / "decision.json").read_text())["cross_score"]
    for share in (0.5, 0.25):
        limit = full * share
        capsys.readouterr()
        started = time.time()
        run("05_infer_ensemble", tiny, *flags, "--infer.time_limit", f"{limit:.2f}")
        assert (work / "submission.csv").stat().st_mtime - started < limit, "the report may follow"
        out = capsys.readouterr().out
        assert "05: plans " in out and "fewer" not in out
        assert list(pd.read_csv(work / "submission.csv")["id"]) == ["im6", "im7"]
        decision = json.loads((work / "decision.json").read_text())
        assert decision["cross_score"] == best, "the out-of-fold maps were there"
        about = json.loads(max((work / "submissions").glob("*.json")).read_text())
        turns = {int(count): n for count, n in about["plan"]["windows"][0].items()}
        assert min(turns) >= 1 and max(turns) <= 16 and about["plan"]["late"] == 0
        assert about["plan"]["passes"] == [16] and about["plan"]["expected"] < limit
        assert out.splitlines()[-1] == f"05: {work / 'submission.csv'}"
        speed = about["speed"]
        assert speed["windows"] == sum(turns.values()) > 0 and speed["networks"] == 4 and speed["images"] == 2
        assert sum(speed["parts"].values()) == pytest.approx(about["seconds"], abs=0.2)
        assert 0 < speed["network_seconds"] < speed["test_seconds"] == 2 * speed["seconds_per_image"]
    # Without maps, of fewer images; with hardly any time, an answer all the same.
    for path in (work / "oof").iterdir():
        path.unlink()
    run("05_infer_ensemble", tiny, *flags, "--infer.time_limit", "1")
    out = capsys.readouterr().out
    assert "out-of-fold maps of only 2 of 6 images" in out
    last = out.splitlines()[-1]
    assert last.startswith(f"05: {work / 'submission.csv'}; the time limit left ") and last.endswith("are background")
    assert len(pd.read_csv(work / "submission.csv")) == 2
    run("05_infer_ensemble", tiny, *flags, "--infer.time_limit", "1")
    assert capsys.readouterr().out.splitlines()[-1] == last, "what is up to date says it again"


def test_a_run_that_goes_on_after_a_kill_keeps_its_maps_and_its_plan(trained, monkeypatch, capsys):
    path, work = trained
    flags = ["--infer.tta", "flips", "--infer.backend", "eager", "--infer.time_limit", "30"]
    made, evaluate, write = [], maps_of_folds.evaluate, planning.Planner.follow
    speed = {"seconds": 0.03}  # of a window and pass: enough for some images
    for module in (planning, workload):
        monkeypatch.setattr(module, "measured", lambda forward, _, kinds: [[speed["seconds"]] * 4 for _ in kinds])

    def killed_after(count):
        def evaluate_or_die(sources, *arguments, **options):
            if len(made) == count:
                raise KeyboardInterrupt
            made.append([source.image_id for source in sources])
            return evaluate(sources, *arguments, **options)

        monkeypatch.setattr(maps_of_folds, "evaluate", evaluate_or_die)

    killed_after(1)
    with pytest.raises(KeyboardInterrupt):
        run("05_infer_ensemble", path, *flags)
    first = capsys.readouterr().out
    speed["seconds"] = 0.001  # the same choice is made by a machine that would choose otherwise
    killed_after(2)

    def die(self, *arguments):
        write(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Planner, "follow", die)
    with pytest.raises(KeyboardInterrupt):
        run("05_infer_ensemble", path, *flags)
    second = capsys.readouterr().out
    told = next(line for line in first.splitlines() if "of 6 images" in line)
    assert told in second and len(made) == 2, "the second run makes the other fold's maps"
    count = int(told.split(" images")[0].split()[-3])
    assert 2 < count < 6 and sum(map(len, made)) == count and not set(made[0]) & set(made[1])
    planned = Workspace(work).choices.all()

    speed["seconds"] = 5.0
    monkeypatch.setattr(Planner, "follow", write)
    run("05_infer_ensemble", path, *flags)
    assert told in capsys.readouterr().out and len(made) == 2
    after = Workspace(work).choices.all()
    plans = {key: value for key, value in after.items() if key.startswith("infer.time_limit 30 s")}
    assert len(plans) == 2 and plans.items() <= planned.items()
    assert next(value for key, value in plans.items() if "plan" in key)["seconds"][0][0] == [0.001] * 4
    about = json.loads(next((work / "submissions").glob("*.json")).read_text())
    assert about["plan"]["overlap"] == 0.5, "as planned, although less would be chosen now"


def test_windows_on_the_rim_of_what_is_not_blank_are_expected_too():
    images = pd.DataFrame({"image_id": ["a"], "height": 1000, "width": 1000, "blank_share": 0.64})
    config, none = (load(None, ["--infer.roi", roi]) for roi in ("content", "none"))
    small, large = (Windows(size, 0.0, 1.0, "constant", 0) for size in (10, 500))
    assert list(expected_windows(images, small, config)) == pytest.approx([10_000 * 0.61**2])
    assert expected_windows(images, large, config) == 4 == expected_windows(images, large, none)


def test_fewer_images_are_whole_folds_apart_and_one_of_each_at_least(monkeypatch):
    folds = pd.DataFrame({"image_id": [f"im{i}" for i in range(12)], "group": "g", "fold": [0, 1, 2] * 4})
    images = folds.assign(height=320, width=320, blank_share=0.0)
    monkeypatch.setattr(workload, "measured", lambda *_: [[0.01]])
    groups = [ScaleGroup(Windows(32, 0.0, 1.0, "constant", 0), Ensemble([Says(0.5)], CPU))] * 2
    turns = in_turns(folds)
    found = [enough_images(turns, images, groups, ["a", "b"], load(None, []), limit) for limit in (100, 10, 0)]
    assert found == [12, 5, 3]  # an image: 100 windows of two networks, 2 s
    assert all(set(turns["fold"][:count]) == {0, 1, 2} for count in found)
    assert list(in_turns(folds)["image_id"]) == list(turns["image_id"])


def test_images_are_counted_of_the_folds_that_have_members(monkeypatch, tmp_path, capsys):
    folds = pd.DataFrame({"image_id": [f"im{i}" for i in range(12)], "group": "g", "fold": [0, 1, 2] * 4})
    monkeypatch.setattr(planning, "is_cached", lambda *_: False)
    monkeypatch.setattr(planning, "limit_key", lambda *_: "key")
    monkeypatch.setattr(planning, "scale_groups", lambda *_: [])
    monkeypatch.setattr(planning, "enough_images", lambda turns, *_: 2)
    session = Session(load(None, ["--infer.time_limit", "9"]), Workspace(tmp_path), folds, folds)
    part = SimpleNamespace(member=SimpleNamespace(fold=1, experiment="a"))
    assert list(planning.limit_images(session, [part], None, False).folds["fold"]) == [1, 1]
    assert "of only 2 of 4 images" in capsys.readouterr().out


def test_windows_overlap_less_before_a_network_is_left_out(monkeypatch):
    images = pd.DataFrame({"image_id": ["a"], "height": 320, "width": 320, "blank_share": 0.0})
    parts = [SimpleNamespace(member=SimpleNamespace(fold=fold, experiment="a"), model="a") for fold in (0, 1)]
    groups = [ScaleGroup(Windows(64, 0.5, 1.0, "gaussian", 0), Ensemble([Says(0.5), Says(0.5)], CPU))]
    monkeypatch.setattr(planning, "measured", lambda *_: [[0.1], [0.1]])
    monkeypatch.setattr(planning, "first_windows", lambda *_: None)
    scorer, config = SimpleNamespace(values=[0], score=lambda _: 0.5), load(None, [])
    chosen = {}
    for limit in (60, 16, 11, 2):
        planner = Planner(groups, parts, config, images, limit, Clock())
        chosen[limit] = planner.plan(["a"], scorer, []).overlap
    windows = [len(window_starts(320, 64, stride)) ** 2 for stride in (32, 48, 64)]
    assert windows == [81, 49, 25], "two networks and the first pass: 24, 15 and 8 seconds"
    assert list(chosen.values()) == [0.5, 0.25, 0.0, 0.0]
