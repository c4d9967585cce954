"""Masks of one image by several people: their mean, majority or union."""

import cv2
import h5py
import numpy as np
import pytest
import tifffile

from lib.competition.labels.mask_images import MaskImages
from lib.config.competition import CompetitionSettings
from lib.data.preprocess.cut_tiles import cut
from lib.data.preprocess.tile_labels import label_shares
from lib.data.preprocess.tiling import Tile
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.tables import FULL, IGNORE

H, W = 24, 20
PEOPLE = ("ann", "bob", "eve")


def masks() -> np.ndarray:
    masks = np.random.default_rng(0).random((3, H, W)) < 0.5
    assert len(np.unique(masks.sum(0))) == 4, "the fixture is degenerate"
    return masks.astype(np.uint8)


def reader(root, files="*/{id}.png", classes=("crater",), **options):
    labels = {"format": "mask_images", "path": "masks", "files": files, **options.pop("labels", {})}
    settings = CompetitionSettings(root=str(root), classes=list(classes), labels=labels, **options)
    return MaskImages(settings, {"a"})


def by_folders(root, values=masks):
    for name, mask in zip(PEOPLE, values(), strict=True):
        (root / "masks" / name).mkdir(parents=True)
        cv2.imwrite(str(root / "masks" / name / "a.png"), mask)


@pytest.mark.parametrize("rule", ["majority", "mean", "union"])
def test_masks_in_folders_of_people_become_one(tmp_path, rule):
    by_folders(tmp_path)
    label, votes = reader(tmp_path, labels={"annotators": rule}).open("a", H, W), masks().sum(0)
    assert (label.read(0, 0, H, W) == (votes > 0 if rule == "union" else votes > 1)).all()
    assert len(label.opinions) == (3 if rule == "mean" else 0)


def test_masks_are_told_by_a_template(tmp_path):
    (tmp_path / "masks").mkdir()
    for name, mask in zip(PEOPLE, masks(), strict=True):
        cv2.imwrite(str(tmp_path / "masks" / f"a_{name}.png"), mask)
    label = reader(tmp_path, "{id}_*.png", labels={"annotators": "majority"}).open("a", H, W)
    assert (label.read(0, 0, H, W) == (masks().sum(0) > 1)).all()


def stored(root, label, binary=True, shape=(H, W)):
    cv2.imwrite(str(root / "a.png"), np.zeros((H, W, 3), np.uint8))
    row = {"y": 0, "x": 0, "height": H, "width": W}
    with open_image(root / "a.png") as image:
        return cut(Tile(row, shape), image, label, 2, binary, H)[1]


def test_a_tile_stores_the_mean(tmp_path):
    by_folders(tmp_path)
    label = reader(tmp_path, labels={"annotators": "mean"}).open("a", H, W)
    share = masks().mean(0)
    assert (stored(tmp_path, label)[:, :W] == (share * FULL).round()).all()
    small = stored(tmp_path, label, shape=(H // 2, W // 2))[: H // 2, : W // 2]
    means = cv2.resize(share.astype(np.float32), (W // 2, H // 2), interpolation=cv2.INTER_AREA)
    assert np.abs(small - means * FULL).max() <= 0.5 + 1e-3


def test_who_does_not_know_has_no_vote(tmp_path):
    (tmp_path / "masks").mkdir()
    values = np.array([[[1, 1, np.nan, 0]], [[0, np.nan, np.nan, 1]], [[np.nan, np.nan, np.nan, 1]]], np.float32)
    for name, mask in zip(PEOPLE, values, strict=True):
        np.save(tmp_path / "masks" / f"a_{name}.npy", mask)
    options = {"annotators": "majority", "other": "ignore"}
    label = reader(tmp_path, "{id}_*.npy", labels=options).open("a", 1, 4)
    assert label.read(0, 0, 1, 4).tolist() == [[0, 1, IGNORE, 1]]
    mean = reader(tmp_path, "{id}_*.npy", labels={**options, "annotators": "mean"}).open("a", 1, 4)
    assert label_shares(mean, (0, 0, 1, 4), (1, 4), 2)[1].tolist() == [pytest.approx([1 / 3, 1 / 3, 0, 2 / 3])]


@pytest.mark.parametrize("suffix", [".npy", ".h5", ".tif"])
@pytest.mark.parametrize("rule", ["majority", "mean", "union"])
def test_people_are_the_last_axis_of_one_file(tmp_path, suffix, rule):
    folder = tmp_path / "masks/a"
    folder.mkdir(parents=True)
    values = np.moveaxis(masks(), 0, -1)[:, :, None].astype(np.int32)  # (H, W, 1, people)
    if suffix == ".npy":
        np.save(folder / "people.npy", values)
    elif suffix == ".tif":
        tifffile.imwrite(folder / "people.tif", values[:, :, 0].astype(np.uint8), photometric="rgb")
    else:
        with h5py.File(folder / "people.h5", "w") as file:
            file["masks"] = values
    label = reader(tmp_path, f"{{id}}/people{suffix}", labels={"annotators": rule}).open("a", H, W)
    votes = masks().sum(0)
    assert (label.read(0, 0, H, W) == (votes > 0 if rule == "union" else votes > 1)).all()
    assert (label.read(3, 5, 7, 9) == label.read(0, 0, H, W)[3:10, 5:14]).all()
    assert len(label.opinions) == (3 if rule == "mean" else 0)


def test_class_indices_take_the_most_frequent(tmp_path):
    indices = np.random.default_rng(1).integers(0, 3, (3, H, W)).astype(np.uint8)
    by_folders(tmp_path, lambda: indices)
    found = reader(tmp_path, classes=("road", "tree"), labels={"annotators": "majority"}).open("a", H, W)
    expected = [[np.bincount(column, minlength=3).argmax() for column in row] for row in indices.transpose(1, 2, 0)]
    assert (found.read(0, 0, H, W) == expected).all()


def test_class_indices_of_who_does_not_know_have_no_vote(tmp_path):
    indices = np.array([[[2, 1, 9]], [[9, 9, 9]], [[9, 9, 9]]], np.uint8)  # 9 is not a class
    by_folders(tmp_path, lambda: indices)
    options = {"annotators": "majority", "other": "ignore"}
    found = reader(tmp_path, classes=("road", "tree"), labels=options).open("a", 1, 3)
    assert found.read(0, 0, 1, 3).tolist() == [[2, 1, IGNORE]]


def test_people_see_classes_that_overlap(tmp_path):
    for name, mask in zip(PEOPLE, masks(), strict=True):
        for part, plane in (("bone", mask), ("skin", 1 - mask)):
            (tmp_path / "masks" / name / part).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / "masks" / name / part / "a.png"), plane)
    found = reader(
        tmp_path, "*/{class}/{id}.png", ("bone", "skin"), multilabel=True, labels={"annotators": "mean"}
    ).open("a", H, W)
    share = masks().mean(0)
    planes = stored(tmp_path, found).reshape(2, H, H)[:, :, :W]
    assert (planes == (np.stack([share, 1 - share]) * FULL).round()).all()


def test_without_the_option_several_masks_are_objects(tmp_path):
    by_folders(tmp_path)
    label = reader(tmp_path).open("a", H, W)
    assert (label.read(0, 0, H, W) == masks().any(0)).all() and not label.opinions


@pytest.mark.parametrize(
    ("options", "classes", "what"),
    [
        ({"annotators": "union"}, ("road", "tree"), "annotators union is for masks of one class each"),
        ({"annotators": "mean", "files": "*/{class}/{id}.png"}, ("road", "tree"), "mean makes shares of classes"),
        (
            {"annotators": "majority", "files": ""},
            ("road",),
            "every image has one mask: say in competition.lab",
        ),
    ],
)
def test_what_the_rule_does_not_go_with(tmp_path, options, classes, what):
    by_folders(tmp_path)
    with pytest.raises(UserError, match=what):
        reader(tmp_path, classes=classes, labels=options)
