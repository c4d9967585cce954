"""Every label reader on damaged files and on documents with odd values."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
from fuzzing import bounded_memory, broken, changed, fuzzed, only_sentences  # noqa: F401 (a fixture)
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as tool

from lib.competition.labels.coco import Coco
from lib.competition.labels.labelme import Labelme
from lib.competition.labels.mask_images import MaskImages
from lib.competition.labels.planes import label_of_array
from lib.competition.labels.rle_csv import RleCsv
from lib.config.competition import CompetitionSettings
from lib.user_tables import read_csv

H, W = 30, 40
MASK = np.zeros((H, W), np.uint8)
MASK[5:20, 10:30] = 1
TEXT = tool.encode(np.asfortranarray(MASK))["counts"].decode()
RING = [10, 5, 30, 5, 30, 20, 10, 20]
COCO = {
    "images": [{"id": 7, "file_name": "images/a.png", "height": H, "width": W}],
    "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "other"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "segmentation": [RING], "area": 300, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 1, "segmentation": {"size": [H, W], "counts": [5, 10, H * W - 15]}},
        {"id": 3, "image_id": 7, "category_id": 2, "segmentation": {"size": [H, W], "counts": TEXT}, "iscrowd": 1},
    ],
}
CORNERS = [[10, 5], [30, 5], [30, 20]]
SHAPES = [
    {"label": "disc", "points": CORNERS, "shape_type": "polygon", "group_id": None},
    {"label": "disc", "points": CORNERS[:2], "shape_type": "rectangle"},
    {"label": "disc", "points": CORNERS[:2], "shape_type": "circle"},
    {"label": "disc", "points": CORNERS[:1], "shape_type": "point"},
]
LABELME = {"imageHeight": H, "imageWidth": W, "shapes": SHAPES}
CITYSCAPES = {"imgHeight": H, "imgWidth": W, "objects": [{"label": "disc", "polygon": CORNERS}]}
LISTED = {"metadata": {"height": H, "width": W}, "annotations": [{"label": "disc", "points": CORNERS}]}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


SHAPES.append(
    {"label": "disc", "points": CORNERS[:2], "shape_type": "mask", "mask": base64.b64encode(png(MASK * 255)).decode()}
)


def settings_of(root, **labels):
    return CompetitionSettings(root=str(root), classes=["disc"], labels={"other": "ignore", **labels})


def look(reader, known):
    """All labels of a reader."""
    with only_sentences():
        made = reader(known)
        for image_id in sorted(made.image_ids & known):
            label = made.open(image_id, H, W)
            assert label.read(0, 0, H, W).shape == (H, W)
            assert label.counts(0, 0, H, W).sum() == H * W


def written(document):
    try:
        return json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(document).encode()


FILLS = st.sampled_from([{}, {"polygon_fill": "fillpoly", "paint": "area"}])


@fuzzed(changed(COCO), FILLS)
def test_coco_with_odd_values(tmp_path, document, options):
    (tmp_path / "train.json").write_bytes(written(document))
    look(lambda known: Coco(settings_of(tmp_path, format="coco", path="train.json", **options), known), {"a"})


@fuzzed(broken(written(COCO)), FILLS)
def test_damaged_coco(tmp_path, data, options):
    (tmp_path / "train.json").write_bytes(data)
    look(lambda known: Coco(settings_of(tmp_path, format="coco", path="train.json", **options), known), {"a"})


def labelme(folder):
    return lambda known: Labelme(settings_of(folder, format="labelme", path=".", suffix=".json", paint="area"), known)


@pytest.mark.parametrize("document", [LABELME, CITYSCAPES, LISTED], ids=["labelme", "cityscapes", "listed"])
@fuzzed(st.data())
def test_labelme_with_odd_values(tmp_path, document, data):
    (tmp_path / "a.json").write_bytes(written(data.draw(changed(document, ["circle", "mask", "rectangle"]))))
    look(labelme(tmp_path), {"a"})


@fuzzed(broken(written(LABELME)))
def test_damaged_labelme(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    look(labelme(tmp_path), {"a"})


OPTIONS = [{}, {"threshold": 0}, {"palette": {"disc": (1, 1, 1), "background": (0, 0, 0)}}, {"files": "{id}.*"}]


@fuzzed(broken(png(MASK)), st.sampled_from(OPTIONS))
def test_damaged_mask_images(tmp_path, data, options):
    (tmp_path / "masks").mkdir(exist_ok=True)
    (tmp_path / "masks/a.png").write_bytes(data)
    look(lambda known: MaskImages(settings_of(tmp_path, format="mask_images", path="masks", **options), known), {"a"})


TABLE = b"id,encoding\na,1 3 9 2\n" + '"b","5 5 20 4"\né,\n'.encode()
PALETTE = b"name,r,g,b\ndisc,255,0,0\nbackground,0,0,0\n"


def rle_csv(folder, **options):
    options = {"format": "rle_csv", "path": "train.csv", "surplus": "skip", **options}
    return lambda known: RleCsv(settings_of(folder, **options), known)


@fuzzed(broken(TABLE))
def test_damaged_tables_of_run_lengths(tmp_path, data):
    (tmp_path / "train.csv").write_bytes(data)
    look(rle_csv(tmp_path), {"a", "b", "é"})


CELLS = st.lists(st.sampled_from(["1 3", "-1", "", "9 2", "1_0 2", "５ 3", "+1 2", "1.0 2", "1\n3", "x", "9" * 30]))


@fuzzed(CELLS, st.booleans(), st.sampled_from([0, 1]), st.text(max_size=20))
def test_odd_run_lengths(tmp_path, cells, relative, base, text):
    table = pd.DataFrame({"id": ["a", "b"], "encoding": [" ".join(cells), text]})
    try:
        table.to_csv(tmp_path / "train.csv", index=False)
    except UnicodeEncodeError:
        return
    look(rle_csv(tmp_path, relative=relative, base=base), {"a", "b"})


@fuzzed(broken(PALETTE))
def test_damaged_tables_of_colours(tmp_path, data):
    (tmp_path / "colours.csv").write_bytes(data)
    (tmp_path / "a.png").write_bytes(png(np.dstack([MASK * 255, MASK * 0, MASK * 0])))
    options = {"format": "mask_images", "path": ".", "palette": "colours.csv"}
    look(lambda known: MaskImages(settings_of(tmp_path, **options), known), {"a"})


@fuzzed(broken(TABLE) | st.binary(max_size=100), st.sampled_from([".csv", ".csv.gz", ".zip", ".txt"]), st.booleans())
def test_damaged_tables(tmp_path, data, suffix, raw):
    path = tmp_path / f"table{suffix}"
    path.write_bytes(data)
    with only_sentences():
        table = read_csv(path, [], raw)
        assert all(isinstance(cell, str) for cell in table.to_numpy().ravel())


def test_the_documents_that_are_damaged_are_readable(tmp_path):
    (tmp_path / "train.json").write_bytes(written(COCO))
    (tmp_path / "a.json").write_bytes(written(LABELME))
    (tmp_path / "train.csv").write_bytes(TABLE)
    for reader in (
        Coco(settings_of(tmp_path, format="coco", path="train.json"), {"a"}),
        labelme(tmp_path)({"a"}),
        rle_csv(tmp_path)({"a", "b", "é"}),
    ):
        assert reader.open("a", H, W).counts(0, 0, H, W)[1] > 0
    assert label_of_array(MASK).counts(0, 0, H, W)[1] > 0
