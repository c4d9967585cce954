"""A first pass over all windows comes before any second, on images with blank ground, by a clock that tests turn."""

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib.config import load
from lib.decision.decision import Decision
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.windows import Windows
from lib.oof.evaluate import outside_values
from lib.predict.time_pacer import FirstPass, PacedEnsemble
from lib.predict.time_plan import Plan, Planner
from lib.predict.write_submission import AnswerWriter
from lib.session import Session

CPU = torch.device("cpu")
SIZE, WINDOW = 128, 32


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Takes(nn.Module):
    """Logits of `channels` that a colour decides; a window takes `seconds` of the clock, times `slower(now)`."""

    def __init__(self, clock, seconds, channels=1, shift=0.0, slower=lambda now: 1.0):
        super().__init__()
        self.clock, self.seconds, self.channels, self.shift, self.slower = clock, seconds, channels, shift, slower

    def forward(self, x):
        self.clock.now += len(x) * self.seconds * self.slower(self.clock.now)
        light = x[:, :1] / 25.5 - 5 + self.shift
        return light if self.channels == 1 else torch.cat([light, -light, 0 * light], 1)


@pytest.fixture
def images(tmp_path):
    """Five images of 16 windows: left halves of the first three are glass, and so is all of the fourth."""
    rng = np.random.default_rng(0)
    for number in range(5):
        pixels = rng.integers(60, 200, (SIZE, SIZE, 3)).astype(np.uint8)
        pixels[:, : {3: SIZE, 4: 0}.get(number, SIZE // 2)] = 255
        cv2.imwrite(str(tmp_path / f"im{number}.png"), pixels)
    return [tmp_path / f"im{number}.png" for number in range(5)]


def checkpoints_of(nets):
    return [SimpleNamespace(member=SimpleNamespace(fold=i, experiment="a"), model="a") for i in range(len(nets))]


def answered(images, nets, limit, clock, classes=(), told=0.0, label=0, seconds=1.0, tta="none"):
    """(label maps by image, planner; None without a limit, forwards in the order of their calls)."""
    options = ["--infer.batch_size", "4", "--infer.overlap", "0", "--workspace", str(images[0].parent)]
    if classes:
        options += ["--competition.classes", *classes, "--competition.background", "false"]
    config = load(None, options)
    groups = [ScaleGroup(Windows(WINDOW, 0.0, 1.0, "constant", 0.0), Ensemble(nets, CPU, tta=tta))]
    table = pd.DataFrame({"image_id": [path.stem for path in images], "height": SIZE, "width": SIZE})
    table["blank_share"], table["path"] = told, list(map(str, images))
    found, calls, planner = {}, [], None
    if limit:
        planner = Planner(groups, checkpoints_of(nets), config, table, limit, clock)
        views = len(groups[0].forward.views)
        fill = outside_values(config.competition, False, label)
        planner.follow(planner.plan_for(["a"], [[[seconds] * views for _ in nets]]), fill, label)
    decision = Decision(None if classes else (128,))
    session = Session(config, competition=SimpleNamespace())
    with pytest.MonkeyPatch.context() as patch:
        for kind in (FirstPass, PacedEnsemble):
            call = kind.__call__
            patch.setattr(kind, "__call__", lambda s, w, own=call: calls.append((type(s), len(w))) or own(s, w))
        for image_id, height, width, bands in AnswerWriter(session, groups, decision, planner).answers(table):
            (found[image_id],) = np.concatenate(list(bands), axis=1)
            assert found[image_id].shape == (height, width)
    return found, planner, calls


def test_all_windows_have_one_pass_before_any_has_a_second_and_glass_is_no_work(images):
    clock = Clock()
    nets = [Takes(clock, 1.0), Takes(clock, 1.0)]
    found, planner, calls = answered(images, nets, 1000.0, clock, tta="flips")
    kinds = [kind for kind, _ in calls]
    assert kinds == sorted(kinds, key=[FirstPass, PacedEnsemble].index), "no window is refined before all are seen"
    seen = sum(count for kind, count in calls if kind is FirstPass)
    assert seen == 16 + 3 * 12, "glass is not computed, but where it borders on something"
    assert planner.summary()["windows"] == [{"8": seen}] and planner.late == (0, seen)
    plain, _, _ = answered(images, nets, 0, clock, tta="flips")
    assert all((found[name] == plain[name]).all() for name in plain) and len(found) == 5
    assert 0 < found["im0"].mean() < 1, "the fixture is degenerate"


@pytest.mark.parametrize("told", [0.0, 0.6])
def test_time_is_used_whatever_was_believed_of_glass(images, told):
    """Of 80 windows about 50 are no glass; a package that nobody told takes all of its time as well."""
    clock = Clock()
    nets = [Takes(clock, 1.0) for _ in range(20)]
    _, planner, _ = answered(images, nets, 500.0, clock, told=told)
    turns = planner.summary()["windows"][0]
    assert clock.now <= 500 and clock.now > 425 and "0" not in turns and "1" not in turns


def test_a_machine_that_becomes_slow_leaves_no_window_without_a_pass_while_others_have_two(images):
    for begins in (10, 60, 100):
        clock = Clock()
        slower = lambda now, begins=begins: 10.0 if now > begins else 1.0  # noqa: E731
        nets = [Takes(clock, 1.0, slower=slower) for _ in range(4)]
        _, planner, _ = answered(images, nets, 600.0, clock)
        turns = planner.summary()["windows"][0]
        assert "0" not in turns and clock.now <= 600


@pytest.mark.parametrize("classes, label, name", [((), 0, "background"), (("ice", "rock", "sea"), 2, "sea")])
def test_windows_that_are_left_over_get_the_most_frequent_class_and_are_counted(images, classes, label, name):
    clock = Clock()
    nets = [Takes(clock, 1.0, len(classes) or 1, shift=-20.0) for _ in range(2)]  # of three classes always the second
    found, planner, calls = answered(images, nets, 10.0, clock, classes, label=label)
    late, every = planner.late
    done = 12  # three batches begin in ten seconds
    assert late == every - done and (every == 5 * 16 or not classes), "without background flat ground has a class"
    assert f"left {late} of {every} windows without a prediction, and they are {name}" in planner.late_note()
    assert {kind for kind, _ in calls} == {FirstPass}
    for path in images[2:]:  # not begun
        assert (found[path.stem] == label).all()
    if classes:
        assert (found["im0"][:96] == 1).all() and (found["im0"][96:] == label).all()
    assert sum(planner.summary()["windows"][0].values()) == every and planner.summary()["late"] == late


def test_an_image_that_there_was_no_time_to_refine_keeps_its_first_answer(images):
    clock = Clock()
    nets = [Takes(clock, 1.0, shift=-20.0), Takes(clock, 1.0, shift=30.0)]  # the mean is light, the first alone dark
    found, planner, _ = answered(images, nets, 90.0, clock)
    refined = [name for name, label in found.items() if label.any()]
    assert 0 < len(refined) < 5 and planner.late[0] == 0 and clock.now <= 90
    assert refined == [path.stem for path in images][: len(refined)]


def test_the_network_of_the_first_pass_is_the_best_that_there_is_time_for(images):
    clock = Clock()
    nets = [Takes(clock, 10.0), Takes(clock, 1.0)]
    config = load(None, ["--infer.overlap", "0"])
    groups = [ScaleGroup(Windows(WINDOW, 0.0, 1.0, "constant", 0.0), Ensemble(nets, CPU))]
    table = pd.DataFrame({"image_id": ["a"], "height": SIZE, "width": SIZE, "blank_share": 0.0})
    for limit, network in ((1000.0, 0), (100.0, 1), (5.0, 1)):
        planner = Planner(groups, checkpoints_of(nets), config, table, limit, clock)
        first = planner.follow(Plan(["a"], 0.0, [[[10.0], [1.0]]]), np.zeros(1))
        assert first.forward.network == network
