"""Thresholds: fitted on some images, judged on others, and kept at one half where a gain may be chance."""

from dataclasses import replace

import numpy as np
import pytest

from lib.competition import metrics
from lib.config import Config
from lib.config.competition import CompetitionSettings
from lib.decision.decision import Decision
from lib.decision.thresholds import cross_parts, crossed_by_threshold, fitted_thresholds
from lib.oof.codes import to_codes
from lib.oof.evaluation import Evaluation, count_codes
from lib.report.ensemble import crossed_best_model

ONE_FOLD = np.zeros(8, int)
GROUPS = np.array(list("aabbccdd"))


def scores_of(oof, folds, config):
    """The fitted threshold; the scores at one half, with it, and with those fitted on other images."""
    (threshold,) = fitted_thresholds(oof, 0, np.ones(len(folds), bool), config)
    crossed = crossed_by_threshold(oof, 0, folds, config)
    scores = [metrics.score(config, oof.class_counts(0, (at,))) for at in (128, threshold)]
    return threshold, *scores, None if crossed is None else metrics.score(config, crossed)


def counted(truth, probs):
    """Counts (S, K, 2, BINS) of one image and system."""
    return count_codes(truth[None], to_codes(probs[None], True))[None]


def odd_group(bin_=77):
    """Counts of eight images: what is seen at .3 is object in the images of group a alone, and there it is much."""
    counts = np.zeros((8, 1, 2, 256), np.int64)
    counts[:, 0, 1, 200], counts[:, 0, 0, 0] = 1000, 50_000
    counts[:2, 0, 1, bin_], counts[2:, 0, 0, bin_] = 9000, 100
    return Evaluation([f"im{i}" for i in range(8)], counts[:, :, None], groups=GROUPS)


def test_one_fold_is_split_by_groups_always_alike_and_only_where_there_are_two():
    for groups in (GROUPS, None, np.repeat(list("abcdefgh"), 1)):
        parts = cross_parts(ONE_FOLD, groups)
        assert 2 <= len(parts) <= 5 and (np.sum([here for here, _ in parts], 0) == 1).all(), "each image once"
        for here, others in parts:
            assert here.any() and others.any() and not (here & others).any()
            assert groups is None or not set(groups[here]) & set(groups[others])
        assert np.array_equal(parts, cross_parts(ONE_FOLD, groups))
    assert cross_parts(ONE_FOLD, np.array(["a"] * 8)) == [] and cross_parts(ONE_FOLD[:1]) == []
    by_fold = cross_parts(np.arange(8) % 2, GROUPS)
    assert [here.tolist() for here, _ in by_fold] == [[True, False] * 4, [False, True] * 4], "folds as they are"


def test_a_threshold_of_one_fold_is_not_judged_on_its_own_images():
    oof, config = odd_group(), CompetitionSettings(metric="mean_dice")
    threshold, half, score, cross_score = scores_of(oof, ONE_FOLD, config)
    assert threshold <= 77 and score > half + 0.1
    # Without group a nothing gains at .3: its images are left as they were.
    assert cross_score < score - 0.1
    one_group = Evaluation(oof.image_ids, oof.counts, groups=np.zeros(8))
    assert scores_of(one_group, ONE_FOLD, config)[::3] == (threshold, None)


def test_the_threshold_that_is_fitted_beats_one_half_and_is_crossed_by_fold():
    rng = np.random.default_rng(0)
    truth = (rng.random((6, 40, 40)) < 0.2).astype(np.uint8)
    # An overconfident network: objects at 0.8 to 1, background anywhere below 0.85.
    probs = np.where(truth, rng.uniform(0.8, 1, truth.shape), rng.uniform(0, 0.85, truth.shape)).astype(np.float32)
    counts = np.stack([counted(t, p) for t, p in zip(truth, probs, strict=True)])
    evaluation = Evaluation([str(i) for i in range(6)], counts)
    threshold, half, score, cross_score = scores_of(evaluation, np.array([0, 0, 0, 1, 1, 1]), CompetitionSettings())
    assert 0.78 < threshold / 255 < 0.87
    assert half + 0.2 < cross_score <= score
    (labels,) = Decision((threshold,)).labels(to_codes(probs[0][None], True))
    assert (labels == (np.floor(probs[0] * 255 + 0.5) >= threshold)).all()


def test_the_threshold_decides_as_one_half_where_images_disagree_on_another():
    """What is found at .3 is object in ten images of twenty, and nothing in the others."""
    rng, counts = np.random.default_rng(0), []
    for number, truth in enumerate((rng.random((20, 32, 32)) < 0.5).astype(np.uint8)):
        unsure = (rng.random(truth.shape) < 0.1) & (truth == (number < 10))
        probs = np.where(unsure, 0.3, np.where(truth, 0.8, 0.1)).astype(np.float32)
        counts.append(counted(truth, probs))
    evaluation = Evaluation([str(i) for i in range(20)], np.stack(counts))
    everything, half = np.ones(20, bool), np.arange(20) < 10

    def fitted(images, groups=None):
        return fitted_thresholds(replace(evaluation, groups=groups), 0, images, CompetitionSettings())[0]

    low, high = round(0.3 * 255), round(0.8 * 255)
    assert low < fitted(everything) <= high and low < fitted(everything, np.arange(20) % 5) <= high
    assert fitted(half) <= low, "all say the same"
    assert fitted(everything, np.zeros(20)) <= low, "of one group nothing is known but the best"


def gaining(gains, base=0.6):
    """An evaluation of images whose Dice is `base` at one half, and `base` and their `gains` at .3."""
    counts, true = np.zeros((len(gains), 1, 2, 256), np.int64), 10_000
    for image, gain in enumerate(gains):
        sure, wanted = true * base / (2 - base), base + gain  # Dice = 2 found / (found + true + wrong)
        more = true * wanted / (2 - wanted) - sure if gain > 0 else 0
        wrong = 2 * sure / wanted - sure - true if gain < 0 else 0
        counts[image, 0, 1, [200, 77]], counts[image, 0, 0, 77] = (round(sure), round(more)), round(wrong)
        counts[image, 0, 1, 0] = true - counts[image, 0, 1].sum()
    return Evaluation([str(i) for i in range(len(gains))], counts[:, :, None])


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2, 2, 3, 3]])
@pytest.mark.parametrize("times", [0.9, 1.1])
def test_a_threshold_has_to_gain_half_its_standard_error(groups, times):
    """Of a mean over images the jackknife's error is the usual one, over groups that of their means."""
    noise = np.repeat([0.05, -0.03, 0.01, -0.03], 2) if groups else np.array([5, -3, 1, -3, 2, -4, 3, -1]) / 100
    values = noise[::2] if groups else noise
    error = values.std(ddof=1) / len(values) ** 0.5
    evaluation = replace(gaining(noise + 0.5 * error * times), groups=None if groups is None else np.array(groups))
    (found,) = fitted_thresholds(evaluation, 0, np.ones(8, bool), CompetitionSettings())
    assert (found <= 77) == (times > 1)


def test_of_a_plateau_the_middle_is_taken():
    """Every bin from 1 to 200 decides alike: of 5, 10, … 200 the middle is 105, and of those around it, 105 again."""
    evaluation = gaining([0] * 4)
    assert fitted_thresholds(evaluation, 0, np.ones(4, bool), CompetitionSettings()) == (105,)


def test_what_one_group_alone_gains_is_no_reason():
    evaluation, everything = gaining([0.02] * 4 + [-0.008] * 4), np.ones(8, bool)
    assert fitted_thresholds(evaluation, 0, everything, CompetitionSettings()) <= (77,), "half of all images gain"
    grouped = replace(evaluation, groups=np.array([0, 0, 0, 0, 1, 2, 3, 4]))
    assert fitted_thresholds(grouped, 0, everything, CompetitionSettings()) > (77,), "but one group of five"


def test_the_best_member_is_chosen_on_other_folds_than_it_is_scored_on():
    good, bad = gaining([0] * 4, 0.8).counts, gaining([0] * 4, 0.6).counts
    first = np.concatenate([good[:2], bad[:2]])  # better on fold 0
    second = np.concatenate([bad[:2], good[:2]])
    evaluation = Evaluation([*"abcd"], np.concatenate([first, second, (first + second) // 2], axis=1))
    found = crossed_best_model(evaluation, 2, np.array([0, 0, 1, 1]), Config())
    assert metrics.score(CompetitionSettings(), found) == pytest.approx(0.6, abs=0.001)
    assert (found == Evaluation([], bad).class_counts(0)).all()
