import json

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pycocotools import mask as tool

from lib.competition import coco_rle, rle
from lib.competition.labels.coco import Coco, thing_of_coco_polygons
from lib.competition.labels.coco_file import read_coco
from lib.config.competition import CompetitionSettings
from lib.errors import UserError

H, W = 90, 130
STAR = [-9, 20, 60, 30, 100, -7, 139, 60, 70, 85.5, 20, 70]  # leaves the image on three sides
BLOCK = [30, 20, 80, 20, 80, 60, 30, 60]


def coco(tmp_path, annotations, names=("door", "wall", "sky"), encoding="utf-8", **labels):
    content = {
        "images": [{"id": 7, "file_name": "images/a.jpg", "height": H, "width": W}],
        "categories": [{"id": 10 * (i + 1), "name": name} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": 7, **one} for i, one in enumerate(annotations)],
    }
    (tmp_path / "train.json").write_text(json.dumps(content), encoding)
    options = {"format": "coco", "path": "train.json", "other": "background", **labels}
    return Coco(CompetitionSettings(root=str(tmp_path), classes=["wall", "door"], labels=options), {"a"})


def filled(*rings):
    """annToMask of polygons, by pycocotools."""
    return tool.decode(tool.merge(tool.frPyObjects([list(map(float, ring)) for ring in rings], H, W))) > 0


def fillpoly(*rings):
    canvas = np.zeros((H, W), np.uint8)
    for ring in rings:
        cv2.fillPoly(canvas, [np.round(np.array(ring)).reshape(-1, 2).astype(np.int32)], 1)
    return canvas > 0


def whole(reader):
    return reader.open("a", H, W).read(0, 0, H, W)


def test_polygons_are_what_fillpoly_fills_and_windows_agree(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    annotations = [{"category_id": 20, "segmentation": [STAR, [0, 0, 9, 0, 9, 9]], "area": 9}]
    annotations += [
        {"category_id": 10, "segmentation": [rng.uniform(-20, 140, 8).tolist()], "area": 1} for _ in range(4)
    ]
    monkeypatch.setattr("lib.competition.labels.common.PAINTED_ONCE_PIXELS", 0)
    reader = coco(tmp_path, annotations, polygon_fill="fillpoly")
    expected = np.where(fillpoly(STAR, [0, 0, 9, 0, 9, 9]), 1, 0)
    for one in annotations[1:]:
        expected[fillpoly(*one["segmentation"])] = 2
    assert set(np.unique(expected)) == {0, 1, 2}
    assert (whole(reader) == expected).all()
    label = reader.open("a", H, W)
    for box in [(0, 0, 1, 1), (10, 20, 40, 50), (60, 100, 30, 30), (33, 0, 17, W)]:
        y, x, h, w = box
        assert (label.read(*box) == expected[y : y + h, x : x + w]).all()
    # An object too large to be painted whole may step elsewhere along a window's rim, no more.
    monkeypatch.setattr("lib.competition.labels.coco.CANVAS", 100)
    label = reader.open("a", H, W)
    assert (whole(reader) == expected).all()
    assert (label.read(10, 20, 40, 50) != expected[10:50, 20:70]).mean() < 0.03


def painted(thing):
    out = np.zeros((H, W), bool)
    if thing:
        y, x, h, w = thing.box
        out[y : y + h, x : x + w] = thing.mask(*thing.box) > 0
    return out


SIDES = st.floats(-30, 160, allow_nan=False, width=32) | st.integers(-30, 160).map(float)
RINGS = st.lists(
    st.lists(SIDES, min_size=6, max_size=14).map(lambda ring: ring[: len(ring) // 2 * 2]), min_size=1, max_size=3
)


@given(RINGS, st.integers(0, H - 1), st.integers(0, W - 1))
@example([[10.0, 10, 20, 10, 20, 20, 10, 20]], 12, 15)
@example([list(map(float, STAR)), [0.5, 0.5, 9.5, 0.5, 9.5, 9.5]], 3, 3)
def test_polygons_are_those_of_pycocotools_and_windows_agree(rings, y, x):
    thing, expected = thing_of_coco_polygons(1, rings, (H, W)), filled(*rings)
    assert (painted(thing) == expected).all()
    if thing:
        top, left, h, w = thing.box
        y, x = min(max(y, top), top + h - 1), min(max(x, left), left + w - 1)
        box = y, x, max(1, (top + h - y) // 2), max(1, (left + w - x) // 2)
        assert (thing.mask(*box) == expected[y : y + box[2], x : x + box[3]]).all()


def test_a_square_of_ten_pixels_has_a_hundred(tmp_path):
    """cv2.fillPoly gives 121, the outline included."""
    square = {"category_id": 20, "segmentation": [[10, 10, 20, 10, 20, 20, 10, 20]]}
    ten = range(10, 20)
    assert np.argwhere(whole(coco(tmp_path, [square]))).tolist() == [[y, x] for y in ten for x in ten]
    assert (whole(coco(tmp_path, [square], polygon_fill="fillpoly")) > 0).sum() == 121


def test_polygons_of_images_that_pycocotools_cannot_number(monkeypatch):
    """Their objects are rasterised in their own boxes. Corners in fifths of a pixel hide no rounding."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        ring = (rng.integers(100, 400, 8) / 5).tolist()
        monkeypatch.setattr("lib.competition.labels.coco.PYCOCOTOOLS_PIXELS", 2**32)
        expected = painted(thing_of_coco_polygons(1, [ring], (H, W)))
        monkeypatch.setattr("lib.competition.labels.coco.PYCOCOTOOLS_PIXELS", H * W)
        own = thing_of_coco_polygons(1, [ring], (H, W))
        assert own is None or own.box[2:] < (H, W)
        assert (painted(own) == expected).mean() > 0.999
    thing = thing_of_coco_polygons(1, [[1e5, 2e5, 1e5 + 10, 2e5, 1e5 + 10, 2e5 + 10, 1e5, 2e5 + 10]], (10**6, 10**6))
    monkeypatch.undo()
    assert thing.mask(200_000, 100_000, 10, 10).all() and thing.box[1::2] == (100_000, 10)


def test_order_of_painting(tmp_path):
    annotations = [
        {"category_id": 10, "segmentation": [BLOCK], "area": 2000},
        {"category_id": 20, "segmentation": [STAR], "area": 5000},
    ]
    assert not (whole(coco(tmp_path, annotations)) == 2)[filled(STAR)].any()
    assert (whole(coco(tmp_path, annotations, paint="area"))[filled(BLOCK)] == 2).all()
    annotations[0]["area"] = None  # painted last
    assert (whole(coco(tmp_path, annotations, paint="area"))[filled(BLOCK)] == 2).all()


def test_crowds_and_other_categories(tmp_path):
    annotations = [
        {"category_id": 20, "segmentation": [BLOCK], "iscrowd": 1},
        {"category_id": 30, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]},
    ]
    block, sky = filled(BLOCK), filled([0, 0, 9, 0, 9, 9, 0, 9])
    label = whole(coco(tmp_path, annotations))
    assert (label[block] == 255).all() and not label[~block].any()
    label = whole(coco(tmp_path, annotations, crowd="class", other="ignore"))
    assert (label[block] == 1).all() and (label[sky] == 255).all()
    with pytest.raises(UserError, match="annotates 'sky', which is not one of competition.classes"):
        coco(tmp_path, annotations, other="error")


def compressed(mask):
    """pycocotools' text, by its own rule, letter by letter."""
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    counts = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)), [mask.size]]))
    counts = [c for i, c in enumerate(counts) if i == 0 or c or i < len(counts) - 1]
    text = ""
    for i, value in enumerate(int(c) for c in counts):
        value -= int(counts[i - 2]) if i > 2 else 0
        more = True
        while more:
            letter, value = value & 31, value >> 5
            more = value != (-1 if letter & 16 else 0)
            text += chr((letter | 32 if more else letter) + 48)
    return text, [int(c) for c in counts]


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_compressed_and_not(tmp_path, seed):
    rng = np.random.default_rng(seed)
    mask = cv2.blur(rng.integers(0, 256, (H, W)).astype(np.uint8), (9, 9)) > 127
    mask[0, 0] = seed % 2
    assert 0.1 < mask.mean() < 0.9
    text, counts = compressed(mask)
    for segmentation in ({"size": [H, W], "counts": text}, {"size": [H, W], "counts": counts}):
        reader = coco(tmp_path, [{"category_id": 10, "segmentation": segmentation}])
        assert (whole(reader) == 2 * mask).all()
        assert (reader.open("a", H, W).read(11, 13, 40, 50) == 2 * mask[11:51, 13:63]).all()


def test_compressed_counts_are_those_of_pycocotools():
    rng = np.random.default_rng(1)
    for size in [(1, 1), (37, 53), (400, 300), (3000, 2000)]:
        for share in (0.0, 0.02, 0.5, 1.0):
            mask = (rng.random(size) < share).astype(np.uint8)
            if size[0] > 1000:
                mask = cv2.dilate(mask, np.ones((31, 31), np.uint8))
            text = tool.encode(np.asfortranarray(mask))["counts"].decode()
            starts, lengths = coco_rle.runs_of_counts(coco_rle.counts_of_text(text))
            assert (rle.window_of_runs(starts, lengths, size, "column", (0, 0, *size)) == mask).all()


def test_outlines_of_fewer_than_three_corners(tmp_path):
    """annToMask refuses them alone, and reads them beside others only where they do not come first."""
    triangle, line = [10, 10, 20, 10, 20, 20], [30, 30, 60, 37]
    for shape in ([triangle, line], [line, triangle], [[5, 5], line, triangle]):
        label = whole(coco(tmp_path, [{"category_id": 20, "segmentation": shape}]))
        assert ((label > 0) == filled(triangle, line)).all()
    for shape in ([[5, 5]], [line], [[]]):
        assert not whole(coco(tmp_path, [{"category_id": 20, "segmentation": shape}])).any()


@pytest.mark.parametrize(
    ("segmentation", "what"),
    [
        ({"size": [H, W], "counts": [5, 3]}, "are not those of an image of 90 x 130 pixels"),
        ({"size": [W, H], "counts": [H * W]}, "are not those of an image of 90 x 130 pixels"),
        ({"size": [H, W], "counts": "p"}, "annotation 0: its segmentation is neither polygons nor run-lengths"),
        ([[1, 2, 3, 4, float("nan"), 6]], "annotation 0.*corners must be numbers"),
        ([[1, 2, 3, 4, 1e9, 6]], "annotation 0.*corners must be numbers"),
        ([[1, 2, 3]], "annotation 0: its segmentation is neither polygons nor run-lengths"),
    ],
)
def test_bad_segmentations_are_named(tmp_path, segmentation, what):
    with pytest.raises(UserError, match=what):
        whole(coco(tmp_path, [{"category_id": 10, "segmentation": segmentation}]))


def test_background_and_ignored_are_no_classes(tmp_path):
    """A category called background is label 0, whatever `other` says: here it cuts a hole."""
    hole, dust = [40, 30, 60, 30, 60, 50, 40, 50], [0, 0, 9, 0, 9, 9, 0, 9]
    for background, ignore in (("background", "__ignore__"), ("_background_", "Ignore")):
        annotations = [
            {"category_id": 10, "segmentation": [BLOCK]},
            {"category_id": 30, "segmentation": [hole]},
            {"category_id": 40, "segmentation": [dust]},
        ]
        for other in ("error", "ignore", "background"):
            label = whole(coco(tmp_path, annotations, ["door", "wall", background, ignore], other=other))
            assert (label[filled(BLOCK) & ~filled(hole)] == 2).all() and not label[filled(hole)].any()
            assert (label[filled(dust)] == 255).all() and (label == 255).sum() == filled(dust).sum()


@pytest.mark.parametrize(
    "written",
    ["images\\é 0.jpg", "C:\\data\\é 0.PNG", "images/%C3%A9%200.jpg", "images/e\u0301 0.jpg", "file:///x/%C3%A9%200.jpg",
     "/data/local-files/?d=images\\é%200.jpg", "https://host/up/é%200.jpg?token=a/b", "é 0.jpeg"],
)  # fmt: skip
def test_names_of_files_from_elsewhere(tmp_path, written):
    content = {
        "images": [{"id": 7, "file_name": written, "height": H, "width": W}],
        "categories": [{"id": 1, "name": "wall"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "segmentation": [BLOCK]}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    options = {"format": "coco", "path": "train.json"}
    reader = Coco(CompetitionSettings(root=str(tmp_path), classes=["wall"], labels=options), {"é 0", "b"})
    assert reader.image_ids == {"é 0"} and reader.open("é 0", H, W).counts(0, 0, H, W)[1] == filled(BLOCK).sum()


def test_a_name_that_really_holds_such_signs_is_found(tmp_path):
    for name in ("a\\b", "a%20b", "a?d=b"):
        content = {"images": [{"id": 7, "file_name": f"{name}.jpg", "height": H, "width": W}]}
        (tmp_path / "train.json").write_text(json.dumps({**content, "categories": [{"id": 1, "name": "wall"}]}))
        options = {"format": "coco", "path": "train.json"}
        reader = Coco(CompetitionSettings(root=str(tmp_path), classes=["wall"], labels=options), {name, "b", "a b"})
        assert reader.image_ids == {name}


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(UserError, match="says that a is 90 x 130; it is 91 x 130"):
        coco(tmp_path, []).open("a", H + 1, W)
    for other in ("error", "ignore", "background"):
        with pytest.raises(UserError, match="annotates the category 40, which its categories do not list; add it"):
            coco(tmp_path, [{"category_id": 40, "segmentation": [BLOCK]}], other=other)
    with pytest.raises(UserError, match="has no category 'wall' of competition.classes; it has 7, door"):
        coco(tmp_path, [], names=["door", 7])
    assert coco(tmp_path, [], encoding="utf-8-sig").image_ids == {"a"}
    with pytest.raises(UserError, match="annotates 99, but competition.train_images"):
        coco(tmp_path, [{"category_id": 10, "segmentation": [BLOCK], "image_id": 99}])
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(UserError, match="bad.json is not a COCO JSON"):
        coco(tmp_path, [], path="bad.json")


def test_captions_are_no_objects(tmp_path):
    images = [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}]
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"images": images, "annotations": [{"image_id": 1, "caption": "a street"}]}))
    with pytest.raises(
        UserError, match=r"train\.json is not a COCO JSON: entry 0 of its annotations has no 'category_id'"
    ):
        read_coco(path)
