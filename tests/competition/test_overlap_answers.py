"""Answers and scores where classes overlap: each class is written, resized, checked and scored by its own plane."""

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from lib.competition import metrics, rle
from lib.competition.dataset import Competition
from lib.competition.labels.planes import label_of_array
from lib.competition.metrics.objects_and_surfaces import AirbusF2, Case, SurfaceDice
from lib.competition.scoring import count_classes, open_codec, score_submission
from lib.config.competition import CompetitionSettings, Scoring
from lib.errors import UserError
from lib.imaging.resize import resized
from lib.tables import IGNORE

CLASSES = ["artery", "vein"]
H, W = 37, 50


def planes_of(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).random((2, H, W)).astype(np.float32)
    planes = np.stack([cv2.GaussianBlur(plane, (9, 9), 3) > 0.5 for plane in noise]).astype(np.uint8)
    assert planes.all(0).any() and (planes.sum((1, 2)) > 0).all(), "the fixture is degenerate"
    return planes


def bands_of(planes: np.ndarray, rows: int = 10):
    return [(y, planes[:, y : y + rows]) for y in range(0, planes.shape[1], rows)]


def codec_of(ids=("a",), **submission):
    rows = [(image_id, name) for image_id in ids for name in CLASSES]
    sample = pd.DataFrame(rows, columns=["id", "class"]).assign(predicted="")
    settings = CompetitionSettings(classes=CLASSES, multilabel=True, submission={"class_column": "class", **submission})
    return open_codec(SimpleNamespace(settings=settings, label_names=settings.label_names, sample=sample))


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("overlap", [False, True])
def test_rows_of_an_image_may_share_pixels(tmp_path, order, overlap):
    planes, codec = planes_of(0), codec_of(order=order, overlap=overlap)
    codec.add("a", H, W, bands_of(planes))
    codec.write(tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["predicted"].tolist() == [rle.encode(p, order) for p in planes]
    assert codec.check(tmp_path / "out.csv", {"a": (H, W)}) == {"a": planes.sum()}
    label = codec.read(tmp_path / "out.csv", {"a": (H, W)})["a"]
    assert (label.read(0, 0, H, W) == planes).all() and (label.read(3, 7, 9, 20) == planes[:, 3:12, 7:27]).all()


def test_objects_of_two_classes_may_share_pixels_and_those_of_one_may_not(tmp_path):
    planes, codec = np.zeros((2, H, W), np.uint8), codec_of(instances=True)
    planes[0, 2:9, 2:9] = planes[0, 20:30, 5:9] = planes[1, 5:25, 6:30] = 1
    codec.add("a", H, W, bands_of(planes))
    codec.write(tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["class"].tolist() == ["artery", "artery", "vein"]
    assert (codec.read(tmp_path / "out.csv", {"a": (H, W)})["a"].read(0, 0, H, W) == planes).all()
    pd.concat([table, table[:1]]).to_csv(tmp_path / "out.csv", index=False)
    with pytest.raises(UserError, match="in a the object 4 overlaps 1 at pixel"):
        codec.check(tmp_path / "out.csv", {"a": (H, W)})


@pytest.mark.parametrize("rule", ["nearest", "center", "majority"])
def test_planes_are_resized_one_by_one(rule):
    planes = planes_of(1)
    planes[1, :5] = IGNORE
    out = (12, 17)
    together = np.concatenate([band for _, band in resized(bands_of(planes), (H, W), out, rule, [0, 1, IGNORE])], 1)
    for plane, found in zip(planes, together, strict=True):
        bands = [(y, plane[y : y + 10]) for y in range(0, H, 10)]
        alone = np.concatenate([band for _, band in resized(bands, (H, W), out, rule, [0, 1, IGNORE])])
        assert (found == alone).all()


def test_an_answer_of_another_size_is_scored_as_the_leaderboard_sees_it(tmp_path):
    planes, codec = planes_of(2), codec_of(size=[12, 17])
    codec.add("a", H, W, bands_of(planes))
    codec.write(tmp_path / "out.csv")
    seen = np.concatenate([band for _, band in codec.seen(H, W, bands_of(planes))], 1)
    assert (codec.read(tmp_path / "out.csv", {"a": (H, W)})["a"].read(0, 0, 12, 17) == seen).all()


def folder_of(root, truth: dict[str, np.ndarray]) -> Competition:
    (root / "train").mkdir()
    (root / "test").mkdir()
    tables = {"train": [], "answers": []}
    for image_id, planes in truth.items():
        part = "train" if image_id == "t" else "test"
        cv2.imwrite(str(root / part / f"{image_id}.png"), np.zeros((H, W, 3), np.uint8))
        rows = [(image_id, name, rle.encode(plane)) for name, plane in zip(CLASSES, planes, strict=True)]
        tables["train" if part == "train" else "answers"] += rows
    for name, rows in tables.items():
        pd.DataFrame(rows, columns=["id", "class", "encoding"]).to_csv(root / f"{name}.csv", index=False)
    settings = CompetitionSettings(
        root=str(root), classes=CLASSES, multilabel=True, answers="answers.csv", labels={"class_column": "class"},
        submission={"class_column": "class", "sample": ""},
    )  # fmt: skip
    return Competition(settings)


def test_a_submission_is_scored_class_by_class(tmp_path):
    truth = {name: planes_of(i) for i, name in enumerate("tab")}
    competition, guesses = folder_of(tmp_path, truth), {"a": planes_of(7), "b": planes_of(8)}
    codec = open_codec(competition)
    for image_id, planes in guesses.items():
        codec.add(image_id, H, W, bands_of(planes))
    codec.write(tmp_path / "out.csv")
    dice = [
        2 * (p & t).sum() / (p.sum() + t.sum())
        for i in "ab"
        for p, t in zip(guesses[i], truth[i], strict=True)
    ]  # fmt: skip
    assert score_submission(competition, tmp_path / "out.csv") == pytest.approx(np.mean(dice), abs=1e-9)
    assert metrics.scored_classes(competition.settings) == [0, 1]


def test_objects_of_two_classes_that_overlap_are_matched_by_class():
    objects = [(0, np.array([0, 20]), np.array([5, 5])), (1, np.array([3]), np.array([19]))]
    score = {
        found: AirbusF2.score(["a"], lambda _, n=found: Case(H, W, None, None, lambda: (objects, objects[:n])), [0, 1],
                              Scoring())
        for found in (1, 2)
    }  # fmt: skip
    assert score == {1: pytest.approx(5 / (5 + 4)), 2: 1}


def test_what_is_ignored_for_one_class_counts_for_the_other():
    truth, guess = planes_of(3), planes_of(4)
    truth[0, :9] = IGNORE
    counts = count_classes(truth, guess, 2)
    assert counts[0].tolist() == [(truth[0, 9:] & guess[0, 9:]).sum(), truth[0, 9:].sum(), guess[0, 9:].sum()]
    assert counts[1].tolist() == [(truth[1] & guess[1]).sum(), truth[1].sum(), guess[1].sum()]


def test_surfaces_are_those_of_each_plane():
    truth, guess = label_of_array(planes_of(5)), label_of_array(planes_of(6))
    case = Case(H, W, truth, guess, lambda: ([], []))
    score = SurfaceDice.score(["s_1"], lambda _: case, [0, 1], Scoring())
    alone = []
    for one, other in zip(planes_of(5), planes_of(6), strict=True):
        alone.append(SurfaceDice.score(
            ["s_1"], lambda _, a=one, b=other: Case(H, W, label_of_array(a), label_of_array(b), case.objects), [1],
            Scoring(),
        ))  # fmt: skip
    assert 0 < score < 1 and score == pytest.approx(np.mean(alone))


@pytest.mark.parametrize("codec", ["tif", "png", "patches", "pixels"])
def test_codecs_of_one_label_per_pixel_refuse_it(codec):
    submission = {"codec": codec} if codec == "patches" else {"codec": codec, "size": [9, 9]}
    with pytest.raises(ValidationError, match=f"{codec} writes one label for each pixel, but with multilabel"):
        CompetitionSettings(classes=CLASSES, multilabel=True, submission=submission)
    with pytest.raises(ValidationError, match="pixel_accuracy is for pixels of one label"):
        CompetitionSettings(classes=CLASSES, multilabel=True, metric="pixel_accuracy")
