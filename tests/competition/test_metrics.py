import tracemalloc

import cv2
import numpy as np
import pytest
import surface_distance
from surface_distance.lookup_tables import (
    ENCODE_NEIGHBOURHOOD_3D_KERNEL,
    create_table_neighbour_code_to_surface_area,
)

from lib.competition import metrics
from lib.competition.labels.planes import label_of_array
from lib.competition.metrics.objects_and_surfaces import AREAS, Case, object_ious
from lib.competition.scoring import components_of, count_classes
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.plugins import find, register

NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def images():
    """Truth and prediction (5, 20, 30): ignored pixels, a class that an image lacks, one that only one side has."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (5, 20, 30))
    guess = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 4, truth.shape))
    truth[1][truth[1] == 2], guess[1][guess[1] == 2] = 0, 0  # neither has it
    truth[2][truth[2] == 3] = 0  # only the prediction
    truth[3], guess[3] = 0, 0
    truth[:, 15:18, 5:9] = 255
    return truth, guess


def scored(images, metric, **options):
    truth, guess = images
    counts = np.stack([count_classes(t, g, 4) for t, g in zip(truth, guess, strict=True)])
    return metrics.score(CompetitionSettings(classes=NAMES, metric=metric, **options), counts)


def masks(images, pooled):
    """(truth, prediction) of each class and image, ignored pixels left out; of pooled pixels, one image."""
    truth, guess = images
    for label in (1, 2, 3):
        for t, g in [(truth, guess)] if pooled else zip(truth, guess, strict=True):
            yield t[t != 255] == label, g[t != 255] == label


def f_beta_of(t, g, beta):
    """From precision and recall, as textbooks write it; None when neither side has a pixel."""
    if not t.any() and not g.any():
        return None
    if not (t & g).any():
        return 0
    precision, recall = (t & g).sum() / g.sum(), (t & g).sum() / t.sum()
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def iou_of(t, g):
    return (t & g).sum() / (t | g).sum() if (t | g).any() else None


RULES = {"one": 1, "zero": 0, "skip": None}


@pytest.mark.parametrize("empty", ["one", "zero", "skip", "skip_truth", ""])
@pytest.mark.parametrize(
    ("name", "pooled", "formula", "usual"),
    [
        ("mean_dice", False, lambda t, g: f_beta_of(t, g, 1), "one"),
        ("dice", True, lambda t, g: f_beta_of(t, g, 1), "one"),
        ("image_f_beta", False, lambda t, g: f_beta_of(t, g, 2), "one"),
        ("f_beta", True, lambda t, g: f_beta_of(t, g, 2), "one"),
        ("image_iou", False, iou_of, "skip"),
        ("iou", True, iou_of, "skip"),
        ("mean_iou", True, iou_of, "skip"),
    ],
)
def test_formulas_with_every_rule_for_what_is_empty(images, name, pooled, formula, usual, empty):
    values = []
    for t, g in masks(images, pooled):
        value = formula(t, g)
        if empty == "skip_truth" and not t.any():
            continue
        values.append(RULES[empty or usual] if value is None else value)
    expected = np.mean([value for value in values if value is not None])
    assert scored(images, name, scoring={"beta": 2, "empty": empty}) == pytest.approx(expected)


def test_rules_differ_where_images_are_empty(images):
    found = {
        rule: scored(images, "mean_dice", scoring={"empty": rule}) for rule in ("one", "zero", "skip", "skip_truth")
    }
    assert found["one"] > found["skip"] > found["zero"] and found["skip_truth"] > found["skip"]


def test_one_class_or_the_background_can_be_scored(images):
    truth, guess = images
    flat = truth[truth != 255], guess[truth != 255]
    ious = [iou_of(flat[0] == label, flat[1] == label) for label in range(4)]
    assert scored(images, "iou", scoring={"classes": ["b"]}) == pytest.approx(ious[2])
    assert scored(images, "iou", score_background=True) == pytest.approx(np.mean(ious))
    with pytest.raises(ValueError, match="scoring.classes: 'd' is not one of"):
        scored(images, "iou", scoring={"classes": ["d"]})


def test_pixel_accuracy(images):
    truth, guess = images
    known = truth != 255
    assert scored(images, "pixel_accuracy") == pytest.approx((truth[known] == guess[known]).mean())


def test_scikit_learn_says_the_same(images):
    sklearn = pytest.importorskip("sklearn.metrics")
    t, g = (part[images[0] != 255] for part in images)
    each = {"labels": [1, 2, 3], "average": "macro"}
    assert scored(images, "dice") == pytest.approx(sklearn.f1_score(t, g, **each))
    assert scored(images, "iou") == pytest.approx(sklearn.jaccard_score(t, g, **each))
    assert scored(images, "f_beta", scoring={"beta": 2}) == pytest.approx(sklearn.fbeta_score(t, g, beta=2, **each))
    assert scored(images, "pixel_accuracy") == pytest.approx(sklearn.accuracy_score(t, g))


def test_severstal_and_clouds_average_rows_of_images_and_classes(images):
    def dice(truth, guess):  # as the competitions' pages say
        if truth.sum() + guess.sum() == 0:
            return 1.0
        return 2 * (truth * guess).sum() / (truth.sum() + guess.sum())

    rows = [dice(t.astype(int), g.astype(int)) for t, g in masks(images, pooled=False)]
    assert scored(images, "mean_dice") == pytest.approx(np.mean(rows)) and 1.0 in rows


def test_mean_dice_is_a_mean_over_images_and_both_empty_counts_as_one():
    truth = np.zeros((2, 10, 10), int)
    guess = truth.copy()
    truth[0, :5], guess[0, :, :5] = 1, 1
    counts = np.stack([count_classes(t, g, 2) for t, g in zip(truth, guess, strict=True)])
    assert metrics.score(CompetitionSettings(metric="mean_dice"), counts) == pytest.approx((0.5 + 1) / 2)
    assert metrics.score(CompetitionSettings(metric="dice"), counts) == pytest.approx(0.5)


def test_ignored_pixels_do_not_count_and_background_only_when_asked():
    truth, guess = np.array([0, 0, 1, 255]), np.array([0, 1, 1, 0])
    counts = count_classes(truth, guess, 2)
    assert counts[:, 1].sum() == 3
    foreground, both = CompetitionSettings(metric="iou"), CompetitionSettings(metric="iou", score_background=True)
    assert metrics.score(foreground, counts[None]) == pytest.approx(0.5)
    assert metrics.score(both, counts[None]) == pytest.approx((0.5 + 0.5) / 2)


def test_counts_alone_are_scored_by_a_stand_in_that_is_said(images, capsys):
    metrics.pixels._say_stand_in.cache_clear()
    assert scored(images, "airbus_f2") == scored(images, "mean_dice")
    assert scored(images, "surface_dice") == scored(images, "dice")
    said = capsys.readouterr().out
    assert said.count("\n") == 2 and "airbus_f2 needs objects" in said and "use mean_dice; submissions are" in said


def test_a_users_metric(images):
    @register("metric", "recall of a test")
    def recall(counts, classes, rules):
        both, truth, _ = metrics.parts(counts.sum(0), classes[0])
        return rules.beta * both / truth

    truth, guess = images
    known = truth != 255
    expected = ((truth == 1) & (guess == 1) & known).sum() / (truth == 1).sum()
    assert scored(images, "recall of a test", scoring={"beta": 0.5}) == pytest.approx(expected / 2)


# Objects


def ships(seed, count):
    """Label maps (truth, prediction) of some rectangles, a few moved, missed or invented."""
    rng = np.random.default_rng(seed)
    truth, guess = np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8)
    for i in range(count):
        y, x, h, w = 20 * (i // 4) + 2, 20 * (i % 4) + 2, rng.integers(6, 13), rng.integers(6, 13)
        dy, dx = rng.integers(0, 4, 2)
        truth[y : y + h, x : x + w] = 1
        if rng.random() < 0.8:
            guess[y + dy : y + dy + h, x + dx : x + dx + w] = 1
    guess[50:55, 60:75] = seed % 2
    return truth, guess


def f2_of(truth, guess):
    """Airbus: average over thresholds of F2 = 5 TP / (5 TP + 4 FN + FP) on masks of single ships."""
    truths, guesses = ([at == i for i in range(1, n)] for n, at in (cv2.connectedComponents(m) for m in (truth, guess)))
    if not truths:
        return float(not guesses)
    scores = []
    for threshold in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
        hits = sum(any((t & g).sum() / (t | g).sum() > threshold for g in guesses) for t in truths)
        scores.append(5 * hits / (5 * hits + 4 * (len(truths) - hits) + len(guesses) - hits))
    return np.mean(scores)


def cases(pairs):
    made = {}
    for image_id, (truth, guess) in pairs.items():
        labels = label_of_array(truth), label_of_array(guess)
        objects = tuple(components_of(label, *truth.shape, "column", [1]) for label in labels)
        made[image_id] = Case(*truth.shape, *labels, lambda both=objects: both)
    return made


def test_airbus_f2_is_the_organisers(capsys):
    nothing = np.zeros((60, 80), np.uint8)
    pairs = {f"i{seed}": ships(seed, count) for seed, count in enumerate((12, 7, 1, 3))}
    pairs |= {"none": (nothing, nothing), "invented": (nothing, ships(1, 2)[1]), "missed": (ships(1, 2)[0], nothing)}
    expected = [f2_of(*pair) for pair in pairs.values()]
    assert expected[-3:] == [1, 0, 0] and 0 < expected[0] < 1
    score = find("metric", "airbus_f2", "x").score
    assert score(list(pairs), cases(pairs).get, [1], None) == pytest.approx(np.mean(expected))


def squares(count, per_row, shift=0):
    """Runs of `count` squares of 4 x 4 pixels, 8 pixels apart, in an image of 8 * per_row columns; row by row."""
    width, objects = 8 * per_row, []
    for i in range(count):
        y, x = 8 * (i // per_row), 8 * (i % per_row) + shift
        starts = (np.arange(4) + y) * width + x
        objects.append((1, starts, np.full(4, 4)))
    return objects


def test_memory_of_many_objects_grows_with_their_runs_not_with_pairs():
    truth, guess = squares(20_000, 100), squares(20_000, 100, shift=1)
    tracemalloc.start()
    mine, theirs, ious = object_ious("a", truth, guess)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (mine == np.arange(20_000)).all() and (theirs == mine).all() and np.allclose(ious, 12 / 20)
    assert peak < 64e6  # 20,000 x 20,000 numbers are 3.2 GB


@pytest.mark.parametrize("seed", range(5))
def test_ious_of_objects_are_those_of_their_masks(seed):
    rng = np.random.default_rng(seed)
    truth, guess = (np.kron(rng.integers(0, 4, (6, 8)), np.ones((3, 3), int))[1:-1, 2:] for _ in range(2))
    objects = [
        [(int(label), *runs_of(at == label)) for label in np.unique(at) if label] for at in (truth % 3, guess % 3)
    ]
    mine, theirs, ious = object_ious("a", *objects)
    found = np.zeros((len(objects[0]), len(objects[1])))
    found[mine, theirs] = ious
    expected = [[(one[0] == other[0]) * iou_of(truth % 3 == one[0], guess % 3 == other[0]) for other in objects[1]]
                for one in objects[0]]  # fmt: skip
    assert np.allclose(found, expected) and 0 < found.max() < 1


def runs_of(mask):
    """Starts and lengths of the runs of a mask, row by row."""
    edges = np.diff(np.pad(mask.ravel().astype(int), 1))
    starts, ends = np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)
    return starts, ends - starts


def test_objects_of_an_image_must_not_overlap():
    one = (1, np.array([0]), np.array([5]))
    with pytest.raises(UserError, match="objects of a overlap"):
        object_ious("a", [one, one], [one])


# Surfaces


def test_surface_of_known_solids():
    bits = {code: code.bit_count() for code in range(256)}
    assert AREAS[0] == AREAS[255] == 0 and all(AREAS[code] > 0 for code in range(1, 255))
    assert all(AREAS[code] == AREAS[255 - code] for code in bits)
    assert AREAS[0b00001111] == AREAS[0b01010101] == AREAS[0b00110011] == 1, "a plane's cubes have a unit of area"
    assert AREAS[0b00000011] == pytest.approx(2**0.5 / 2), "an edge is cut off at 45 degrees"
    assert 8 * AREAS[1] == pytest.approx(3**0.5), "a single voxel is an octahedron with edges of half a diagonal"


def test_areas_are_the_organisers_table():
    table = np.asarray(create_table_neighbour_code_to_surface_area((1, 1, 1)))
    for code in range(256):
        set_ = np.array([[[code >> (4 * z + 2 * y + x) & 1 for x in (0, 1)] for y in (0, 1)] for z in (0, 1)])
        assert table[int((set_ * ENCODE_NEIGHBOURHOOD_3D_KERNEL).sum())] == pytest.approx(AREAS[code], abs=1e-6)


def surface_dice_of(truth, guess):
    """What the organiser's package says of whole volumes, at tolerance 0 and with voxels of 1 x 1 x 1."""
    distances = surface_distance.compute_surface_distances(truth > 0, guess > 0, (1, 1, 1))
    return surface_distance.compute_surface_dice_at_tolerance(distances, 0)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_surface_dice_of_stacks_is_that_of_whole_volumes(monkeypatch, rows):
    monkeypatch.setattr("lib.competition.metrics.objects_and_surfaces.SURFACE_ROWS", rows)
    rng = np.random.default_rng(1)
    volumes, pairs = {}, {}
    for name, depth in (("kidney_1_", 11), ("kidney_2_", 3)):
        truth = np.zeros((depth, 12, 10), np.uint8)
        truth[1:9, 2:9, 3:8] = 1
        guess = np.roll(truth, 1, axis=1) ^ (rng.random(truth.shape) < 0.02)
        volumes[name] = truth, guess
        pairs |= {f"{name}{z}": (truth[z], guess[z]) for z in range(depth)}  # 10 comes after 9, not after 1
    expected = np.mean([surface_dice_of(*pair) for pair in volumes.values()])
    score = find("metric", "surface_dice", "x").score
    ids = sorted(pairs)  # as texts: the slices are put in order
    assert score(ids, cases(pairs).get, [1], None) == pytest.approx(expected) and 0.1 < expected < 0.9
    perfect = {image_id: (truth, truth) for image_id, (truth, _) in pairs.items()}
    assert score(ids, cases(perfect).get, [1], None) == pytest.approx(1)


def test_only_two_slices_are_open_at_a_time():
    import gc
    import weakref

    alive, most = weakref.WeakSet(), 0

    def open_case(image_id):
        nonlocal most
        label = label_of_array(np.ones((4, 4), np.uint8))
        case = Case(4, 4, label, label, list)
        alive.add(label)
        gc.collect()
        most = max(most, len(alive))
        return case

    find("metric", "surface_dice", "x").score([f"s{i}" for i in range(9)], open_case, [1], None)
    assert most <= 3  # two, and the one that is just made


def test_slices_need_numbers_and_one_size():
    score = find("metric", "surface_dice", "x").score
    pair = np.ones((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    with pytest.raises(UserError, match="image ids that end in a slice's number: left"):
        score(["left"], cases({"left": pair}).get, [1], None)
    other = np.ones((5, 4), np.uint8), np.ones((5, 4), np.uint8)
    with pytest.raises(UserError, match="slices of s1 differ in size"):
        score(["s1", "s2"], cases({"s1": pair, "s2": other}).get, [1], None)
