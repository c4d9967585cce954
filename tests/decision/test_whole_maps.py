"""Weights, gates and factors are what whole maps say: a few wrong pixels that a sample misses are found."""

import numpy as np
import pytest

from lib.competition import metrics
from lib.competition.scoring import count_classes
from lib.config import Config
from lib.decision.class_factors import FactorGrid, sampled_factors
from lib.decision.class_search import ClassObjective, ClassState, count_value_changes
from lib.decision.decision import Decision
from lib.decision.ensemble_weights import THRESHOLD_GRID, EnsembleWeights, MixtureScorer, equal, sampled_weights
from lib.decision.fit import Fitting, fit_ensemble
from lib.decision.presence_gate import GateGrid
from lib.decision.weight_search import THRESHOLDS_REACHED, MixtureCounter, WeightObjective, neighbours, search_weights
from lib.inference.windows import Block
from lib.oof.codes import to_probs_u8
from lib.oof.pixel_sample import PixelSample, PixelSampler
from tests.decision.test_fit import FOLDS, HEIGHT, WIDTH, out_of_fold

RNG = np.random.default_rng


def settings(classes, **infer):
    competition = {"metric": "mean_dice", "classes": classes}
    return Config.model_validate({"competition": competition, "infer": infer})


def scenes(planes, speck):
    """Six images of planes (S, C): a box of `planes[1]`, whose truth is 1, on ground of `planes[0]`; in images 1 and
    4 no box, but 30 pixels with the values `speck`, which a sample does not see."""
    images = []
    for i in range(6):
        truth = np.zeros((HEIGHT, WIDTH), np.uint8)
        if i not in (1, 4):
            truth[10:30, 5 + i : 40] = 1
        ground, box = (np.array(values, np.float32)[..., None, None] for values in planes)
        maps = np.where(truth == 1, box, ground)
        if i in (1, 4):
            ys, xs, _ = PixelSampler([f"im{j}" for j in range(6)], *maps.shape[:2])._places(
                Block(f"im{i}", 0, 0, maps, HEIGHT, WIDTH)
            )
            y, x = next((y, x) for y in range(40, 55) for x in range(70)
                        if not ((ys >= y) & (ys < y + 5) & (xs >= x) & (xs < x + 6)).any())  # fmt: skip
            maps[..., y : y + 5, x : x + 6] = np.array(speck, np.float32)[..., None, None]
        images.append((maps, truth))
    return images


@pytest.fixture
def sparse(monkeypatch):
    """A sample of a pixel in each square of 9 x 9, which misses the specks."""
    monkeypatch.setattr("lib.oof.pixel_sample.POINTS", 64)

    def sampled(oof, speck):
        seen = oof.points.bins.reshape(len(oof.points.truth), -1)
        assert not (seen == to_probs_u8(np.array(speck)).ravel()[: seen.shape[1]]).all(1).any(), (
            "the sample sees a speck"
        )
        return oof

    return sampled


@pytest.mark.parametrize("labels", [2, 3])
def test_a_gate_that_only_a_speck_asks_for(tmp_path, sparse, labels):
    one = labels == 2
    # Of probabilities, and behind them of presences: ground, box and speck differ in the presence of class 1 alone.
    planes = ([[0.1, 0.2]], [[0.9, 0.7]]) if one else ([[0.9, 0.09, 0.01, 1, 0.2, 1]], [[0.1, 0.89, 0.01, 1, 0.7, 1]])
    speck = [[0.91, 0.3]] if one else [[0.2, 0.79, 0.01, 1, 0.3, 1]]
    names = ["a"] if one else ["a", "b"]
    images = scenes(planes, speck)
    oof, maps = out_of_fold(tmp_path / "maps", images, labels, presence=True)
    sparse(oof, np.array(speck)[:, : 1 if one else 3])
    found = fit_ensemble(Fitting(oof, maps, labels, settings(names, gate="fit"), tmp_path), FOLDS)
    assert found.decision.half_score < 0.9
    assert 0.3 < found.decision.gates[0 if one else 1] <= 0.7
    assert found.decision.score == found.decision.cross_score == 1
    assert one or found.decision.gates[0] == found.decision.gates[2] == 0


def test_a_factor_that_only_a_speck_asks_for(tmp_path, sparse):
    planes, speck = ([[0.9, 0.05, 0.05]], [[0.1, 0.8, 0.1]]), [[0.4, 0.5, 0.1]]
    oof, maps = out_of_fold(tmp_path / "maps", scenes(planes, speck), 3)
    sparse(oof, speck)
    config = settings(["a", "b"], postprocess=["priors"])
    assert sampled_factors(oof.points, oof.points.bins[:, 0].T / 255, config.competition) == (30, 30, 30)
    found = fit_ensemble(Fitting(oof, maps, 3, config, tmp_path), FOLDS)
    ground, a, _ = found.decision.factors
    assert found.decision.half_score < 0.9 and a / ground < 0.8
    assert found.decision.score == found.decision.cross_score == 1


@pytest.mark.parametrize("labels", [2, 3])
def test_a_weight_that_only_a_speck_asks_for(tmp_path, sparse, labels):
    # The first network alone takes the box for ground, and the second alone the speck for a box.
    ground, box, speck = [[0.1], [0.1]], [[0.4], [0.95]], [[0.2], [0.98]]
    if labels == 3:
        ground, box, speck = ([[1 - p - 0.01, p, 0.01] for (p,) in plane] for plane in (ground, box, speck))
    images = scenes((ground, box), speck)
    if labels == 2:
        for maps, truth in images:  # too weak for a higher threshold
            maps[:, :, truth == 1] = np.where(np.arange((truth == 1).sum()) % 2, maps[:, :, truth == 1], 0.56)
    oof, maps = out_of_fold(tmp_path / "maps", images, labels)
    sparse(oof, speck)
    config = settings(["a", "b"][: labels - 1], ensemble_weights="greedy")
    scorer = MixtureScorer(oof.points, labels, EnsembleWeights(equal(2)), config.competition, True)
    assert sampled_weights(scorer, 2) == (0.5, 0.5), "the sample knows no better"
    plain = fit_ensemble(Fitting(oof, maps, labels, settings(config.competition.classes), tmp_path), FOLDS)
    found = fit_ensemble(Fitting(oof, maps, labels, config, tmp_path), FOLDS)
    assert found.decision.mix.weights[0] > 0.5
    assert plain.decision.score < 0.9 and found.decision.score == found.decision.cross_score == 1


def noise(seed, systems=1, labels=4, pixels=900):
    """Bins of random networks (S + 1, K, P), presences behind them, and truth (P,); ties and zeros among them."""
    rng = RNG(seed)
    probs = rng.dirichlet(np.full(labels, 0.5), (systems + 1, pixels)).transpose(0, 2, 1)
    probs[:, :, :90] = np.roll(np.array([0.5, 0.5, 0, 0]), rng.integers(4))[:, None]
    return np.concatenate([to_probs_u8(probs), to_probs_u8(rng.random(probs.shape) ** 2)], 1), rng.integers(
        0, labels, pixels
    )


@pytest.mark.parametrize("kind", ["gates", "factors"])
def test_every_value_of_every_class_is_counted_as_the_decision_counts_it(tmp_path, kind):
    """Of each state of all classes, what a pass says of another value of one class is what counting it anew says."""
    nothing = np.ones((1, 8, HEIGHT, WIDTH), np.float32), np.zeros((HEIGHT, WIDTH), np.uint8)
    oof, maps = out_of_fold(tmp_path / "maps", [nothing], 4, True)
    config = settings(["a", "b", "c"], gate="fit")
    whole = Fitting(oof, maps, 4, config, tmp_path).whole
    space = GateGrid(range(1, 4)) if kind == "gates" else FactorGrid()
    images, rng = [noise(seed) for seed in range(3)], RNG(9)
    steps = len(space.values)

    def direct(places):
        found = []
        for bins, truth in images:
            values = {kind: getattr(space, kind)(places), **({} if kind == "gates" else {"gates": None})}
            decision = Decision(None, **values)
            probs = bins if kind == "gates" else bins[:, :4]
            found.append(count_classes(truth, decision.to_codes(probs[..., None] / np.float32(255))[0, :, 0], 4))
        return np.array(found)

    for turn in range(4):
        places = [space.neutral] * 4 if turn == 0 else rng.integers(0, steps, 4).tolist()
        if kind == "gates":
            places[0] = space.neutral
        state = ClassState(None, None, tuple(places))
        (counted,) = count_value_changes([[one] for one in images], whole.blend, space, [state], 4)
        assert (counted.counts == direct(places)).all()
        for label in range(1, 4):
            changed, changes = counted.of(label, np.ones(3, bool)).changes(places[label], steps)
            for place, change in enumerate(changes):
                expected = counted.counts.copy()
                expected[changed] += change
                wanted = direct([*places[:label], place, *places[label + 1 :]])
                assert (expected == wanted).all(), (label, place)


def test_changes_of_one_class_leave_other_images_alone_and_name_the_best():
    config = settings(["a", "b", "c"]).competition
    images, space = [noise(seed)[:2] for seed in range(4)], FactorGrid()
    blend = lambda bins, mix, gates: (bins[0, :4] / np.float32(255), np.zeros((0, bins.shape[-1])))  # noqa: E731
    start = ClassState(None, None, (30,) * 4)
    (counted,) = count_value_changes([[one] for one in images], blend, space, [start], 4)
    chosen = np.array([True, True, False, True])
    score, place = ClassObjective(chosen, space, range(4), config).best_value(counted, counted.counts, 2, 30)
    every = [ClassState(None, None, (30, 30, place, 30)) for place in range(61)]
    scores = [metrics.score(config, one.counts[chosen])
              for one in count_value_changes([[one] for one in images], blend, space, every, 4)]  # fmt: skip
    assert score == pytest.approx(max(scores), abs=2e-3) and scores[place] == pytest.approx(max(scores), abs=2e-3)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
@pytest.mark.parametrize("labels", [2, 4])
def test_mixtures_are_counted_as_they_decide(mean, labels):
    mix, tried = EnsembleWeights(equal(3), mean), [(0.2, 0.5, 0.3), (1.0, 0.0, 0.0), (0.0, 0.6, 0.4)]
    images = []
    for seed in range(3):
        bins, truth = noise(seed, systems=2)
        images.append((bins[:, :4], truth) if labels == 4 else (bins[:, :1], (truth > 1).astype(int)))
    competition = settings(["a", "b", "c"] if labels == 4 else ["a"]).competition
    blocks = [[(bins, truth[None])] for bins, truth in images]
    found = MixtureCounter(mix, labels, competition).count(blocks, tried)
    for i, weights in enumerate(tried):
        for j, (bins, truth) in enumerate(images):
            probs = EnsembleWeights(weights, mean)(bins / np.float32(255))
            if labels == 4:
                expected = count_classes(truth, probs.argmax(0), 4)
            else:
                between = np.searchsorted(THRESHOLD_GRID, to_probs_u8(probs[0]), "right")
                expected = np.array(
                    [[np.bincount(between[truth == t], minlength=len(THRESHOLD_GRID) + 1) for t in (0, 1)]]
                )
            assert (found[i, j] == expected).all()
    assert THRESHOLDS_REACHED[7] == 0 and THRESHOLDS_REACHED[8] == 1 and THRESHOLDS_REACHED[255] == len(THRESHOLD_GRID)


def test_weights_are_tried_in_passes_that_all_choices_share():
    """Counts that are best at (0.8, 0.2) for one half of the images and at (0, 1) for the other."""
    asked = []

    def count(tried):
        asked.append(list(tried))
        right = [[round(900 - 800 * abs(w[0] - best)) for best in (0.8, 0.8, 0.0, 0.0)] for w in tried]
        return np.array([[[[[0] * 32, [1000 - n] + [0] * 30 + [n]]] for n in row] for row in right])

    halves = [np.array([True, True, False, False]), np.array([False, False, True, True])]
    config = Config.model_validate({"competition": {"metric": "dice", "classes": ["a"]}}).competition
    first, second = search_weights(count, [[(1.0, 0.0)]] * 2, [WeightObjective(half, config, False) for half in halves])
    assert first[0] == pytest.approx(0.8) and second == (0.0, 1.0)
    assert len(asked) <= 4 and all(len(set(some)) == len(some) for some in asked)
    assert all(sum(weights) == pytest.approx(1) for some in asked for weights in some)


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ((0.5, 0.5), [(0, 1), (1 / 3, 2 / 3), (2 / 3, 1 / 3), (1, 0)]),
        ((0.2, 0.8), [(0, 1), (1 / 9, 8 / 9), (1 / 3, 2 / 3), (1, 0)]),
        ((1.0, 0.0), [(2 / 3, 1 / 3)]),  # what has no weight is tried with half of the greatest
    ],
)
def test_neighbours_of_weights_lack_one_or_have_half_or_twice_of_it(weights, wanted):
    found = neighbours(weights)
    assert len(found) == len(wanted) and np.allclose(found, wanted)


def test_weights_and_factors_are_the_same_however_many_states_are_counted_together(tmp_path, monkeypatch):
    rng, images = RNG(2), []
    for _ in range(6):
        truth = rng.integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8)
        good, bad = (np.eye(3)[truth].transpose(2, 0, 1) * much + rng.random((3, HEIGHT, WIDTH)) for much in (0.6, 0.2))
        good[2] *= 0.6  # the last class is underrated
        images.append((np.stack([good / good.sum(0), bad / bad.sum(0)]).astype(np.float32), truth))
    oof, maps = out_of_fold(tmp_path / "maps", images, 3)
    config = settings(["a", "b"], ensemble_weights="greedy", postprocess=["priors"])
    decision = fit_ensemble(Fitting(oof, maps, 3, config, tmp_path), FOLDS).decision
    assert decision.mix.weights[0] > 0.5 and decision.factors[2] > decision.factors[1]
    monkeypatch.setattr("lib.decision.weight_search.NUMBERS_PER_PASS", 1)
    monkeypatch.setattr("lib.decision.class_search.COUNTS_PER_PASS", 1)
    assert fit_ensemble(Fitting(oof, maps, 3, config, tmp_path), FOLDS).decision == decision


def test_a_sample_of_very_many_images_and_classes_stays_small():
    bins, truth = np.zeros((1, 1, 30), np.uint8), np.zeros(1, np.uint8)
    points = PixelSample(np.array([10**6]), bins, bins[..., :0], truth, np.ones(1, int))
    assert sampled_factors(points, np.full((30, 1), 1 / 30, np.float32), settings(["a"]).competition) == (30,) * 30
