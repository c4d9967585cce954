"""Classes that overlap: every label format gives one plane per class."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

import lib.competition.labels  # noqa: F401  (registers the readers)
from lib.competition import rle
from lib.competition.dataset import Competition
from lib.competition.external import translated_planes
from lib.competition.labels.common import Label
from lib.competition.labels.planes import CLASSLESS, Planes, label_of_array
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.plugins import find
from lib.tables import IGNORE

H, W = 40, 30
BOXES = {"palm": (5, 4, 30, 20), "thumb": (20, 10, 38, 28), "wrist": (30, 0, 39, 12)}  # y0, x0, y1, x1, all inside


def truth() -> np.ndarray:
    planes = np.zeros((len(BOXES), H, W), np.uint8)
    for plane, (y0, x0, y1, x1) in zip(planes, BOXES.values(), strict=True):
        plane[y0 : y1 + 1, x0 : x1 + 1] = 1
    assert (planes.sum(0) == 3).any() and (planes.sum(0) == 0).any(), "the fixture is degenerate"
    return planes


def corners(name):
    y0, x0, y1, x1 = BOXES[name]
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def reader_of(root, **options):
    labels = options.pop("labels")
    config = CompetitionSettings(root=str(root), classes=list(BOXES), multilabel=True, labels=labels, **options)
    return find("labels", config.labels.format, "labels.format")(config, {"a"})


def as_rle_csv(root):
    rows = [("a", name, rle.encode(plane)) for name, plane in zip(BOXES, truth(), strict=True)]
    pd.DataFrame(rows, columns=["id", "class", "encoding"]).to_csv(root / "train.csv", index=False)
    return {"class_column": "class"}


def as_masks(root):
    for name, plane in zip(BOXES, truth(), strict=True):
        (root / "masks" / name).mkdir(parents=True)
        cv2.imwrite(str(root / "masks" / name / "a.png"), plane * 255)
    return {"format": "mask_images", "path": "masks", "files": "{class}/{id}.png"}


def as_coco(root):
    names = list(BOXES)
    annotations = [
        {"id": i, "image_id": 7, "category_id": i, "segmentation": [np.ravel(corners(name)).tolist()]}
        for i, name in enumerate(names)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    images = [{"id": 7, "file_name": "a.png", "height": H, "width": W}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "train.json").write_text(json.dumps(content))
    return {"format": "coco", "path": "train.json", "polygon_fill": "fillpoly"}


def as_labelme(root):
    shapes = [{"label": name, "points": corners(name), "shape_type": "polygon"} for name in BOXES]
    return json_of_image(root, {"shapes": shapes, "imageHeight": H, "imageWidth": W})


def as_annotations(root):
    shapes = [{"label": name, "points": corners(name)} for name in BOXES]
    return json_of_image(root, {"annotations": shapes, "metadata": {"height": H, "width": W}})


def json_of_image(root, content):
    (root / "jsons").mkdir()
    (root / "jsons/a.json").write_text(json.dumps(content))
    return {"format": "labelme", "path": "jsons", "suffix": ".json"}


@pytest.mark.parametrize("write", [as_rle_csv, as_masks, as_coco, as_labelme, as_annotations])
def test_a_reader_gives_a_plane_for_each_class(tmp_path, write):
    label = reader_of(tmp_path, labels=write(tmp_path)).open("a", H, W)
    assert (label.read(0, 0, H, W) == truth()).all()
    assert (label.read(18, 3, 15, 20) == truth()[:, 18:33, 3:23]).all()
    counts, own = label.counts(10, 0, 25, W), truth()[:, 10:35]
    assert counts[:3].tolist() == own.sum((1, 2)).tolist()
    assert (counts[CLASSLESS], counts[IGNORE]) == ((own.sum(0) == 0).sum(), 0)


@pytest.mark.parametrize("write", [as_rle_csv, as_masks, as_coco, as_labelme])
def test_without_multilabel_the_later_class_lies_on_top(tmp_path, write):
    config = CompetitionSettings(root=str(tmp_path), classes=list(BOXES), labels=write(tmp_path))
    painted = find("labels", config.labels.format, "labels.format")(config, {"a"}).open("a", H, W).read(0, 0, H, W)
    expected = np.zeros((H, W), np.uint8)
    for index, plane in enumerate(truth(), start=1):
        expected[plane > 0] = index
    assert (painted == expected).all()


def test_what_is_ignored_or_background_goes_for_all_planes_below_it(tmp_path):
    shapes = [
        {"label": "palm", "points": corners("palm")},
        {"label": "_background_", "points": corners("thumb")},
        {"label": "thumb", "points": corners("thumb")},
        {"label": "__ignore__", "points": corners("wrist")},
    ]
    labels = json_of_image(tmp_path, {"annotations": shapes, "height": H, "width": W})
    palm, thumb, wrist = reader_of(tmp_path, labels=labels).open("a", H, W).read(0, 0, H, W)
    ignored = truth()[2] == 1
    assert all((plane[ignored] == IGNORE).all() for plane in (palm, thumb, wrist))
    assert (palm[~ignored] == (truth()[0] & ~truth()[1])[~ignored]).all()
    assert (thumb[~ignored] == truth()[1][~ignored]).all() and not wrist[~ignored].any()


def test_a_pixel_may_be_ignored_for_one_class(tmp_path):
    labels = as_masks(tmp_path)
    mask = truth()[1].astype(np.float32)
    mask[:3] = np.nan
    np.save(tmp_path / "masks/thumb/a.npy", mask)
    (tmp_path / "masks/thumb/a.png").unlink()
    labels |= {"files": "{class}/{id}.*", "other": "ignore"}
    label = reader_of(tmp_path, labels=labels).open("a", H, W)
    expected = truth()
    expected[1, :3] = IGNORE
    assert (label.read(0, 0, H, W) == expected).all() and label.counts(0, 0, H, W)[IGNORE] == 0


def test_a_file_of_indices_has_planes_too(tmp_path):
    (tmp_path / "masks").mkdir()
    indices = np.random.default_rng(0).integers(0, 5, (H, W)).astype(np.uint8)  # 4 is not a class
    cv2.imwrite(str(tmp_path / "masks/a.png"), indices)
    labels = {"format": "mask_images", "path": "masks", "other": "ignore"}
    label = reader_of(tmp_path, labels=labels).open("a", H, W)
    expected = np.stack([np.where(indices == 4, IGNORE, indices == i) for i in (1, 2, 3)])
    assert (label.read(0, 0, H, W) == expected).all()
    assert all((plane.read(0, 0, H, W) == own).all() for plane, own in zip(label.planes, expected, strict=True))


def test_large_planes_are_painted_window_by_window(tmp_path, monkeypatch):
    labels = as_labelme(tmp_path)
    monkeypatch.setattr("lib.competition.labels.common.PLANES_AT_ONCE_PIXELS", 3 * H * W - 1)
    label = reader_of(tmp_path, labels=labels).open("a", H, W)
    (tmp_path / "jsons/a.json").unlink()
    assert (label.read(3, 2, 30, 20) == truth()[:, 3:33, 2:22]).all()


def test_external_planes_take_the_names_of_the_competition():
    theirs = np.array([[[1, 0, 1, 0, 0]], [[0, 0, 1, 1, 0]], [[0, 1, 0, 0, 0]]], np.uint8)
    label = Planes([Label(lambda y, x, h, w, plane=plane: plane[y : y + h, x : x + w]) for plane in theirs])
    names = {"background": "background", "a": "bone", "b": "bone", "smudge": "ignore"}
    found = translated_planes(label, names, ["skin", "bone"]).read(0, 0, 1, 5)
    assert found.tolist() == [[[0, IGNORE, 0, 0, 0]], [[1, IGNORE, 1, 1, 0]]]
    nothing = translated_planes(label, {**names, "background": "ignore", "smudge": "skin"}, ["skin", "bone"])
    assert nothing.read(0, 0, 1, 5).tolist() == [[[0, 1, 0, 0, IGNORE]], [[1, 0, 1, 1, IGNORE]]]


def test_the_space_of_labels_and_outputs():
    config = CompetitionSettings(classes=["artery", "vein"], multilabel=True)
    assert (config.label_names, config.channels, config.planes, config.first_class) == (["artery", "vein"], 2, 2, 0)
    assert config.binary and not CompetitionSettings(classes=["artery", "vein"]).binary
    one = CompetitionSettings(classes=["vein"], multilabel=True)
    assert (one.label_names, one.channels, one.planes) == (["vein"], 1, 1)
    with pytest.raises(ValidationError, match="multilabel needs background: true"):
        CompetitionSettings(classes=["artery", "vein"], multilabel=True, background=False)


def test_a_plugins_reader_without_planes_is_named(tmp_path):
    labels = as_masks(tmp_path)
    (tmp_path / "train").mkdir()
    cv2.imwrite(str(tmp_path / "train/a.png"), truth()[0] * 90)
    settings = {"root": str(tmp_path), "classes": list(BOXES), "test_images": "", "submission": {"sample": ""}}
    competition = Competition(CompetitionSettings(**settings, multilabel=True, labels=labels))
    (image,) = competition.images
    assert competition.open_label(image, H, W).read(0, 0, H, W).shape == (3, H, W)
    competition.labels.open = lambda *_: label_of_array(truth()[0])
    with pytest.raises(UserError, match="mask_images gives one label for each pixel, but with competition.multilabel"):
        competition.open_label(image, H, W)
