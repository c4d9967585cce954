"""Classes that overlap are decided as so many competitions of one class: the same thresholds, gates and rules."""

import cv2
import numpy as np
import pytest

from lib.competition import metrics
from lib.competition.scoring import count_classes
from lib.config import Config
from lib.config.competition import Scoring
from lib.decision.constant import best_constant, warning_of
from lib.decision.decision import Decision
from lib.decision.ensemble_weights import EnsembleWeights
from lib.decision.fit import Fitting, check_decide, fit_ensemble
from lib.decision.thresholds import EMPTY_THRESHOLD, fitted_thresholds, settings_of_class
from lib.errors import UserError
from lib.inference.windows import Block
from lib.oof import evaluation as evaluating
from lib.oof.codes import HALF, to_codes
from lib.oof.evaluate import CountCollector, TrueLabels, outside_values
from lib.oof.evaluation import Evaluation, bins_for, count_codes
from lib.oof.map_files import Maps, MapWriter
from lib.oof.pixel_sample import PixelSampler
from lib.oof.previews import PreviewCollector, PreviewWriter, wrong_pixels
from lib.report.findings import calibration, uncertainty, wrong_share
from lib.tables import IGNORE
from tests.decision.test_fit import FOLDS, HEIGHT, WIDTH, haunted, members, with_specks

CLASSES = ["bone", "ring"]


def config(classes=CLASSES, **infer):
    competition = {"metric": "mean_dice", "classes": list(classes), "multilabel": len(classes) > 1}
    return Config.model_validate({"competition": competition, "infer": infer})


def collected(path, images, settings, presence=False):
    """(evaluation, maps) of [(probs (S, K, h, w), truth (K, h, w))], taken by the collectors as 05 has them. The last
    system is the mean of the others; with `presence`, that of each class stands behind the probabilities."""
    competition = settings.competition
    ids, labels = [f"im{i}" for i in range(len(images))], TrueLabels(None, competition, presence)
    models, channels = images[0][0].shape[0], competition.channels
    counts = CountCollector(ids, labels, models + 1)
    sampler = PixelSampler(ids, models, channels, presence, competition.multilabel)
    with MapWriter(path) as writer:
        for image_id, (probs, truth) in zip(ids, images, strict=True):
            everything = np.concatenate([probs, probs.mean(0, keepdims=True)]).astype(np.float32)
            for y, bottom in ((0, 13), (13, 40), (40, HEIGHT)):
                for x, right in ((0, 50), (50, WIDTH)):
                    block = Block(image_id, y, x, everything[..., y:bottom, x:right], HEIGHT, WIDTH)
                    for collector in (counts, sampler, writer):
                        collector.add(block, truth[..., y:bottom, x:right])
    return counts.evaluation(sampler.sample()), Maps([path])


def stacked(makers, image, planes):
    """One image whose classes are the images of one class that `makers` give; `planes`: probabilities of each."""
    parts = [maker(image) for maker in makers]
    probs = np.concatenate([part[0][:, i : i + 1] for i in range(planes) for part in parts], axis=1)
    return probs, np.stack([part[1] for part in parts])


def alone(images, k, planes):
    """The k-th class of some images as a competition of one class: probabilities (S, 1 or 2, h, w), truth (h, w)."""
    count = len(images[0][1])
    return [(probs[:, k::count][:, :planes], truth[k]) for probs, truth in images]


def faint(seed):
    """A disc that is seen faintly and never doubted, so that no gate and no rule of objects gains."""
    truth = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (40, 28 + seed % 5), 22, 1, -1)
    return np.stack([np.where(truth, 0.3, 0.1), np.full(truth.shape, 0.7)])[None].astype(np.float32), truth


MAKERS = {
    kind: (maker, lambda i, maker=maker: maker(i + 20))
    for kind, maker in (("plain", members), ("specks", with_specks), ("haunted", haunted))
} | {"specks, faint": (with_specks, faint), "haunted, faint": (haunted, faint)}


@pytest.mark.parametrize(("kind", "options"), [
    ("plain", {}),
    ("specks", {"postprocess": ["objects"]}),
    ("specks", {"postprocess": ["largest", "holes"]}),
    ("haunted", {"gate": "fit"}),
    ("haunted", {"gate": 0.3, "postprocess": ["holes"]}),
    ("specks, faint", {"postprocess": ["objects"]}),
    ("specks, faint", {"postprocess": ["holes"]}),
    ("haunted, faint", {"gate": "fit"}),
], ids=str)  # fmt: skip
def test_each_class_is_decided_as_it_would_be_alone(tmp_path, monkeypatch, kind, options):
    rules = "lib.decision.objects.fit_rules"
    monkeypatch.setattr(f"{rules}.COARSER", (slice(None),) * 3)  # a single class has the finer grids
    monkeypatch.setattr(f"{rules}.LOW_GRID", np.array([96, 128, 160]))
    monkeypatch.setattr(f"{rules}.HIGH_GRID", np.arange(0, 256, 64))
    monkeypatch.setattr(f"{rules}.AREA_GRID", np.array([0, 8, 64, 512]))
    planes, unlike = 1 + ("haunted" in kind), "faint" in kind
    if not unlike:
        monkeypatch.setattr("lib.decision.whole_maps.GATE_COUNTS", 1)  # a pass over the maps for each class
    images = [stacked(MAKERS[kind], i, planes) for i in range(6)]
    assert all((truth.sum(0) > 1).any() for _, truth in images[:1]), "the fixture does not overlap"
    for _, truth in images if unlike else ():
        truth[0, 24:32], truth[1, :, -8:] = IGNORE, IGNORE  # the first one on some holes
    whole = config(**options)
    oof, maps = collected(tmp_path / "maps", images, whole, presence=planes > 1)
    assert oof.overlap and oof.counts.shape == (6, images[0][0].shape[0] + 1, 2, 2, 256)
    found = fit_ensemble(Fitting(oof, maps, 2, whole, tmp_path), FOLDS)
    for k, name in enumerate(CLASSES):
        single = config([name], **options)
        own, own_maps = collected(tmp_path / name, alone(images, k, planes), single, presence=planes > 1)
        expected = fit_ensemble(Fitting(own, own_maps, 2, single, tmp_path), FOLDS)
        assert found.decision.thresholds[k] == expected.decision.thresholds[0]
        assert found.decision.gates is None or found.decision.gates[k] == expected.decision.gates[0]
        assert found.decision.rules is None or found.decision.rules[k] == expected.decision.rules[1]
        assert (found.counts[:, k] == expected.counts[:, 1]).all() and (found.tables[k] == expected.tables[0]).all()
        assert (found.crossed.decided[:, k] == expected.crossed.decided[:, 1]).all()
    if unlike:
        values = found.decision.gates or (found.decision.rules if "objects" in options["postprocess"] else (0, 1))
        assert values[0] != values[1] and len(set(found.decision.thresholds)) == 2, "the classes are alike"
    assert found.decision.score == pytest.approx(metrics.score(whole.competition, found.counts))
    for i, (probs, truth) in enumerate(images):  # what was counted is what a test image gets
        codes = found.decision.to_codes(np.concatenate([probs, probs.mean(0, keepdims=True)]))
        labels = np.concatenate(list(found.decision.bands([codes[:, :20], codes[:, 20:]], tmp_path)), axis=1)
        assert labels.shape == truth.shape and labels.dtype == np.uint8 and set(np.unique(labels)) <= {0, 1}
        assert np.abs(count_classes(truth, labels, 2) - found.counts[i]).sum() <= 6, "rounding of means aside"
    found.decision.save(tmp_path / "decision.json", ["one"])
    again = Decision.load(tmp_path / "decision.json")
    assert (again.thresholds, again.rules, again.gates) == (
        found.decision.thresholds, found.decision.rules, found.decision.gates,
    )  # fmt: skip


def test_weights_are_shared_and_leave_noise_out_of_all_classes(tmp_path):
    images = [stacked(MAKERS["plain"], i, 1) for i in range(6)]
    settings = config(ensemble_weights="greedy", averaging="geometric")
    oof, maps = collected(tmp_path / "maps", images, settings)
    found = fit_ensemble(Fitting(oof, maps, 2, settings, tmp_path), FOLDS)
    weights = found.decision.mix.weights
    assert weights[2] < 0.12 and min(weights[:2]) > 0.2 and found.decision.mix.mean == "odds"
    mixed, equal = (metrics.score(settings.competition, c) for c in (found.crossed.mixed, found.crossed.equal))
    assert mixed > equal + 0.005


def test_the_geometric_mean_of_classes_that_overlap_is_that_of_each_alone():
    probs = np.random.default_rng(0).uniform(0.01, 0.99, (2, 3, 40)).astype(np.float32)
    mixed = EnsembleWeights((0.3, 0.7), "odds")(probs)
    for k in range(3):
        assert np.allclose(mixed[k], EnsembleWeights((0.3, 0.7), "geometric")(probs[:, k : k + 1])[0])


def test_what_is_ignored_for_one_class_counts_for_the_others(tmp_path):
    images = [stacked(MAKERS["plain"], i, 1) for i in range(6)]
    for _, truth in images:
        truth[0, :30], truth[:, 50:] = IGNORE, IGNORE
    settings = config()
    oof, maps = collected(tmp_path / "maps", images, settings)
    assert (oof.known() == [20 * WIDTH, 50 * WIDTH]).all()
    assert (oof.points.truth != IGNORE).any(1).all() and (oof.points.truth[:, 0] == IGNORE).any()
    found = fit_ensemble(Fitting(oof, maps, 2, settings, tmp_path), FOLDS)
    assert (found.tables.sum((1, 2)) == oof.known().sum(0)).all()
    mixed = fit_ensemble(Fitting(oof, maps, 2, config(ensemble_weights="greedy"), tmp_path), FOLDS)
    assert (mixed.tables.sum((1, 2)) == oof.known().sum(0)).all() and mixed.decision.mix.weights[2] < 0.12
    best = best_constant(oof, settings.competition)
    assert best.labels == (0, 1), "every image has both classes, of which an empty answer finds nothing"
    assert warning_of(best, found, settings.competition) == ""


def test_a_class_that_is_nearly_everywhere_is_in_the_best_constant_answer():
    truth = np.zeros((4, 2, 10, 10), np.uint8)
    truth[:, 0, 1:], truth[:1, 1, :2] = 1, 1
    counts = np.stack([count_codes(one, np.zeros_like(one))[None].repeat(2, 0) for one in truth])
    oof, settings = Evaluation([*"abcd"], counts, overlap=True), config().competition
    best = best_constant(oof, settings)
    assert best.labels == (0,)
    full = np.zeros_like(truth)
    full[:, 0] = 1
    wanted = np.stack([count_classes(one, other, 2) for one, other in zip(truth, full, strict=True)])
    assert best.score == metrics.score(settings, wanted) == pytest.approx((2 * 0.9 / 1.9 + 0.75) / 2)
    fitted = fit_ensemble(Fitting(oof, None, 2, config(threshold="half")), np.arange(4) % 2)
    assert "of 'bone' at every pixel" in warning_of(best, fitted, settings)


def test_a_class_whose_empty_answer_scores_best_is_never_answered(tmp_path):
    truth, codes = np.zeros((12, 2, 20, 30), np.uint8), np.zeros((12, 2, 20, 30), np.uint8)
    truth[::4, :, 5:9, 5:9], codes[:, :, :3, :3] = 1, 255
    codes[:, 1] = np.where(truth[:, 1] == 1, 200, 0)
    counts = np.stack([count_codes(*pair)[None] for pair in zip(truth, codes, strict=True)])
    oof, settings = Evaluation([str(i) for i in range(12)], counts, overlap=True), config().competition
    first, second = fitted_thresholds(oof, 0, np.ones(12, bool), settings)
    assert first == EMPTY_THRESHOLD and second <= 200
    assert not Decision((first, second)).labels(codes[0])[0].any()
    assert settings_of_class(settings, 1).classes == ["ring"] and not settings_of_class(settings, 1).multilabel


def test_a_threshold_is_fitted_to_its_own_class_whichever_classes_are_meant_to_score():
    """Neither the classes that are scored nor the background change it, since there is one class alone."""
    truth = np.random.default_rng(0).integers(0, 2, (4, 2, 20, 20), np.uint8)
    counts = np.stack([count_codes(one, 90 + 20 * one)[None] for one in truth])
    oof, everything = Evaluation([*"abcd"], counts, overlap=True), np.ones(4, bool)
    plain = config().competition
    other = plain.model_copy(update={"score_background": True, "scoring": Scoring(classes=["ring"])})
    assert fitted_thresholds(oof, 0, everything, other) == fitted_thresholds(oof, 0, everything, plain)
    assert metrics.score(settings_of_class(other, 0), oof.of_class(0).class_counts(0, (100,))) == 1
    half = oof.of_class(0).class_counts(0, (90,))
    assert metrics.score(settings_of_class(other, 0), half) == metrics.score(settings_of_class(plain, 0), half)


def test_a_pixel_is_wrong_where_any_class_is_known_to_be():
    truth, labels = np.array([[[1, 1, 0, IGNORE]], [[0, 0, 0, 0]]]), np.array([[[1, 0, 0, 1]], [[0, 0, 0, 0]]])
    assert wrong_pixels(truth, labels).tolist() == [[False, True, False, False]]
    oof = Evaluation(["a"], count_codes(truth, 255 * labels)[None, None], overlap=True)
    assert wrong_share(oof, oof.class_counts(0)).tolist() == [1 / 7]


def test_what_has_no_meaning_is_one_sentence():
    with pytest.raises(UserError, match="infer.postprocess priors: factors of classes choose among classes that excl"):
        check_decide(config(postprocess=["priors"]))
    check_decide(config(postprocess=["objects", "holes"]))


def test_very_many_images_and_classes_have_fewer_bins(monkeypatch):
    assert 20_000 * 2 * 100 * 2 * bins_for(20_000, 2, 100) * 4 <= 2**29
    rng = np.random.default_rng(1)
    truth, codes = rng.integers(0, 2, (8, 2, 20, 20), np.uint8), rng.integers(0, 256, (8, 2, 20, 20)).astype(np.uint8)
    codes = np.where(truth == 1, codes // 2 + 100, codes // 2).astype(np.uint8)  # the best threshold lies between
    counts = np.stack([count_codes(*pair)[None] for pair in zip(truth, codes, strict=True)])
    fine = Evaluation([str(i) for i in range(8)], counts, overlap=True)
    monkeypatch.setattr(evaluating, "COUNT_BYTES", 8 * 2 * 2 * 16 * 4)
    coarse = Evaluation.concat([fine.with_bins(64)])
    assert coarse.counts.shape[-1] == bins_for(8, 1, 2) == 16
    for threshold in (16, 112, 128, 240, 256):
        assert (coarse.class_counts(0, (threshold,) * 2) == fine.class_counts(0, (threshold,) * 2)).all()
    everything, settings = np.ones(8, bool), config().competition
    exact, near = (fitted_thresholds(one, 0, everything, settings) for one in (fine, coarse))
    assert all(t % 16 == 0 and abs(t - s) <= 16 for t, s in zip(near, exact, strict=True)) and set(near) != {HALF}
    exact, near = (uncertainty(one, Decision(one.halves)) for one in (fine, coarse))
    assert np.abs(exact - near).max() < 0.05 < exact.min()
    exact, near = (calibration(one.counts[:, -1, 0].sum(0)) for one in (fine, coarse))
    assert {round(row["predicted"], 1) for row in exact} == {round(row["predicted"], 1) for row in near}


def test_counts_of_a_direct_pass_are_those_of_the_planes(tmp_path):
    """Blocks (S, K, h, w), truth (K, h, w), previews and cached counts, as 05 keeps them."""
    settings = config().competition
    rng = np.random.default_rng(2)
    probs, truth = rng.random((2, 2, 30, 40), np.float32), rng.integers(0, 2, (2, 30, 40)).astype(np.uint8)
    counts = CountCollector(["a"], TrueLabels(None, settings), 2)
    with PreviewWriter(tmp_path / "shown") as writer:
        collectors = [counts, PreviewCollector(settings, writer.add)]
        for collector in collectors:
            for x in (0, 25):
                part = np.s_[..., x : {0: 25, 25: 40}[x]]
                collector.add(Block("a", 0, x, probs[part], 30, 40), truth[part])
            collector.end_image("a")
    counts.evaluation().save(tmp_path / "oof.npz")
    found = Evaluation.load(tmp_path / "oof.npz")
    assert found.overlap and found.counts.dtype == np.uint32
    expected = np.stack([count_classes(truth, (to_codes(one, True) >= 128).astype(np.uint8), 2) for one in probs])
    assert all((found.class_counts(s)[0] == expected[s]).all() for s in range(2))


def test_an_image_with_more_pixels_than_32_bits_count_is_counted_in_64():
    settings, truth = config().competition, np.ones((2, 3, 4), np.uint8)
    for side, kind in ((2**16 - 1, np.uint32), (2**16, np.int64)):
        counts = CountCollector(["a"], TrueLabels(None, settings), 1)
        counts.add(Block("a", 0, 0, np.ones((1, 2, 3, 4), np.float32), side, side), truth)
        found = counts.evaluation()
        assert found.counts.dtype == kind and (found.class_counts(0) == 12).all()


def test_outside_of_what_is_computed_no_class_is(tmp_path):
    assert outside_values(config().competition, True).tolist() == [0, 0, 1, 1]
    assert outside_values(config(["a"]).competition).tolist() == [0]
    several = Config.model_validate({"competition": {"classes": ["a", "b"]}}).competition
    assert outside_values(several, label=2).tolist() == [0, 0, 1]
