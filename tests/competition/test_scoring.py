import cv2
import numpy as np
import pandas as pd
import pytest

from lib.competition import metrics, rle
from lib.competition.dataset import Competition
from lib.competition.scoring import score_submission
from lib.config.competition import CompetitionSettings
from lib.errors import UserError


@pytest.fixture
def quadrants(tmp_path):
    """(competition, truth 4 x 6): a test image whose left half is `road`, right half `tree`; no background."""
    truth = np.zeros((4, 6), np.uint8)
    truth[:, 3:] = 1
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        cv2.imwrite(str(tmp_path / split / f"{split}.png"), np.full((4, 6, 3), 9, np.uint8))
    write(tmp_path / "answers.csv", truth)
    write(tmp_path / "sample_submission.csv", truth * 0 + 9)
    options = {"class_column": "class", "rle_column": "predicted"}
    settings = CompetitionSettings(
        root=str(tmp_path), classes=["road", "tree"], background=False, metric="mean_iou",
        labels=options, submission=options, answers="answers.csv",
    )  # fmt: skip
    return Competition(settings), truth


def write(path, labels):
    rows = [("test", name, rle.encode(labels == i)) for i, name in enumerate(("road", "tree"))]
    pd.DataFrame(rows, columns=["id", "class", "predicted"]).to_csv(path, index=False)


def test_a_pixel_that_got_no_class_is_a_miss(quadrants):
    competition, truth = quadrants
    path = competition.root / "out.csv"
    write(path, truth)
    assert score_submission(competition, path) == 1
    guess = truth.copy()
    guess[2:, :3] = 9  # half of the road is left out
    write(path, guess)
    assert score_submission(competition, path) == pytest.approx((6 / 12 + 1) / 2)


def test_without_answers_it_says_where_the_score_is(quadrants):
    competition, _ = quadrants
    competition.settings = competition.settings.model_copy(update={"answers": ""})
    with pytest.raises(UserError, match="are not known here"):
        score_submission(competition, competition.root / "out.csv")


def folder(tmp_path, truths, **options):
    """A competition of two test images (24 x 36) whose answers are known, as run-lengths by object."""
    for split, names in (("train", ["t"]), ("test", truths)):
        (tmp_path / split).mkdir()
        for name in names:
            cv2.imwrite(str(tmp_path / split / f"{name}.png"), np.full((24, 36, 3), 9, np.uint8))
    rows = [(name, rle.encode(one)) for name, objects in truths.items() for one in objects or [np.zeros((24, 36))]]
    pd.DataFrame(rows, columns=["id", "encoding"]).to_csv(tmp_path / "answers.csv", index=False)
    return Competition(CompetitionSettings(root=str(tmp_path), answers="answers.csv", **options))


def box(y, x, h, w):
    mask = np.zeros((24, 36), np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def sampled(competition, columns, names):
    table = pd.DataFrame(names, columns=columns[: len(names[0])])
    table.assign(**{columns[-1]: ""}).to_csv(competition.root / "sample_submission.csv", index=False)


def test_airbus_scores_rows_as_objects_though_they_touch(tmp_path):
    truths = {"s1": [box(2, 2, 10, 6), box(2, 8, 10, 6)], "s2": []}
    competition = folder(tmp_path, truths, metric="airbus_f2", submission={"preset": "airbus"})
    sampled(competition, ["ImageId", "EncodedPixels"], [("s1.jpg",), ("s2.jpg",)])
    path = tmp_path / "out.csv"

    def score(*rows):
        pd.DataFrame(rows, columns=["ImageId", "EncodedPixels"]).to_csv(path, index=False)
        return score_submission(competition, path)

    first, second = (rle.encode(one) for one in truths["s1"])
    assert score(("s1.jpg", first), ("s1.jpg", second), ("s2.jpg", "")) == 1
    assert score(("s1.jpg", first), ("s1.jpg", second), ("s2.jpg", first)) == 0.5
    assert score(("s1.jpg", first), ("s2.jpg", "")) == pytest.approx((5 / (5 + 4) + 1) / 2)
    both = rle.encode(truths["s1"][0] | truths["s1"][1])  # one object: IoU with either is exactly .5, which is no hit
    assert score(("s1.jpg", both), ("s2.jpg", "")) == 0.5


def test_clouds_are_scored_at_the_answers_size(tmp_path):
    truths = {"s1": [box(0, 0, 12, 18)], "s2": [box(7, 5, 10, 20)]}
    competition = folder(
        tmp_path, truths, metric="mean_dice", submission={"preset": "clouds", "id_template": "{id}", "size": [8, 12]}
    )
    sampled(competition, ["Image_Label", "EncodedPixels"], [("s1",), ("s2",)])
    small = [cv2.resize(objects[0], (12, 8), interpolation=cv2.INTER_NEAREST) for objects in truths.values()]
    guess = small[1].copy()
    guess[:, 6:] = 0
    table = pd.DataFrame({"Image_Label": ["s1", "s2"], "EncodedPixels": [rle.encode(small[0]), rle.encode(guess)]})
    table.to_csv(tmp_path / "out.csv", index=False)
    dice = 2 * (guess & small[1]).sum() / (guess.sum() + small[1].sum())
    assert score_submission(competition, tmp_path / "out.csv") == pytest.approx((1 + dice) / 2) and 0 < dice < 1


def test_roads_are_scored_by_patches(tmp_path):
    truths = {"s1": [box(0, 0, 24, 20)], "s2": [box(0, 0, 4, 36)]}
    options = {"preset": "epfl_roads", "patch": 12}
    competition = folder(tmp_path, truths, metric="f_beta", submission=options)
    names = [(f"{n:03}_{x}_{y}",) for n in (1, 2) for y in (0, 12) for x in (0, 12, 24)]
    sampled(competition, ["id", "prediction"], names)
    truth = [1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 0, 0]
    guess = [1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0]
    pd.DataFrame({"id": [n for (n,) in names], "prediction": guess}).to_csv(tmp_path / "out.csv", index=False)
    hits = sum(t and g for t, g in zip(truth, guess, strict=True))
    assert score_submission(competition, tmp_path / "out.csv") == pytest.approx(2 * hits / (sum(truth) + sum(guess)))


def test_a_stack_is_scored_by_its_surface(tmp_path):
    truths = {f"kidney_{z}": [box(4, 5, 12, 14)] for z in (9, 10, 11)}
    competition = folder(tmp_path, truths, metric="surface_dice", submission={"preset": "sennet"})
    sampled(competition, ["id", "rle"], [(name,) for name in sorted(truths)])
    path = tmp_path / "out.csv"

    def score(shift):
        text = rle.encode(box(4, 5 + shift, 12, 14), "row")
        pd.DataFrame({"id": sorted(truths), "rle": text}).to_csv(path, index=False)
        return score_submission(competition, path)

    assert score(0) == pytest.approx(1) and 0.2 < score(3) < 0.9


def test_an_image_alone_is_scored_by_the_metric_and_1_where_nothing_is_wrong():
    matrices = np.array([[[90, 0], [0, 0]], [[80, 5], [5, 10]], [[50, 0], [0, 50]], [[90, 0], [10, 0]]])
    counts = metrics.counts_of(matrices)
    assert metrics.image_scores(CompetitionSettings(metric="iou"), counts) == pytest.approx([1, 0.5, 1, 0])
    assert metrics.image_scores(CompetitionSettings(), counts) == pytest.approx([1, 2 / 3, 1, 0])
