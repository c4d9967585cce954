import time

import numpy as np
import pytest

from lib.competition import metrics
from lib.competition.metrics.bootstrap import paired_gain
from lib.config.competition import CompetitionSettings
from lib.plugins import register


def matrices(hits):
    """Counts of images of 10 object pixels, of which so many are hit."""
    return np.array([[[90, 90, 100 - h], [h, 10, h]] for h in hits])


def test_the_same_groups_are_drawn_for_both_sides_and_whole():
    config = CompetitionSettings(metric="mean_dice")
    worse, better = matrices([2, 9, 4, 7, 5, 6]), matrices([3, 10, 5, 8, 6, 7])
    gain = paired_gain(config, better, worse, np.arange(6))
    assert 0 < gain.low < gain.value < gain.high < 0.2, "images differ far more than the two sides do"
    none = paired_gain(config, worse, worse, np.arange(6))
    assert (none.value, none.low, none.high) == (0, 0, 0)
    # One good and one bad group, many images each: as many images alone would make it look sure.
    mixed, groups = matrices([9] * 50 + [1] * 50), np.repeat([0, 1], 50)
    gain = paired_gain(config, mixed, matrices([4] * 100), groups)
    assert gain.low < -0.3 and gain.high > 0.3
    assert abs(paired_gain(config, mixed, matrices([4] * 100), np.arange(100)).low) < 0.15


def test_one_group_has_no_interval():
    gain = paired_gain(CompetitionSettings(metric="mean_dice"), matrices([5, 6]), matrices([4, 4]), np.zeros(2))
    assert gain.value > 0 and np.isnan(gain.low) and "one group" in str(gain)
    assert str(gain).startswith(f"{gain.value:+.4f}")


@pytest.mark.parametrize("metric", ["dice", "mean_iou"])
def test_pooled_metrics_are_drawn_too(metric):
    gain = paired_gain(CompetitionSettings(metric=metric), matrices([5, 6, 9]), matrices([4, 4, 4]), np.arange(3))
    assert gain.low <= gain.value <= gain.high


def one_by_one(config, ours, theirs, groups, draws=500):
    """The interval as textbooks write it: each draw's images are gathered and scored."""
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(draws):
        images = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        drawn.append(metrics.score(config, ours[images]) - metrics.score(config, theirs[images]))
    return np.quantile(drawn, [0.025, 0.975])


METRICS = [
    "mean_dice", "dice", "image_iou", "mean_iou", "image_f_beta", "f_beta", "iou_precision", "pixel_accuracy",
    "median_dice",
]  # fmt: skip


@register("metric", "median_dice")
def median_dice(counts, classes, rules):
    both, truth, guess = metrics.parts(counts, classes)
    return float(np.median(2 * both / np.maximum(truth + guess, 1)))


@pytest.mark.parametrize("metric", METRICS)
def test_all_draws_at_once_are_the_draws_one_by_one(metric, monkeypatch):
    rng = np.random.default_rng(1)
    both = rng.integers(0, 9, (2, 12, 4))
    counts = np.stack([both, both[[0, 0]] + 4, both + rng.integers(0, 9, both.shape)], -1)
    counts[:, 3, 2:] = 0  # classes that neither side has
    groups = np.array(list("aabbbcdddefg"))
    config = CompetitionSettings(classes=list("xyz"), metric=metric)
    monkeypatch.setattr("lib.competition.metrics.bootstrap.HELD", 100)  # a few draws at a time
    gain = paired_gain(config, *counts, groups)
    assert (gain.low, gain.high) == pytest.approx(one_by_one(config, *counts, groups)) and gain.low < gain.high


@pytest.mark.parametrize("metric", METRICS)
def test_images_that_change_are_scored_together_with_those_that_stay(metric):
    rng, config = np.random.default_rng(3), CompetitionSettings(classes=list("xyz"), metric=metric)
    both = rng.integers(0, 9, (12, 4))
    counts = np.stack([both, both + rng.integers(0, 9, both.shape), both + rng.integers(0, 9, both.shape)], -1)
    counts[3, 2:] = counts[9] = 0
    for stay, change in ((counts[:5], counts[5:]), (counts[:0], counts), (counts[9:10], counts[9:10])):
        wanted = metrics.score(config, np.concatenate([stay, change]))
        assert metrics.changing(config, stay)(change) == pytest.approx(wanted)


@pytest.mark.parametrize("metric", ["mean_dice", "mean_iou"])
def test_many_images_of_many_classes_take_seconds(metric):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 500, (2000, 100, 1))
    sides = [np.concatenate([truth // k, truth, truth], -1) for k in (2, 3)]
    started = time.process_time()
    gain = paired_gain(
        CompetitionSettings(classes=[f"c{i}" for i in range(99)], metric=metric), *sides, np.arange(2000)
    )
    assert gain.low < gain.value < gain.high
    assert time.process_time() - started < 5, "one by one they take a minute and more"
