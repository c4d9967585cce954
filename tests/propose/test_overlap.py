"""`init` sees classes that overlap, and tells them from classes that only touch; the hand bones' own configuration."""

import json
from pathlib import Path

import cv2
import numpy as np
import odd_layouts
import pandas as pd
import pytest
from layouts import save, table

from lib.competition import rle
from lib.competition.dataset import Competition
from lib.config import load
from lib.config.competition import CompetitionSettings
from lib.config.submission import Submission
from lib.data.folds import name_groups
from lib.propose.choose import scale_of, windows
from lib.propose.found import Notes
from lib.propose.pixels.measure import ObjectSizes, PictureSizes, measure_objects
from lib.propose.pixels.overlap import answers_overlap
from lib.propose.propose import propose

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["inner", "outer"]
SHAPE = (90, 120)


def planes_of(number: int, overlap: int) -> np.ndarray:
    """Two rectangles (2, h, w) side by side that share `overlap` columns of pixels."""
    rng = np.random.default_rng(number)
    top, middle = int(rng.integers(5, 25)), int(rng.integers(50, 70))
    planes = np.zeros((2, *SHAPE), np.uint8)
    planes[0, top : top + 40, middle - 30 : middle] = planes[1, top + 5 : top + 45, middle - overlap : middle + 35] = 1
    return planes


def pictures(root: Path, overlap: int) -> dict[str, np.ndarray]:
    truth = {}
    for number in range(8):
        split, name = ("train" if number < 6 else "test"), f"s{number}"
        planes = planes_of(number, overlap)
        ground = np.random.default_rng(number).integers(40, 90, (*SHAPE, 3))
        save(root / split / f"{name}.png", (ground + (planes[0] * 70 + planes[1] * 50)[..., None]).astype(np.uint8))
        truth |= {name: planes} if split == "train" else {}
    return truth


def as_coco(root: Path, truth: dict[str, np.ndarray]) -> None:
    annotations, images = [], []
    for number, (name, planes) in enumerate(truth.items()):
        images.append({"id": number, "file_name": f"{name}.png", "height": SHAPE[0], "width": SHAPE[1]})
        for category, plane in enumerate(planes, start=1):
            ys, xs = np.nonzero(plane)
            y0, y1, x0, x1 = (float(v) for v in (ys.min(), ys.max() + 1, xs.min(), xs.max() + 1))
            ring = [x0, y0, x1, y0, x1, y1, x0, y1]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": category,
                                "segmentation": [ring], "area": (y1 - y0) * (x1 - x0)})  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "train.json").write_text(json.dumps(content))


def as_masks(root: Path, truth: dict[str, np.ndarray]) -> None:
    for name, planes in truth.items():
        for word, plane in zip(CLASSES, planes, strict=True):
            save(root / "masks" / word / f"{name}.png", plane * np.uint8(255))


def as_rows(root: Path, truth: dict[str, np.ndarray]) -> None:
    for planes in truth.values():
        for plane in planes:  # rectangles do not tell how runs are counted
            ys, xs = np.nonzero(plane)
            plane[:] = 0
            cv2.ellipse(plane, (int(xs.mean()), int(ys.mean())), (int(np.ptp(xs)) // 2, 30), 15, 0, 360, 1, -1)
    rows = [(n, w, rle.encode(p)) for n, planes in truth.items() for w, p in zip(CLASSES, planes, strict=True)]
    table(root / "train.csv", ["name", "kind", "runs_of"], rows)


def proposal(tmp_path: Path, write, overlap: int, by_class: bool = True):
    root = tmp_path / "raw"
    truth = pictures(root, overlap)
    write(root, truth)
    names = ["s6", "s7"]
    if by_class:
        table(root / "sample_submission.csv", ["name", "kind", "rle"], [(n, w, "") for n in names for w in CLASSES])
    else:
        rows = [(f"{n}.png", " ".join(["0"] * 65536)) for n in names]
        table(root / "sample_submission.csv", ["image_id", "PredictionString"], rows)
    propose(root, "mine", tmp_path / "mine.yaml")
    return truth, load(tmp_path / "mine.yaml").competition


@pytest.mark.parametrize("write", [as_coco, as_masks, as_rows])
def test_classes_that_overlap_are_kept_apart(tmp_path, capsys, write):
    truth, config = proposal(tmp_path, write, overlap=9)
    assert config.multilabel and config.metric == "mean_dice" and config.classes == CLASSES
    labels = Competition(config).labels
    assert all((labels.open(n, *SHAPE).read(0, 0, *SHAPE) == planes).all() for n, planes in truth.items())
    out = capsys.readouterr().out
    assert "classes overlap: " in out and "lies on top" not in out and "painted over" not in out


@pytest.mark.parametrize("write", [as_coco, as_masks, as_rows])
def test_classes_that_touch_are_not_kept_apart(tmp_path, write):
    _, config = proposal(tmp_path, write, overlap=0)
    assert not config.multilabel


def test_outlines_of_neighbours_are_no_overlap(tmp_path):
    _, config = proposal(tmp_path, as_coco, overlap=1)
    assert not config.multilabel and config.labels.paint == "area"


def test_answers_of_one_label_per_pixel_need_painted_classes(tmp_path, capsys):
    _, config = proposal(tmp_path, as_coco, overlap=9, by_class=False)
    assert not config.multilabel and config.submission.codec == "pixels"
    assert "the smaller one is painted over the larger" in capsys.readouterr().out


def test_masks_for_answers_of_one_label_per_pixel_are_ordered_by_area(tmp_path, capsys):
    truth, config = proposal(tmp_path, as_masks, overlap=9, by_class=False)
    areas = sum(planes.sum((1, 2), dtype=int) for planes in truth.values())
    assert areas[0] < areas[1], "the fixture is degenerate"
    assert not config.multilabel and config.classes == CLASSES[::-1]
    assert "the smaller class lies on top (order of competition.classes: outer, inner)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("codec", "column", "template", "separate"),
    [("rle", "kind", "", True), ("rle", "", "{id}_{class}", True), ("rle", "", "{id}", False),
     ("pixels", "kind", "", False), ("pixels", "", "{id}_{class}", False)],
)  # fmt: skip
def test_an_answer_needs_run_lengths_and_a_row_for_each_class(codec, column, template, separate):
    submission = {"codec": codec, "class_column": column, "id_template": template}
    settings = CompetitionSettings.model_construct(submission=Submission.model_construct(**submission))
    assert answers_overlap(settings) is separate


def test_the_configuration_of_the_hand_bones_reads_their_layout(tmp_path):
    path = ROOT / "configs/boostcamp_handbone.yaml"
    bones = tuple(load(path).competition.classes)
    assert len(bones) == 29
    layout = odd_layouts.hands(tmp_path / "raw", bones)
    config = load(path, ["--competition.root", str(layout.root)])
    competition = Competition(config.competition)
    competition.check()
    assert len(competition.ids("train")) == 10 and len(competition.ids("test")) == 2
    order = [sorted(bones).index(bone) for bone in bones]
    for name, planes in layout.truth.items():
        assert (competition.labels.open(name, 120, 100).read(0, 0, 120, 100) == planes[order]).all()
    sample = pd.read_csv(layout.root / "sample_submission.csv")
    assert list(sample.columns) == ["image_name", "class", "rle"] and config.competition.metric == "mean_dice"
    ids = competition.ids("train")
    groups = name_groups(ids, competition.metadata, config.folds, competition.files)
    assert sorted(groups) == [f"ID{person:03}" for person in range(1, 6) for _ in "RL"]
    assert all(f"/{group}/{name}." in competition.files[name] for group, name in zip(groups, ids, strict=True))


@pytest.mark.parametrize(("bones", "placed"), [(29, True), (3, False)])
def test_many_classes_of_one_object_each_are_told_by_their_place(tmp_path, monkeypatch, bones, placed):
    layout = odd_layouts.hands(tmp_path / "raw", tuple(f"bone{i:02}" for i in range(bones)))
    propose(layout.root, "mine", tmp_path / "mine.yaml")
    objects = measure_objects(Competition(load(tmp_path / "mine.yaml").competition), Notes())
    assert objects.placed is placed
    sizes = PictureSizes(10, [384] * 10, [320] * 10, 3, ())
    monkeypatch.setattr("lib.propose.choose.whole_side", lambda: 256)
    seen = ObjectSizes(50, 20, 0.2, placed)
    scale, _ = scale_of(sizes, seen, 0)
    chosen = {choice.key: choice.value for choice in windows(sizes, seen, scale, True)}
    found = scale, chosen["train.crop"], chosen["infer.window"]
    assert found == ((0.5, 192, 192) if placed else (1.0, 128, 256))
    assert scale_of(sizes, ObjectSizes(50, 13, 0.2, placed), 0)[0] == 1, "thin objects would vanish"
