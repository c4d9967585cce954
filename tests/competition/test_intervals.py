import numpy as np
import pytest

from lib.competition.intervals import paired_gain
from lib.config.competition import Competition


def matrices(hits):
    """Confusion matrices of images of 10 object pixels, of which so many are hit."""
    return np.array([[[90, 0], [10 - h, h]] for h in hits])


def test_the_same_groups_are_drawn_for_both_sides_and_whole():
    config = Competition(metric="mean_dice")
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
    gain = paired_gain(Competition(metric="mean_dice"), matrices([5, 6]), matrices([4, 4]), np.zeros(2))
    assert gain.value > 0 and np.isnan(gain.low) and "one group" in str(gain)
    assert str(gain).startswith(f"{gain.value:+.4f}")


@pytest.mark.parametrize("metric", ["dice", "mean_iou"])
def test_pooled_metrics_are_drawn_too(metric):
    gain = paired_gain(Competition(metric=metric), matrices([5, 6, 9]), matrices([4, 4, 4]), np.arange(3))
    assert gain.low <= gain.value <= gain.high
