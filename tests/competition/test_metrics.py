import numpy as np
import pytest

from lib.competition import metrics
from lib.competition.scoring import confusion_matrix
from lib.config.competition import Competition

rng = np.random.default_rng(0)


def test_mean_iou_is_one_matrix_over_all_images():
    truth, guess = rng.integers(0, 3, (2, 20, 30)), rng.integers(0, 3, (2, 20, 30))
    config = Competition(classes=["a", "b", "c"], background=False, metric="mean_iou")
    confusions = np.stack([confusion_matrix(t, g, 3) for t, g in zip(truth, guess, strict=True)])
    by_hand = np.mean([((truth == c) & (guess == c)).sum() / ((truth == c) | (guess == c)).sum() for c in range(3)])
    assert metrics.score(config, confusions) == pytest.approx(by_hand)


def test_mean_dice_is_a_mean_over_images_and_both_empty_counts_as_one():
    truth = np.zeros((2, 10, 10), int)
    guess = truth.copy()
    truth[0, :5], guess[0, :, :5] = 1, 1
    confusions = np.stack([confusion_matrix(t, g, 2) for t, g in zip(truth, guess, strict=True)])
    assert metrics.score(Competition(metric="mean_dice"), confusions) == pytest.approx((0.5 + 1) / 2)
    assert metrics.score(Competition(metric="dice"), confusions) == pytest.approx(0.5)


def test_ignored_pixels_do_not_count_and_background_only_when_asked():
    truth, guess = np.array([0, 0, 1, 255]), np.array([0, 1, 1, 0])
    confusion = confusion_matrix(truth, guess, 2)
    assert confusion.sum() == 3
    foreground, both = Competition(metric="iou"), Competition(metric="iou", score_background=True)
    assert metrics.score(foreground, confusion[None]) == pytest.approx(0.5)
    assert metrics.score(both, confusion[None]) == pytest.approx((0.5 + 0.5) / 2)
