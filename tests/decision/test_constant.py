"""The best constant answer, the warning where the ensemble is no better, and decisions that fall back to nothing."""

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.competition import metrics
from lib.config import load
from lib.config.competition import CompetitionSettings
from lib.decision.constant import best_constant, warning_of
from lib.decision.decision import Decision
from lib.decision.fit import Fitting, fit_ensemble
from lib.decision.presence_gate import SHUT, fit_gate, presence_counts
from lib.decision.thresholds import EMPTY_THRESHOLD, fitted_left_out, fitted_thresholds
from lib.oof.evaluation import Evaluation, count, count_codes

ROOT = Path(__file__).resolve().parents[2]
ONE = CompetitionSettings(classes=["disc"], metric="mean_dice")
TWO = CompetitionSettings(classes=["road", "roof"], metric="mean_dice")


def truths(n=2, images=12, seed=0):
    """Label images (images, 20, 30) of `n` labels, of which each class is in every third image."""
    rng, found = np.random.default_rng(seed), np.zeros((images, 20, 30), np.uint8)
    for i in range(images):
        for label in range(1, n):
            if (i + label) % 3 == 0:
                y, x = rng.integers(3, 10, 2)
                found[i, y : y + 8, 10 * label - 10 + x : 10 * label + x] = label
    return found


def evaluation_of(truth, guess, n):
    """Of label images (N, h, w) of several classes; one system, and the mean of all."""
    matrices = np.array([count(a, b, (n, n)) for a, b in zip(truth, guess, strict=True)])
    ids = [f"im{i}" for i in range(len(truth))]
    counts = metrics.counts_of(matrices)[:, None].repeat(2, 1)
    return Evaluation(ids, counts, confusion=matrices.sum(0), beside=matrices[:, 0])


def binary(truth, bins):
    """Of one class's truth and probabilities in bins, (N, h, w)."""
    counts = np.array([count_codes(a[None], b[None]) for a, b in zip(truth, bins, strict=True)])
    return Evaluation([f"im{i}" for i in range(len(truth))], counts[:, None].repeat(2, 1))


@pytest.mark.parametrize("metric", ["mean_dice", "dice", "image_iou", "mean_iou", "iou_precision", "pixel_accuracy"])
@pytest.mark.parametrize("background", [True, False])
def test_the_best_constant_is_that_of_the_images_themselves(metric, background):
    config = CompetitionSettings(
        classes=["road", "roof", "sea"][: 3 - background], metric=metric, background=background,
        score_background=metric == "mean_iou",
    )  # fmt: skip
    truth = truths(3)
    everywhere = [evaluation_of(truth, np.full_like(truth, label), 3) for label in range(3)]
    scores = [metrics.score(config, one.class_counts(0)) for one in everywhere]
    found = best_constant(evaluation_of(truth, truths(3, seed=9), 3), config)
    assert found.score == pytest.approx(max(scores)) and found.labels == (int(np.argmax(scores)),)


def test_a_threshold_falls_back_to_an_empty_answer_where_that_scores_best():
    """A network that is sure of a corner in every image, where no object ever is."""
    truth = truths()
    bins = np.zeros_like(truth)
    bins[:, :3, :3] = 255
    everything = np.ones(len(truth), bool)
    oof = binary(truth, bins)
    assert fitted_thresholds(oof, 0, everything, ONE) == (EMPTY_THRESHOLD,)
    assert not Decision((EMPTY_THRESHOLD,)).labels(bins[:1]).any()
    fitted = fit_ensemble(Fitting(oof, None, 2, load(None, ["--competition.classes", "disc"])), np.arange(12) % 3)
    assert fitted.decision.score == best_constant(oof, ONE).score == pytest.approx(2 / 3)
    good = binary(truth, np.where(truth > 0, 200, bins).astype(np.uint8))
    (threshold,) = fitted_thresholds(good, 0, everything, CompetitionSettings(metric="dice"))
    assert threshold < 200, "hits are worth more there"
    nowhere = binary(truth * 0, bins)  # without any object nothing tells what a network finds
    assert fitted_thresholds(nowhere, 0, everything, ONE) < (EMPTY_THRESHOLD,)


@pytest.mark.parametrize("search", [True, False])
def test_a_gate_shuts_for_good_where_an_empty_answer_scores_best(search):
    truth = truths()
    counts = []
    for one in truth:
        probs, presence = np.zeros((20, 30), np.float32), np.ones((20, 30), np.float32)
        probs[:3, :3] = 1
        counts.append(presence_counts(probs.ravel(), presence.ravel(), one.ravel()))
    assert fit_gate(np.array(counts), ONE, search) == SHUT


def noisy(truth, bad=2):
    """A guess that is right, but for the label `bad`, which it sees in a corner of every image and nowhere else."""
    guess = np.where(truth == bad, 0, truth)
    guess[:, :2, :2] = bad
    return guess


def test_a_class_that_scores_better_unanswered_is_left_out_alone():
    truth = truths(3)
    guess = noisy(truth)
    oof = evaluation_of(truth, guess, 3)
    everything = np.ones(len(truth), bool)
    assert fitted_left_out(oof, everything, TWO) == (2,)
    assert fitted_left_out(evaluation_of(truth, truth, 3), everything, TWO) == ()
    assert fitted_left_out(evaluation_of(truth, np.roll(truth, 1, 0), 3), everything, TWO) == (1, 2), "all of them"
    unseen = evaluation_of(np.where(truth == 2, 0, truth), guess, 3)
    assert fitted_left_out(unseen, everything, TWO) == (), "no truth has it: nothing tells how well it is found"


def test_the_counts_of_classes_that_are_left_out_are_those_of_the_labels():
    """Background's, too, and pixels of other classes that become background."""
    truth, guess = truths(3), np.roll(noisy(truths(3)), 5, 2)
    decision = Decision(None, left_out=(1,))
    labels = np.concatenate([decision.labels(one[None]) for one in guess])
    expected, found = evaluation_of(truth, labels, 3), evaluation_of(truth, guess, 3).leaving_out((1,))
    assert (labels[guess == 1] == 0).all() and (labels == 2).any() and labels.dtype == np.uint8
    assert (found.counts == expected.counts[:, -1:]).all()
    assert (found.confusion == expected.confusion).all() and (found.beside == expected.beside).all()


def several(*flags):
    return load(None, ["--competition.classes", "road", "roof", "--competition.metric", "mean_dice", *flags])


def test_what_is_left_out_is_fitted_crossed_saved_and_can_be_switched_off(tmp_path):
    truth = truths(3)
    oof, folds = evaluation_of(truth, noisy(truth), 3), np.arange(12) // 6
    fitted = fit_ensemble(Fitting(oof, None, 3, several()), folds)
    assert fitted.decision.left_out == (2,) and fitted.decision.score > fitted.decision.half_score + 0.3
    assert fitted.decision.cross_score == fitted.decision.score, "both folds tell the same"
    assert fitted.tables[0, :, 1].any() and not fitted.tables[0, :, 2].any()
    fitted.decision.save(tmp_path / "decision.json", ["base"])
    assert Decision.load(tmp_path / "decision.json") == fitted.decision
    plain = fit_ensemble(Fitting(oof, None, 3, several("--infer.threshold", "half")), folds).decision
    assert plain.left_out == () and plain.score == plain.half_score
    older = json.loads((tmp_path / "decision.json").read_text())
    del older["left_out"]  # as earlier versions wrote it
    (tmp_path / "older.json").write_text(json.dumps(older))
    assert Decision.load(tmp_path / "older.json").left_out == ()


def warned(truth, guess, *flags):
    config = several(*flags)
    oof = evaluation_of(truth, guess, 3)
    fitted = fit_ensemble(Fitting(oof, None, 3, config), np.arange(len(truth)) // 6)
    constant = best_constant(oof, config.competition)
    return warning_of(constant, fitted, config.competition), fitted, constant


def test_a_score_no_better_than_a_constant_is_said_in_one_sentence():
    truth = truths(3)
    assert warned(truth, truth)[0] == ""
    said, fitted, constant = warned(truth, np.roll(truth, 1, 0), "--infer.threshold", "half")
    assert said.startswith(f"warning: the out-of-fold score is {fitted.decision.cross_score:.4f} (mean_dice, fitted on")
    assert f"not better than the {constant.score:.4f} of an empty answer (no object in any image);" in said
    said, fitted, _ = warned(truth, np.roll(truth, 1, 0))
    assert "so answers are left empty" in said and not fitted.counts[:, 1:, 2].any()
    full = np.where(truths(3) == 2, 2, 1).astype(np.uint8)
    full[full.shape[0] // 2 :, :4] = 0
    said, *_ = warned(full, 2 * (full == 1), "--infer.threshold", "half")
    assert "of 'road' at every pixel" in said


def test_05_says_it_and_the_report_shows_it(tiny, capsys):
    """Networks that learned nothing see something in images without object, for which an empty answer scores 1."""
    labels = tiny.parent / "raw/train.csv"
    table = pd.read_csv(labels, dtype=str)
    table.loc[table.index % 3 > 0, "encoding"] = ""
    table.to_csv(labels, index=False)
    flags = ["--infer.backend", "eager", "--train.epochs", "1", "--train.lr", "1e-9", "--infer.threshold", "half"]
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        runpy.run_path(str(ROOT / f"{stage}.py"))["main"]([str(tiny), *flags])
    out, work = capsys.readouterr().out, tiny.parent / "work"
    (said,) = [line for line in out.splitlines() if line.startswith("warning: the out-of-fold score")]
    oof = json.loads((work / "report/oof.json").read_text())
    assert oof["warning"] == said and f"{oof['constant']:.4f}" in said
    assert "best constant answer" in (work / "report/index.html").read_text()
