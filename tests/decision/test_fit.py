"""Mixtures and decisions found on out-of-fold maps, and counted on folds that they were not found on."""

import json

import cv2
import numpy as np
import pytest

from lib.competition import metrics
from lib.competition.scoring import count_classes
from lib.config import Config
from lib.decision.decision import Decision
from lib.decision.ensemble_weights import EnsembleWeights, MixtureScorer, equal, leave_one_out_gain, sampled_weights
from lib.decision.fit import Fitting, fit_ensemble
from lib.errors import UserError
from lib.inference.windows import Block
from lib.oof.codes import to_codes, to_probs_u8
from lib.oof.evaluation import Evaluation, count_codes, count_planes
from lib.oof.map_files import Maps, MapWriter
from lib.oof.pixel_sample import PixelSampler

RNG = np.random.default_rng
FOLDS = np.array([0, 0, 0, 1, 1, 1])
HEIGHT, WIDTH = 60, 80


def out_of_fold(path, images, n_labels, presence=False):
    """(evaluation, maps) of [(probs (S, K, h, w), truth (h, w))]; last system: the mean of the others.

    With `presence`, (S, 2K, h, w), that of each class stands behind the probabilities."""
    binary, shape = n_labels == 2, (n_labels, n_labels)
    systems, channels = images[0][0].shape[:2]
    channels //= 1 + presence
    sampler = PixelSampler([f"im{i}" for i in range(len(images))], systems, channels, presence)
    counts, matrix, beside = [], 0, []
    with MapWriter(path) as writer:
        for i, (probs, truth) in enumerate(images):
            everything = np.concatenate([probs, probs.mean(0, keepdims=True)]).astype(np.float32)
            codes = [to_codes(p[:channels], binary) for p in everything]
            if binary:
                counts.append(np.array([count_codes(truth[None], one) for one in codes]))
            else:
                each = np.concatenate([count_planes(truth[None], one, shape) for one in codes])
                counts.append(metrics.counts_of(each))
                matrix = matrix + each[-1]
                beside.append(each[-1][0])
            for x in (0, 50):
                for y in (0, 13, 40):
                    bottom, right = {0: 13, 13: 40, 40: HEIGHT}[y], 50 if x == 0 else WIDTH
                    part = np.s_[..., y:bottom, x:right]
                    block = Block(f"im{i}", y, x, everything[part], HEIGHT, WIDTH)
                    writer.add(block, truth[part])
                    sampler.add(Block(f"im{i}", y, x, probs[part], HEIGHT, WIDTH), truth[part])
    ids = [f"im{i}" for i in range(len(images))]
    more = {} if binary else {"confusion": matrix, "beside": np.array(beside)}
    return Evaluation(ids, np.array(counts), sampler.sample(), **more), Maps([path])


def config(**infer):
    return Config.model_validate({"competition": {"metric": "mean_dice", "classes": ["disc"]}, "infer": infer})


def scored(counts):
    return metrics.score(config().competition, counts)


def with_specks(seed, systems=1):
    """A disc with a hole that the network misses, seen well, and specks that are none, seen weakly."""
    rng = RNG(seed)
    truth, sure = np.zeros((HEIGHT, WIDTH), np.uint8), np.full((HEIGHT, WIDTH), 0.05)
    centre = (int(rng.integers(20, 60)), int(rng.integers(20, 40)))
    cv2.circle(truth, centre, 12, 1, -1)
    sure[truth > 0] = 0.6
    cv2.circle(sure, centre, 6, 0.95, -1)
    cv2.circle(sure, (centre[0] + 8, centre[1]), 1, 0.0, -1)
    for _ in range(25):
        spot = (int(rng.integers(WIDTH)), int(rng.integers(HEIGHT)))
        if np.hypot(spot[0] - centre[0], spot[1] - centre[1]) > 17:
            cv2.circle(sure, spot, 2, 0.7, -1)
    return np.stack([sure[None]] * systems).astype(np.float32), truth


def fitted(tmp_path, images, n_labels, **infer):
    oof, maps = out_of_fold(tmp_path / "maps", images, n_labels)
    fitting = Fitting(oof, maps, n_labels, config(**infer), tmp_path)
    return fit_ensemble(fitting, FOLDS), fitting


def test_objects_and_holes_are_fitted_crossed_by_fold_and_applied_as_they_were_counted(tmp_path):
    images = [with_specks(i) for i in range(6)]
    plain, _ = fitted(tmp_path, images, 2)
    some, _ = fitted(tmp_path, images, 2, postprocess=["objects"])
    both, fitting = fitted(tmp_path, images, 2, postprocess=["objects", "holes"])
    scores = [found.decision.cross_score for found in (plain, some, both)]
    assert scores[0] + 0.05 < scores[1] and scores[1] + 0.005 < scores[2] and scores[2] > 0.99
    rule = both.decision.rules[1]
    assert rule.hole >= 5 and (rule.high > 0.7 * 255 or rule.area > 13) and rule.low <= 0.6 * 255
    for i, (probs, truth) in enumerate(images):  # what was counted band by band is what a test image gets
        rows = [both.decision.to_codes(np.concatenate([part, part])) for part in np.split(probs, [7, 31], axis=2)]
        labels = np.concatenate(list(both.decision.bands(rows, tmp_path)), axis=1)
        assert (count_classes(truth, labels[0], 2) == both.counts[i]).all()
        assert (fitting.oof.previews[f"im{i}"].map == 255 * labels).all(), "what is shown is what was decided"


def test_a_fold_is_decided_by_what_the_others_say(tmp_path):
    """In fold 1 the specks are the objects: what fold 0 teaches hurts there, and the report must say so."""
    images = [with_specks(i) for i in range(6)]
    for probs, truth in images[3:]:
        truth[:] = probs[0, 0] == np.float32(0.7)
    found, _ = fitted(tmp_path, images, 2, postprocess=["objects"])
    assert found.decision.cross_score < found.decision.score - 0.02
    clean, _ = fitted(tmp_path, images[:3] * 2, 2, postprocess=["objects"])
    assert clean.decision.cross_score == pytest.approx(clean.decision.score, abs=0.01)


def test_the_largest_object_alone(tmp_path):
    images = [with_specks(i) for i in range(6)]
    for probs, truth in images:
        truth[3:6, 3:6] = 0
        probs[:, :, 2:10, 2:10] = 0.99  # small, but surer than the disc
    found, _ = fitted(tmp_path, images, 2, postprocess=["largest"])
    assert found.decision.rules[1].largest and found.decision.cross_score > 0.97 > scored(found.crossed.mixed)


def several(seed, offsets=(0.0, 0.0, -2.0)):
    """Three classes; the network thinks too little of the last."""
    rng = RNG(seed)
    truth = cv2.resize(rng.integers(0, 3, (6, 8)).astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    logits = 1.5 * np.eye(3)[truth].transpose(2, 0, 1) + rng.normal(size=(3, HEIGHT, WIDTH))
    logits += np.array(offsets)[:, None, None]
    probs = np.exp(logits) / np.exp(logits).sum(0)
    return probs[None].astype(np.float32), truth


def test_factors_of_classes_are_found_crossed_and_counted_on_whole_maps(tmp_path):
    images = [several(i) for i in range(6)]
    oof, maps = out_of_fold(tmp_path / "maps", images, 3)
    settings = Config.model_validate({
        "competition": {"metric": "mean_iou", "classes": ["a", "b", "c"], "background": False},
        "infer": {"postprocess": ["priors"]},
    })  # fmt: skip
    found = fit_ensemble(Fitting(oof, maps, 3, settings), FOLDS)
    factors = np.log(found.decision.factors)
    assert abs(factors[2] - factors[:2].mean() - 2) < 0.6 and abs(factors[0] - factors[1]) < 0.5
    assert found.decision.half_score + 0.05 < found.decision.cross_score <= found.decision.score + 0.02
    for i, (probs, truth) in enumerate(images):
        guess = (to_probs_u8(probs[0]) / 255 * np.array(found.decision.factors)[:, None, None]).argmax(0)
        assert abs(count_classes(truth, guess.astype(np.uint8), 3) - found.counts[i]).sum() <= 4, "ties aside"
    neutral = [several(i, (0, 0, 0)) for i in range(6)]
    oof, maps = out_of_fold(tmp_path / "neutral", neutral, 3)
    assert np.abs(np.log(fit_ensemble(Fitting(oof, maps, 3, settings), FOLDS).decision.factors)).max() < 0.35


def classes(background=True, **infer):
    names = ["a", "b"] if background else ["floor", "a", "b"]
    return Config.model_validate({
        "competition": {"metric": "mean_iou", "classes": names, "background": background}, "infer": infer,
    })  # fmt: skip


def dots(seed):
    """Three labels, the first of them ground: a comes in discs and dots, and so it is seen; b in discs alone, and
    dots of it are seen that are none, twice as many of them weakly as surely."""
    rng = RNG(seed)
    truth, ab = np.zeros((HEIGHT, WIDTH), np.uint8), np.full((2, HEIGHT, WIDTH), 0.1, np.float32)
    for label in (1, 2):
        centre = (int(rng.integers(12, 28)) + 40 * (label - 1), int(rng.integers(12, 48)))
        cv2.circle(truth, centre, 9, label, -1)
        cv2.circle(ab[label - 1], centre, 9, 0.7, -1)
    for i in range(18):
        spot = (int(rng.integers(2, WIDTH - 2)), int(rng.integers(2, HEIGHT - 2)))
        if not truth[max(0, spot[1] - 5) : spot[1] + 6, max(0, spot[0] - 5) : spot[0] + 6].any():
            label = 1 + i % 2
            cv2.circle(ab[label - 1], spot, 2, 0.7 if i % 6 == 1 else 0.55, -1)
            if label == 1:
                cv2.circle(truth, spot, 2, 1, -1)
    ab[:, (ab > 0.5).all(0)] = 0.1
    rest = np.maximum(1 - ab.sum(0), 0.02)
    probs = np.stack([rest, *ab]) / (rest + ab.sum(0))
    return probs[None], truth


@pytest.mark.parametrize("background", [True, False])
def test_each_of_several_classes_has_its_own_objects(tmp_path, background):
    images = [dots(i) for i in range(6)]
    oof, maps = out_of_fold(tmp_path / "maps", images, 3)
    plain = fit_ensemble(Fitting(oof, maps, 3, classes(background), tmp_path), FOLDS)
    found = fit_ensemble(Fitting(oof, maps, 3, classes(background, postprocess=["objects"]), tmp_path), FOLDS)
    assert plain.decision.cross_score + 0.05 < found.decision.cross_score and found.decision.score > 0.98
    ground, a, b = found.decision.rules
    assert (ground is None) == background and a.area < 13 < b.area
    for i, (probs, truth) in enumerate(images):  # what was counted band by band is what a test image gets
        parts = np.split(probs, [7, 31], axis=2)
        rows = [found.decision.to_codes(np.concatenate([part, part])) for part in parts]
        (labels,) = np.concatenate(list(found.decision.bands(rows, tmp_path)), axis=1)
        assert (count_classes(truth, labels, 3) == found.counts[i]).all()
    found.decision.save(tmp_path / "decision.json", ["one"])
    assert Decision.load(tmp_path / "decision.json").rules == found.decision.rules


def test_what_several_classes_gain_is_judged_on_other_folds(tmp_path):
    images = [dots(i) for i in range(6)]
    for probs, truth in images[3:]:  # in fold 1 the dots of b are there
        truth[(probs[0, 2] > 0.5) & (truth == 0)] = 2
    oof, maps = out_of_fold(tmp_path / "maps", images, 3)
    found = fit_ensemble(Fitting(oof, maps, 3, classes(postprocess=["objects"]), tmp_path), FOLDS)
    assert found.decision.cross_score < found.decision.score - 0.02


def haunted(seed, classes=1):
    """A disc, and a ghost that is seen as surely; the head knows, on the left and on the right, which is the disc."""
    rng = RNG(seed)
    truth, seen = np.zeros((HEIGHT, WIDTH), np.uint8), np.full((HEIGHT, WIDTH), 0.1)
    presence, side = np.full((HEIGHT, WIDTH), 0.08), int(rng.integers(2))
    presence[:, 40 * side : 40 * side + 40] = 0.6
    for x in (20, 60):
        cv2.circle(seen, (x, int(rng.integers(15, 45))), int(rng.integers(8, 14)), 0.9, -1)
    here = (seen > 0.5) & (presence > 0.5)
    if classes == 1:
        truth[here] = 1
        return np.stack([seen, presence])[None].astype(np.float32), truth
    truth[here] = 2  # of three labels; the first is ground, the second is never there, and never doubted
    ones, low = np.ones_like(seen), np.full_like(seen, 0.01)
    return np.stack([0.99 - seen, low, seen, ones * 0.01, ones * 0.9, presence])[None].astype(np.float32), truth


@pytest.mark.parametrize("labels", [2, 3])
def test_a_class_gate_is_fitted_crossed_by_fold_and_applied_as_it_was_counted(tmp_path, labels):
    images = [haunted(i, labels - 1) for i in range(6)]
    options = {"gate": "fit"}
    settings = config(**options) if labels == 2 else classes(**options)
    oof, maps = out_of_fold(tmp_path / "maps", images, labels, presence=True)
    found = fit_ensemble(Fitting(oof, maps, labels, settings, tmp_path), FOLDS)
    assert found.decision.half_score < 0.8 < 0.99 < found.decision.cross_score
    gates = found.decision.gates
    assert 0.08 < gates[-1] <= 0.6 and not any(gates[:-1]), "background is never left out"
    gated, mixed = (metrics.score(settings.competition, c) for c in (found.crossed.gated, found.crossed.mixed))
    assert gated > mixed + 0.1
    found.decision.save(tmp_path / "decision.json", ["one"])
    again = Decision.load(tmp_path / "decision.json")
    for i, (probs, truth) in enumerate(images):
        (guess,) = again.labels(again.to_codes(np.concatenate([probs, probs])))
        assert (count_classes(truth, guess, labels) == found.counts[i]).all()

    for probs, _ in images[3:]:  # in fold 1 the head knows nothing
        probs[:, probs.shape[1] - 1] = RNG(0).random((HEIGHT, WIDTH))
    oof, maps = out_of_fold(tmp_path / "other", images, labels, presence=True)
    found = fit_ensemble(Fitting(oof, maps, labels, settings, tmp_path), FOLDS)
    assert found.decision.cross_score < found.decision.score - 0.02


def test_a_gate_that_gains_nothing_stays_open_and_a_given_one_is_taken(tmp_path):
    images = [haunted(i) for i in range(6)]
    for probs, truth in images:
        probs[:, 1] = 0.3
        truth[:] = probs[0, 0] > 0.5
    oof, maps = out_of_fold(tmp_path / "maps", images, 2, presence=True)
    assert fit_ensemble(Fitting(oof, maps, 2, config(gate="fit"), tmp_path), FOLDS).decision.gates == (0.0,)
    shut = fit_ensemble(Fitting(oof, maps, 2, config(gate=0.5), tmp_path), FOLDS)
    assert shut.decision.gates == (0.5,) and shut.counts[:, 1, 2].sum() == 0


def test_presence_is_weighed_as_the_members_are(tmp_path):
    """Two members, the second of which sees and knows nothing: its presence must not count either."""
    images = []
    for i in range(6):
        probs, truth = haunted(i)
        noise = RNG(i).random(probs.shape).astype(np.float32)
        noise[:, 1] = 1.0
        images.append((np.concatenate([probs, noise]), truth))
    oof, maps = out_of_fold(tmp_path / "maps", images, 2, presence=True)
    found = fit_ensemble(Fitting(oof, maps, 2, config(gate="fit", ensemble_weights="greedy"), tmp_path), FOLDS)
    assert found.decision.mix.weights == (1.0, 0.0) and found.decision.cross_score > 0.99
    assert 0.08 < found.decision.gates[0] <= 0.6


def members(seed):
    """Three systems: two good ones that err apart, and noise."""
    rng = RNG(seed)
    truth = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (40, 30), 15, 1, -1)
    good = [1 / (1 + np.exp(-(3 * truth - 1.5 + rng.normal(size=truth.shape)))) for _ in range(2)]
    return np.stack([*good, rng.random(truth.shape)])[:, None].astype(np.float32), truth


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_weights_leave_noise_out_and_gain_on_other_folds(tmp_path, mean):
    images = [members(i) for i in range(6)]
    found, fitting = fitted(tmp_path, images, 2, ensemble_weights="greedy", averaging=mean)
    weights = found.decision.mix.weights
    assert sum(weights) == pytest.approx(1) and weights[2] < 0.12 and min(weights[:2]) > 0.25
    assert len(found.crossed.weights) == 2 and all(w[2] < 0.12 for w in found.crossed.weights)
    assert scored(found.crossed.mixed) > scored(found.crossed.equal) + 0.005
    for i, (probs, truth) in enumerate(images):  # whole maps, not the sample
        with_mean = np.concatenate([to_probs_u8(probs) / np.float32(255), probs.mean(0, keepdims=True)])
        (labels,) = found.decision.labels(found.decision.to_codes(with_mean))
        assert (count_classes(truth, labels, 2) == found.counts[i]).all()
    scorer = MixtureScorer(fitting.oof.points, 2, found.decision.mix, fitting.config.competition, True)
    added = leave_one_out_gain(scorer, equal(3))
    assert added[0] > 0.005 and added[1] > 0.005 and added[2] < 0


def test_weights_of_a_fold_never_see_its_images(tmp_path):
    images = [members(i) for i in range(6)]
    for probs, _ in images[3:]:  # in fold 1 the systems change places
        probs[:] = probs[::-1].copy()
    found, _ = fitted(tmp_path, images, 2, ensemble_weights="greedy")
    fold0, fold1 = found.crossed.weights  # what the images of fold 0 met was found on fold 1
    assert fold0[0] < 0.12 and fold1[2] < 0.12
    assert found.decision.cross_score < found.decision.score - 0.01


def test_means_of_two_maps():
    probs = np.array([[[0.2, 0.9]], [[0.8, 0.9]]], np.float32)
    assert np.allclose(EnsembleWeights((0.5, 0.5))(probs), [[0.5, 0.9]])
    assert np.allclose(EnsembleWeights((0.5, 0.5), "geometric")(probs), [[0.5, 0.9]], atol=1e-5), (
        "of odds: both sides alike"
    )
    three = RNG(0).dirichlet([5, 5, 5], (2, 5)).transpose(0, 2, 1)
    mixed = EnsembleWeights((0.3, 0.7), "geometric")(three)
    expected = three[0] ** 0.3 * three[1] ** 0.7
    assert np.allclose(mixed, expected / expected.sum(0), atol=1e-4)
    assert np.isfinite(EnsembleWeights((0.5, 0.5), "geometric")(np.array([[[0.0, 1.0]], [[1.0, 1.0]]]))).all()
    assert np.allclose(EnsembleWeights((1.0, 0.0))(np.array([[[0.4]], [[np.nan]]])), 0.4), "of no weight: not looked at"


def test_a_decision_of_an_earlier_version_is_read_unless_its_mean_is_gone(tmp_path):
    path, decision = tmp_path / "decision.json", Decision(None, mix=EnsembleWeights((0.25, 0.75), "geometric"))
    saved = decision.save(path, ["a", "b"])
    saved["mix"]["power"] = 2.0
    path.write_text(json.dumps(saved))
    assert Decision.load(path).mix == decision.mix
    saved["mix"]["mean"] = "power"
    path.write_text(json.dumps(saved))
    with pytest.raises(UserError, match="decision.json uses infer.averaging power, which is gone; run 05"):
        Decision.load(path)


def test_equal_weights_stay_where_nothing_is_better(tmp_path):
    probs, truth = members(0)
    images = [(np.stack([probs[0]] * 2), truth)] * 6
    oof, _ = out_of_fold(tmp_path / "maps", images, 2)
    scorer = MixtureScorer(oof.points, 2, EnsembleWeights(equal(2)), config().competition, True)
    assert sampled_weights(scorer, 2) == (0.5, 0.5)


def test_a_sample_stands_for_the_image_whatever_the_blocks_are(monkeypatch):
    monkeypatch.setattr("lib.oof.pixel_sample.POINTS", 600)
    probs, truth = members(1)
    truth[:5] = 255
    found = []
    for cuts in ([0, HEIGHT], [0, 3, 33, HEIGHT]):
        sampler = PixelSampler(["a"], 3, 1)
        for top, bottom in zip(cuts, cuts[1:], strict=False):
            block = Block("a", top, 0, probs[:, :, top:bottom], HEIGHT, WIDTH)
            sampler.add(block, truth[top:bottom])
        found.append(sampler.sample())
    assert (np.sort(found[0].bins, axis=0) == np.sort(found[1].bins, axis=0)).all()
    points = found[0]
    assert 400 < len(points.truth) <= 600 and set(points.truth) == {0, 1}
    assert points.pixels.sum() == pytest.approx(55 * WIDTH, rel=0.05)
    share = np.average(points.truth, weights=points.pixels)
    assert share == pytest.approx(truth[5:].mean(), rel=0.15)


def test_a_decision_by_pixel_needs_no_bands():
    bins = RNG(0).integers(0, 256, (1, 9, 7)).astype(np.uint8)
    rows = iter([bins[:, :4], bins[:, 4:]])
    assert (np.concatenate(list(Decision((99,)).bands(rows)), axis=1) == (bins >= 99)).all()


def test_what_does_not_fit_the_classes_is_one_sentence():
    from lib.decision.fit import check_decide

    with pytest.raises(UserError, match="infer.postprocess priors: this is for competitions of several classes"):
        check_decide(config(postprocess=["priors"]))
    with pytest.raises(UserError, match="infer.postprocess holes: this is for competitions of one class"):
        check_decide(classes(postprocess=["objects", "holes"]))
    check_decide(classes(postprocess=["objects", "largest", "priors"]))
