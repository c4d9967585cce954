"""Each preset scores as its organiser does: literal formulas on random images, and which of two answers is better."""

import cv2
import numpy as np
import pytest
import surface_distance

from lib.competition import metrics
from lib.competition.labels.planes import label_of_array
from lib.competition.metrics.objects_and_surfaces import Case
from lib.competition.scoring import components_of, count_classes
from lib.config import load
from lib.config.competition import CompetitionSettings
from lib.config.presets import COMPETITIONS
from lib.errors import UserError

SIZE = (24, 32)
MANY = {"severstal", "clouds", "uw_madison", "boostcamp_trash", "boostcamp_handbone"}  # of two classes here


def settings_of(preset, **more):
    classes = ["one", "two"] if preset in MANY else ["one"]
    return CompetitionSettings(classes=classes, submission={"preset": preset}, **more)


def score(settings, truths, guesses):
    """The competition's score of label maps (h, w), image by image, in the pixels of the answer."""
    metric = metrics.metric_of(settings)
    if not hasattr(metric, "needs"):
        pairs = zip(truths, guesses, strict=True)
        if settings.multilabel:
            pairs = [[np.stack([one == 1, one == 2]) for one in pair] for pair in pairs]
        counts = [count_classes(t, g, len(settings.label_names)) for t, g in pairs]
        return metrics.score(settings, np.stack(counts))
    cases = {f"kidney_{i}": case(t, g) for i, (t, g) in enumerate(zip(truths, guesses, strict=True))}
    return metric.score(list(cases), cases.get, metrics.scored_classes(settings), settings.scoring)


def case(truth, guess):
    labels = [label_of_array(one.astype(np.uint8)) for one in (truth, guess)]
    objects = tuple(components_of(label, *truth.shape, "column", [1]) for label in labels)
    return Case(*truth.shape, *labels, lambda: objects)


# The organisers' formulas, from their words in lib/config/presets.py


def mean_dice(truths, guesses, classes, both_empty):
    values = []
    for t, g in zip(truths, guesses, strict=True):
        for k in classes:
            x, y = g == k, t == k
            values.append(2 * (x & y).sum() / (x.sum() + y.sum()) if x.any() or y.any() else both_empty)
    return np.mean(values)


def mean_precision(truths, guesses, classes):
    values = []
    for t, g in zip(truths, guesses, strict=True):
        if not (t == 1).any():
            values.append(float(not (g == 1).any()))
            continue
        iou = ((t == 1) & (g == 1)).sum() / ((t == 1) | (g == 1)).sum()
        precisions = []
        for threshold in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
            tp = int(iou > threshold)
            fp, fn = int((g == 1).any()) - tp, 1 - tp
            precisions.append(tp / (tp + fp + fn))
        values.append(np.mean(precisions))
    return np.mean(values)


def airbus(truths, guesses, classes):
    values = []
    for maps in zip(truths, guesses, strict=True):
        ships, found = (
            [at == i for i in range(1, n)] for n, at in (cv2.connectedComponents(m.astype(np.uint8)) for m in maps)
        )
        if not ships and not found:
            values.append(1.0)
            continue
        for threshold in np.arange(10) * 0.05 + 0.5:
            tp = sum(any((s & f).sum() > round(threshold, 2) * (s | f).sum() for f in found) for s in ships)
            values.append(5 * tp / (5 * tp + 4 * (len(ships) - tp) + len(found) - tp) / 10)
    return np.sum(values) / len(truths)


def global_dice(truths, guesses, classes):
    x, y = np.stack(guesses) == 1, np.stack(truths) == 1
    return 2 * (x & y).sum() / (x.sum() + y.sum())


def mean_iou_of_a_histogram(truths, guesses, classes):
    n = len(classes)
    hist = np.bincount(n * np.stack(truths).ravel() + np.stack(guesses).ravel(), minlength=n * n).reshape(n, n)
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.diag(hist) / (hist.sum(1) + hist.sum(0) - np.diag(hist)))


def f1(truths, guesses, classes):
    t, g = np.stack(truths) == 1, np.stack(guesses) == 1
    precision, recall = (t & g).sum() / g.sum(), (t & g).sum() / t.sum()
    return 2 * precision * recall / (precision + recall)


def iou(truths, guesses, classes):
    x, y = np.stack(guesses) == 1, np.stack(truths) == 1
    return (x & y).sum() / (x | y).sum()


def surface_dice(truths, guesses, classes):
    distances = surface_distance.compute_surface_distances(np.stack(truths) == 1, np.stack(guesses) == 1, (1, 1, 1))
    return surface_distance.compute_surface_dice_at_tolerance(distances, 0)


ONE = (lambda t, g, classes: mean_dice(t, g, classes, 1.0), (1,))
ROWS = (ONE[0], (1, 2))
FORMULAS = {
    "hubmap2021": ONE, "hubmap2022": ONE, "carvana": ONE, "siim": ONE, "severstal": ROWS, "clouds": ROWS,
    "boostcamp_handbone": ROWS,
    "uw_madison": (lambda t, g, classes: mean_dice(t, g, classes, 0.0), (1, 2)),
    "airbus": (airbus, (1,)), "tgs": (mean_precision, (1,)), "sennet": (surface_dice, (1,)),
    "contrails": (global_dice, (1,)), "boostcamp_trash": (mean_iou_of_a_histogram, (0, 1, 2)),
    "epfl_roads": (f1, (1,)), "drivendata": (iou, (1,)), "inria": (iou, (1,)),
}  # fmt: skip


def scenes(seed, labels, shift=2):
    """Truths and guesses of eight images: two without object, one missed, one invented, classes that are absent."""
    rng, truths, guesses = np.random.default_rng(seed), [], []
    for i in range(8):
        truth = np.zeros(SIZE, int)
        for _ in range(0 if i in (2, 5) else 3):
            y, x, h, w = rng.integers(0, 14), rng.integers(0, 20), *rng.integers(6, 12, 2)
            truth[y : y + h, x : x + w] = rng.integers(1, labels)
        guess = np.roll(truth, rng.integers(0, shift + 1, 2), (0, 1)) if i != 3 else truth * 0
        if i == 5:
            guess[3, 4:9] = 1
        truths.append(truth)
        guesses.append(guess)
    return truths, guesses


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("preset", COMPETITIONS)
def test_the_score_is_the_organisers(preset, seed):
    settings, (formula, classes) = settings_of(preset), FORMULAS[preset]
    truths, guesses = scenes(seed, len(settings.classes) + 1)
    expected = formula(truths, guesses, classes)
    assert score(settings, truths, guesses) == pytest.approx(expected) and 0.1 < expected < 0.95


# Which of two answers is better


def blank(*pixels):
    """A map without object, but for pixels (y, x, label)."""
    out = np.zeros(SIZE, int)
    for y, x, label in pixels:
        out[y, x] = label
    return out


def square(label=1, grow=0):
    out = np.zeros(SIZE, int)
    out[6 : 16 + grow, 6 : 16 + grow] = label
    return out


FIVE = blank(*[(2, x, 1) for x in range(5)])
SPECK = square() + blank((0, 31, 1))
OTHER = square() + blank((0, 31, 2))  # a pixel of a class that the image lacks
# Beside each pair: an image whose object is found almost.
SITUATIONS = {
    "nothing there: none is found, or five pixels are": (blank(), blank(), FIVE),
    "an object: found, or missed": (square(), square(grow=1), blank()),
    "an object: alone, or with a far pixel of its class": (square(), square(), SPECK),
    "an object: alone, or with a pixel of another class": (square(), square(), OTHER),
    "an object: found with an IoU of 0.83, or of 0.81": (square(), square(grow=1), square(grow=1) + SPECK - square()),
}
BETTER, EQUAL = 1, 0
DICE = [BETTER, BETTER, BETTER, BETTER, BETTER]
PREFERENCES = {
    "hubmap2021": DICE, "hubmap2022": DICE, "carvana": DICE, "siim": DICE, "severstal": DICE, "clouds": DICE,
    "boostcamp_handbone": DICE,
    "uw_madison": [EQUAL, BETTER, BETTER, EQUAL, BETTER],
    "airbus": DICE,
    "tgs": [BETTER, BETTER, EQUAL, None, EQUAL],
    "sennet": DICE, "contrails": DICE, "boostcamp_trash": DICE, "epfl_roads": DICE, "drivendata": DICE, "inria": DICE,
}  # fmt: skip


@pytest.mark.parametrize(("place", "situation"), enumerate(SITUATIONS))
@pytest.mark.parametrize("preset", COMPETITIONS)
def test_the_better_of_two_answers_is_the_organisers(preset, place, situation):
    settings, (formula, classes) = settings_of(preset), FORMULAS[preset]
    if situation.endswith("another class") and preset not in MANY:
        return
    truth, one, other = SITUATIONS[situation]
    rest, found = [square(), square()], [square(grow=1), square()]
    ours = [score(settings, [truth, *rest], [guess, *found]) for guess in (one, other)]
    theirs = [formula([truth, *rest], [guess, *found], classes) for guess in (one, other)]
    assert np.sign(round(theirs[0] - theirs[1], 9)) == PREFERENCES[preset][place], "the formula itself"
    assert np.sign(round(ours[0] - ours[1], 9)) == PREFERENCES[preset][place]


@pytest.mark.parametrize("preset", ["airbus", "sennet"])
def test_what_stands_in_out_of_fold_prefers_no_object_where_there_is_none(preset):
    settings = settings_of(preset)
    ours = [
        metrics.score(settings, np.stack([count_classes(blank(), g, 2), count_classes(square(), square(), 2)]))
        for g in (blank(), FIVE)
    ]
    assert ours[0] > ours[1]


# A preset alone is right, and what is written wins


def test_every_preset_names_its_rule_and_where_it_stands():
    assert set(COMPETITIONS) == set(FORMULAS) == set(PREFERENCES)
    for preset in COMPETITIONS.values():
        assert len(preset.rule) > 20 and len(preset.source) > 20


def test_options_win_over_the_presets_rules(tmp_path):
    uw = CompetitionSettings(submission={"preset": "uw_madison"})
    assert (uw.metric, uw.scoring.empty, uw.score_background) == ("mean_dice", "zero", False)
    assert CompetitionSettings(submission={"preset": "uw_madison"}, scoring={"beta": 2}).scoring.empty == "zero"
    assert CompetitionSettings(submission={"preset": "uw_madison"}, scoring={"empty": "one"}).scoring.empty == "one"
    trash = CompetitionSettings(submission={"preset": "boostcamp_trash"})
    assert (trash.metric, trash.score_background) == ("mean_iou", True)
    assert not CompetitionSettings(submission={"preset": "boostcamp_trash"}, score_background=False).score_background
    assert CompetitionSettings(submission={"preset": "airbus"}, metric="dice").metric == "dice"
    (tmp_path / "a.yaml").write_text("competition: {submission: {preset: tgs}}\n")
    assert load(tmp_path / "a.yaml").competition.metric == "iou_precision"
    chosen = load(tmp_path / "a.yaml", ["--competition.submission.preset", "contrails"]).competition
    assert chosen.metric == "dice" and chosen.submission.empty == "-"
    assert load(tmp_path / "a.yaml", ["--competition.metric", "dice"]).competition.metric == "dice"
    assert uw.multilabel and not trash.multilabel
    assert not CompetitionSettings(submission={"preset": "uw_madison"}, multilabel=False).multilabel
    again = CompetitionSettings.model_validate(trash.model_dump())
    assert again == trash, "what is saved and loaded again"


@pytest.mark.parametrize("value", ["[tgs]", "tsg", "{a: 1}"])
def test_a_preset_that_is_none_is_one_sentence(tmp_path, value):
    (tmp_path / "a.yaml").write_text(f"competition: {{submission: {{preset: {value}}}}}\n")
    with pytest.raises(UserError, match="competition.submission.*preset"):
        load(tmp_path / "a.yaml")
