"""05 inside a time limit: planned, planned again, and never late."""

import json
import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.inference import pace as pacing
from lib.inference.forward import Ensemble
from lib.inference.pace import Pace, PacedEnsemble, Share, fewer_images, worth

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def simulate(limit, windows, expected, truly, between=0.0, batch=8):
    """(seconds taken, passes of each batch) of a group whose passes truly take `truly(i)` times what is expected."""
    clock, counts = Clock(), []
    pace = Pace(limit, [Share(windows, expected)], clock)
    for done in range(0, windows, batch):
        (count,) = pace.plan()
        seconds = batch * sum(expected[:count]) * truly(done / windows)
        clock.now += seconds + between * batch
        pace.took(0, batch, count, seconds)
        counts.append(count)
    return clock.now, counts


SCENES = {
    "as expected": lambda done: 1.0,
    "twice as slow": lambda done: 2.0,
    "faster": lambda done: 0.5,
    "slow from the middle on": lambda done: 1.0 if done < 0.5 else 1.6,
}


@pytest.mark.parametrize("between", [0.0, 0.002])
@pytest.mark.parametrize("name", SCENES)
def test_time_is_used_and_never_overrun(name, between):
    taken, counts = simulate(100, 8000, [0.001] * 24, SCENES[name], between)
    assert taken <= 100
    assert taken > 85 or counts[-1] == 24
    assert min(counts) >= 1


def test_what_is_planned_at_once_is_what_it_takes():
    pace = Pace(100, [Share(8000, [0.001] * 24), Share(500, [0.002] * 4)], Clock())
    counts = pace.plan()
    assert 85 < pace.cost(counts) <= 100 and counts[1] >= 1


def test_with_no_time_left_windows_are_background_and_cost_nothing():
    taken, counts = simulate(10, 8000, [0.01] * 4, lambda _: 1.0)
    assert taken <= 10.1 and counts[0] == 1 and counts[-1] == 0
    assert counts == sorted(counts, reverse=True)


class Says(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        return torch.logit(torch.full((len(x), 1, *x.shape[2:]), self.p))


def test_a_window_gets_the_first_passes_and_systems_without_a_turn_the_mean_of_the_others():
    whole = Ensemble([Says(0.2), Says(0.4), Says(0.9)], CPU, groups=[[0, 1], [2], [0, 1, 2]])
    order, windows = [(2, 0), (0, 0), (1, 0)], np.zeros((2, 16, 16, 3), np.uint8)
    for count, expected in ((1, [0.9, 0.9, 0.9]), (2, [0.2, 0.9, 0.55]), (3, [0.3, 0.9, 0.5]), (0, [0.1, 0.1, 0.1])):
        paced = PacedEnsemble(whole, order, SimpleNamespace(plan=lambda c=count: [c], took=lambda *_: None), 0,
                              np.array([0.1]))  # fmt: skip
        probs = paced(windows)
        assert probs.shape == (2, 3, 1, 16, 16) and np.allclose(probs[0, :, 0, 0, 0], expected, atol=1e-6)
        assert paced.turns == [(2, count)]
    everything = PacedEnsemble(whole, order, SimpleNamespace(plan=lambda: [3], took=lambda *_: None), 0, np.zeros(1))
    assert np.array_equal(everything(windows), whole(windows))


def test_systems_come_by_what_they_add_for_their_seconds():
    scores = {(0,): 0.8, (1,): 0.7, (2,): 0.75, (3,): 0.2, (0, 1): 0.84, (0, 2): 0.85, (0, 3): 0.6}
    judge = SimpleNamespace(
        lifted=[0] * 4, score=lambda w: scores.get(tuple(np.flatnonzero(w).tolist()), 0.86 - 0.2 * (w[3] > 0))
    )
    assert worth(judge, {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}) == [0, 2, 1, 3]
    assert worth(judge, {0: 9.0, 1: 1.0, 2: 5.0, 3: 0.1}) == [0, 1, 2, 3], "0.04 a second before 0.01; the best first"
    assert worth(judge, {0: 1.0, 2: 1.0}) == [0, 2]


def run(stage, config, *flags):
    runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(config), *flags])


def test_limits_are_kept_with_a_checked_csv_and_the_best_members_first(tiny, monkeypatch, capsys):
    for stage in ("01_preprocess", "02_make_folds", "03_train"):
        run(stage, tiny, "--train.seeds", "42", "43", "--train.epochs", "4")
    work = tiny.parent / "work"
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
    built = []
    monkeypatch.setattr(
        pacing, "PacedEnsemble", lambda *arguments: built.append(PacedEnsemble(*arguments)) or built[-1]
    )
    for share in (0.5, 0.25):
        limit = full * share
        capsys.readouterr()
        started = time.monotonic()
        run("05_infer_ensemble", tiny, *flags, "--infer.time_limit", f"{limit:.2f}")
        assert time.monotonic() - started < limit
        out = capsys.readouterr().out
        assert "05: planned are" in out and "fewer" not in out
        assert list(pd.read_csv(work / "submission.csv")["id"]) == ["im6", "im7"]
        decision = json.loads((work / "decision.json").read_text())
        assert decision["cross_score"] == best, "the out-of-fold maps were there"
        turns = [count for _, count in built[-1].turns]
        assert min(turns) >= 1 and max(turns) <= 16
    assert np.mean(turns) < 12, "a quarter of the time is not enough for all"
    # Without maps, of fewer images; with hardly any time, an answer all the same.
    for path in (work / "oof").iterdir():
        path.unlink()
    run("05_infer_ensemble", tiny, *flags, "--infer.time_limit", "1")
    assert "out-of-fold maps are made of 2 of 6 images" in capsys.readouterr().out
    assert len(pd.read_csv(work / "submission.csv")) == 2 and built[-1].turns[-1][1] == 0


def test_fewer_images_are_whole_folds_apart_and_one_of_each_at_least(monkeypatch):
    from lib.config import Config
    from lib.inference.predictor import Windows

    folds = pd.DataFrame({"image_id": [f"im{i}" for i in range(12)], "group": "g", "fold": [0, 1, 2] * 4})
    images = folds.assign(height=320, width=320, blank_share=0.0)
    monkeypatch.setattr(pacing, "measured", lambda *_: [[0.01]])
    groups = [SimpleNamespace(windows=Windows(32, 0.0, 1.0, "constant", 0), forward=None)] * 2
    found = {limit: fewer_images(folds, images, groups, Config(), limit) for limit in (100, 10, 0)}
    assert [len(rows) for rows in found.values()] == [12, 5, 3]  # an image: 100 windows of two networks, 2 s
    assert all(set(rows["fold"]) == {0, 1, 2} for rows in found.values())
