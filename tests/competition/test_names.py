"""How files, cells and lists name images: the words of `image_ids`, `id_template`, `test_list` and `labels.missing`."""

import base64
import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib.competition.dataset import Competition
from lib.competition.labels.labelme import Labelme
from lib.competition.labels.template import Names, image_id_of, ways_to_read
from lib.competition.scoring import open_codec
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.user_tables import read_csv


def test_numbers_find_ids_whatever_their_zeros():
    names = Names("{number}_{class}", ["1", "12"], {"img_007", "img_012"})
    assert names.read("7_12") == ("img_007", "12") and names.read("0012_1") == ("img_012", "1")
    assert names.read("8_1") == ("8", "1"), "a number of no image stays what it is, for the error to name it"
    assert names.read("x_1") is None
    with pytest.raises(UserError, match="names two images by 7: 'a7' and 'b007'"):
        Names("{number}", [], {"a7", "b007"})


BOWELS = ["bowel", "large_bowel"]


@pytest.mark.parametrize(
    ("template", "classes", "known", "text", "expected"),
    [
        ("{id}_{class}", BOWELS, {"a"}, "a_large_bowel", ("a", "large_bowel")),
        ("{id}_{class}", BOWELS, {"a_large"}, "a_large_bowel", ("a_large", "bowel")),
        ("{id}_{class}", BOWELS, {"a", "b"}, "a_bowel", ("a", "bowel")),
        ("{id}_{class}", BOWELS, set(), "a_large_bowel", ("a", "large_bowel")),
        ("{class}_{id}", ["big", "big_red"], {"red_7"}, "big_red_7", ("red_7", "big")),
        ("{class}_{id}", ["big", "big_red"], {"7"}, "big_red_7", ("7", "big_red")),
        ("{class}/{id}_{class}.png", BOWELS, {"x"}, "large_bowel/x_large_bowel.png", ("x", "large_bowel")),
        ("{class}/{id}_{class}.png", BOWELS, {"x"}, "bowel/x_large_bowel.png", ("x_large", "bowel")),
        ("{id}_{class}_{id}", ["a", "b_a"], {"x_b_y"}, "x_b_a_y", ("x_b_y", "a")),
        ("{id}_{id}", [], {"a_b_c"}, "a_b_c", ("a_b_c", "")),
        ("{id}_*", [], {"a", "a_b"}, "a_b_mask", ("a_b", "")),
        ("{id}_*", [], {"a"}, "a_b_mask", ("a", "")),
        ("{id}.jpg_{class}", ["1", "11"], {"a.jpg_1"}, "a.jpg_1.jpg_11", ("a.jpg_1", "11")),
        ("{number}{class}", ["1", "11"], {"im_7"}, "711", ("im_7", "11")),
        ("{number}/{number:03}.png", [], {"im_7"}, "7/007.png", ("im_7", "")),
        ("{id}_{class}", ["a.b", "(x)"], {"i"}, "i_(x)", ("i", "(x)")),
        ("{id}", [], {"a b"}, "a b", ("a b", "")),
    ],
)
def test_images_that_there_are_decide_how_a_text_is_read(template, classes, known, text, expected):
    assert Names(template, classes, known).read(text) == expected


def test_a_text_that_fits_two_images_is_refused():
    with pytest.raises(UserError, match="'a_large_bowel' can be read as {id}_{class} in two ways: as 'a' and the "):
        Names("{id}_{class}", BOWELS, {"a", "a_large"}).read("a_large_bowel")
    with pytest.raises(UserError, match="'x_1_2' can be read .* as 'x' and the class '1_2', and as 'x_1' and the cla"):
        Names("{id}_{class}", ["2", "1_2"], {"x", "x_1"}).read("x_1_2")


@pytest.mark.parametrize(
    ("template", "text"),
    [("{id}_{class}", "a_7"), ("{id}.png", "a/b.png"), ("x_{id}", "x_"), ("{class}/{id}_{class}", "bowel/a_large")],
)
def test_a_text_of_another_form_names_nothing(template, text):
    assert Names(template, BOWELS, {"a"}).read(text) is None


PARTS = st.text(st.sampled_from("ab_1"), min_size=1, max_size=4)


TEMPLATES = ["{id}_{class}", "{class}_{id}", "{id}.jpg_{class}", "{class}{id}", "{class}/{id}/{class}"]


@given(
    ids=st.lists(PARTS, min_size=1, max_size=5, unique=True),
    classes=st.lists(PARTS, min_size=1, unique=True),
    template=st.sampled_from(TEMPLATES),
    pick=st.integers(0, 99),
)
def test_what_is_filled_in_is_read_again_or_said_to_be_ambiguous(ids, classes, template, pick):
    image_id, name = ids[pick % len(ids)], classes[pick % len(classes)]
    text = template.replace("{id}", image_id).replace("{class}", name)
    same = [(i, c) for i in ids for c in classes if template.replace("{id}", i).replace("{class}", c) == text]
    if len(same) == 1:
        assert Names(template, classes, set(ids)).read(text) == (image_id, name)
    else:
        with pytest.raises(UserError, match="in two ways"):
            Names(template, classes, set(ids)).read(text)


def test_many_rows_are_read_quickly():
    names = Names("{id}_{class}", [f"kind_{i}" for i in range(100)], {f"case_{i}_slice_0001" for i in range(200)})
    begun = time.process_time()
    for i in range(200):
        for k in range(100):
            assert names.read(f"case_{i}_slice_0001_kind_{k}") == (f"case_{i}_slice_0001", f"kind_{k}")
    assert time.process_time() - begun < 10  # some 0.3 s
    assert len(list(ways_to_read("a_" * 60, "{id}_{id}_*", []))) < 2000


@pytest.fixture
def batches(tmp_path):
    """Images whose names repeat in each folder, as the Boostcamp's; one test image lies deeper."""
    for name in ("batch_01/0001", "batch_01/0002", "batch_02/0001", "batch_02/deep/0001"):
        path = tmp_path / f"data/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 9, 3), 90, np.uint8)).save(path)
    table = pd.DataFrame({"file": ["batch_01/0001.jpg", "batch_01/0002.jpg"], "encoding": ["1 3", ""]})
    table.to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame({"image": table["file"], "place": ["x", "y"]}).to_csv(tmp_path / "meta.csv", index=False)
    return {
        "root": str(tmp_path), "train_images": "data/batch_*/*.jpg", "test_images": "data/**/0001.jpg",
        "image_ids": "{id}/{id}", "metadata": "meta.csv", "metadata_id": "image", "metadata_template": "{path}.jpg",
        "labels": {"id_column": "file", "id_template": "{path}.jpg"},
    }  # fmt: skip


CODECS = {
    "rle": ({"id_template": "{path}.jpg"}, ["batch_02/0001.jpg", "batch_02/deep/0001.jpg"]),
    "rle by class": ({"id_template": "{path}.jpg_{class}"},
                     ["batch_02/0001.jpg_object", "batch_02/deep/0001.jpg_object"]),
    "pixels": ({"codec": "pixels", "size": [2, 3], "id_template": "{path}.jpg"},
               ["batch_02/0001.jpg", "batch_02/deep/0001.jpg"]),
    "patches": ({"codec": "patches", "id_template": "{path}_{x}_{y}"},
                ["batch_02/0001_0_0", "batch_02/deep/0001_0_0"]),
    "boostcamp_trash": ({"preset": "boostcamp_trash", "size": [2, 3]}, ["batch_02/0001.jpg", "batch_02/deep/0001.jpg"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", CODECS)
def test_paths_name_images_in_answers_labels_and_metadata(batches, kind):
    options, rows = CODECS[kind]
    columns = [options.get("id_column", "id"), "predicted"]
    if "preset" in options:
        columns = ["image_id", "PredictionString"]
    pd.DataFrame({columns[0]: rows, columns[1]: ""}).to_csv(f"{batches['root']}/sample_submission.csv", index=False)
    competition = Competition(CompetitionSettings(**batches, submission=options))
    competition.check()
    assert competition.ids("train") == ["batch_01_0001", "batch_01_0002"]
    assert competition.ids("test") == ["batch_02_0001", "deep_0001"]
    assert competition.metadata["place"].to_dict() == {"batch_01_0001": "x", "batch_01_0002": "y"}
    label = competition.labels.open("batch_01_0001", 8, 9).read(0, 0, 8, 9)
    assert label.sum() == 3 and not competition.labels.open("batch_01_0002", 8, 9).read(0, 0, 8, 9).any()
    codec = open_codec(competition)
    mask = np.ones((8, 9), np.uint8)
    codec.add("deep_0001", 8, 9, [(0, mask)])
    codec.write(competition.root / "out.csv")
    written = pd.read_csv(competition.root / "out.csv", dtype=str, keep_default_na=False)
    assert list(written[columns[0]]) == rows
    sizes = dict.fromkeys(competition.ids("test"), (8, 9))
    found = codec.check(competition.root / "out.csv", sizes)
    assert found["batch_02_0001"] == 0 and found["deep_0001"] == mask.size // {"rle": 1, "rle by class": 1}.get(
        kind, 72 if kind == "patches" else 12
    )


def test_paths_name_the_files_of_a_zip_and_masks(batches):
    del batches["labels"], batches["metadata"]
    for name in ("batch_01/0001", "batch_01/0002"):
        path = Path(batches["root"], f"masks/{name}_m.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(8, 9, dtype=np.uint8)).save(path)
    labels = {"format": "mask_images", "path": "masks", "files": "{path}_m.png"}
    options = {"preset": "drivendata", "id_template": "answers/{path}.tif"}
    batches |= {"train_images": "data/batch_0[1]/*.jpg", "test_images": "data/batch_02/**/0001.jpg"}
    competition = Competition(CompetitionSettings(**batches, labels=labels, submission=options))
    competition.check()
    assert (competition.labels.open("batch_01_0002", 8, 9).read(0, 0, 8, 9) == np.eye(8, 9)).all()
    codec = open_codec(competition)
    for image_id in competition.ids("test"):
        codec.add(image_id, 8, 9, [(0, np.ones((8, 9), np.uint8))])
    codec.write(competition.root / "out.zip")
    with zipfile.ZipFile(competition.root / "out.zip") as archive:
        assert sorted(archive.namelist()) == ["answers/0001.tif", "answers/deep/0001.tif"]


def test_a_path_in_metadata_that_is_two_images_is_refused(batches):
    batches |= {"train_images": "data/batch_01/*.jpg", "test_images": "data/batch_02/*.jpg"}
    settings = CompetitionSettings(**batches, submission={"sample": ""})
    with pytest.raises(UserError, match="'0001' may be the image 'batch_01_0001' or 'batch_02_0001'; use {id}"):
        _ = Competition(settings).metadata


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"labels": {"id_template": "{ID}.jpg"}}, "labels.id_template is .*, which holds '{ID}'; expected {id}, {pa"),
        ({"labels": {"files": "{id}_{number:x}.png"}}, "labels.files is .*, which holds '{number:x}'"),
        ({"labels": {"id_template": "x_{class}"}}, "it must hold {id}, {path} or {number}"),
        ({"metadata_template": "{id"}, "metadata_template is '{id', which holds '{id'"),
        ({"submission": {"id_template": "a.jpg"}}, "it must hold {id} or {number}, or {path}"),
    ],
)
def test_templates_are_checked(options, what):
    with pytest.raises(ValueError, match=what):
        CompetitionSettings(**options)


def test_an_image_that_does_not_follow_image_ids_is_named():
    with pytest.raises(UserError, match="0001.tif is not named like competition.image_ids, {id}/images/{id}"):
        image_id_of("train/kidney/0001.tif", "{id}/images/{id}")


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ";"), ("a.csv.gz", "\t"), ("a.csv.zip", ",")])
def test_tables_are_read_whatever_parts_their_cells(tmp_path, name, separator):
    table = pd.DataFrame({"id": ["007", "008"], "text": ["1,5", ""]})
    table.to_csv(tmp_path / name, index=False, sep=separator)
    read = read_csv(tmp_path / name, ["id", "text"])
    assert read.equals(table) and read.attrs["separator"] == separator
    with pytest.raises(UserError, match="is not a readable CSV"):
        (tmp_path / name).write_bytes(b"PK\x03\x04\xff\xfe")
        read_csv(tmp_path / name, [])


def test_rows_with_more_cells_than_the_header_are_named(tmp_path):
    path = tmp_path / "a.csv"
    for text in ("id,text\n1,2,3\n4,5,6\n", "id;text\n1;2;\n4;5;\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="a.csv has rows with more cells than its header"):
            read_csv(path, ["id", "text"])
    path.write_text("id,text\n")
    assert read_csv(path, ["id", "text"]).empty


@pytest.mark.parametrize("separator", [",", ";"])
def test_blanks_around_heads_and_cells_do_not_count(tmp_path, separator):
    """SIIM-ACR's own table has a blank behind every comma; also before a quote."""
    lines = ["ImageId, EncodedPixels ,class", " a.png, 1 2,\tcell", 'b.png , "3 4",cell', "e\u0301.png,-1 ,cell"]
    (tmp_path / "a.csv").write_text("\n".join(lines).replace(",", separator) + "\n", encoding="utf-8-sig")
    table = read_csv(tmp_path / "a.csv", ["ImageId", "EncodedPixels"])
    assert table.columns.tolist() == ["ImageId", "EncodedPixels", "class"]
    assert table.to_numpy().tolist() == [["a.png", "1 2", "cell"], ["b.png", "3 4", "cell"], ["\xe9.png", "-1", "cell"]]
    settings = CompetitionSettings(labels={"rle_column": " EncodedPixels"}, submission={"id_column": "ImageId "})
    assert settings.labels.rle_column == "EncodedPixels" and settings.submission.id_column == "ImageId"


def test_columns_that_blanks_alone_tell_apart_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("id, id\n1,2\n")
    with pytest.raises(UserError, match=r"a\.csv has two columns of one name"):
        read_csv(tmp_path / "a.csv", ["id"])


def test_an_answer_has_the_heads_and_ids_of_the_sample_as_they_stand(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    for name in ("train/a", "test/\xe9"):
        Image.fromarray(np.full((4, 5, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "train.csv").write_text("id, encoding\na, 1 3\n")
    head = "ImageId, EncodedPixels\n"
    (tmp_path / "sample.csv").write_text(head + "e\u0301.png ,-1\n")
    submission = {
        "sample": "sample.csv",
        "id_column": "ImageId",
        "rle_column": "EncodedPixels",
        "id_template": "{id}.png",
    }
    competition = Competition(CompetitionSettings(root=str(tmp_path), submission=submission))
    competition.check()
    codec = open_codec(competition)
    codec.add("\xe9", 4, 5, [(0, np.eye(4, 5, dtype=np.uint8))])
    codec.write(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == head + "e\u0301.png ,1 1 6 1 11 1 16 1\n"
    codec.check(tmp_path / "out.csv", {"\xe9": (4, 5)})


def test_hidden_files_and_folders_are_no_images_nor_masks(tmp_path):
    names = ("north/a", ".ipynb_checkpoints/a-checkpoint", "__MACOSX/b", "north/._a", "north/.cache/c")
    for folder in ("train", "masks", "test"):
        for name in names:
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(4, 5, dtype=np.uint8) * 255).save(path)
    (tmp_path / "train/Thumbs.db").touch()
    labels = {"format": "mask_images", "path": "masks", "files": "*/{id}.png"}
    settings = {"root": str(tmp_path), "train_images": "train/**/*", "labels": labels, "submission": {"sample": ""},
                "image_ids": "", "test_images": ""}  # fmt: skip
    competition = Competition(CompetitionSettings(**settings))
    competition.check()
    assert competition.ids("train") == ["a"] and competition.labels.image_ids == {"a"}
    flat = {**labels, "files": "", "path": "masks/.ipynb_checkpoints"}  # a folder that is asked for by name
    asked = Competition(
        CompetitionSettings(**{**settings, "train_images": "train/.ipynb_checkpoints/*", "labels": flat})
    )
    assert asked.ids("train") == ["a-checkpoint"]


def test_brackets_in_a_folder_are_explained(tmp_path):
    (tmp_path / "train [v2]").mkdir()
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "train [v2]/a.png")
    settings = {"root": str(tmp_path), "test_images": "", "submission": {"sample": ""}}
    with pytest.raises(UserError, match=r"brackets in a name are written train \[\[\]v2\]/\*"):
        Competition(CompetitionSettings(**settings, train_images="train [v2]/*"))
    assert Competition(CompetitionSettings(**settings, train_images="train [[]v2]/*")).ids("train") == ["a"]


def test_a_list_from_windows_names_the_test_images(pool):
    Path(pool["root"], "test.txt").write_text("pool\\e.png\r\n", newline="")
    assert Competition(CompetitionSettings(**pool)).ids("test") == ["e"]


@pytest.fixture
def pool(tmp_path):
    """Five images in one folder: a and b with a mask beside them, c and d without, e for the test."""
    (tmp_path / "pool").mkdir()
    for name in "abcde":
        Image.fromarray(np.full((8, 9, 3), 90, np.uint8)).save(tmp_path / f"pool/{name}.png")
    for name in "ab":
        Image.fromarray(np.eye(8, 9, dtype=np.uint8) * 7).save(tmp_path / f"pool/{name}_mask.png")
    (tmp_path / "test.txt").write_text("pool/e.png\n")
    return {
        "root": str(tmp_path), "train_images": "pool/*", "test_images": "pool/*", "test_list": "test.txt",
        "classes": ["road", "car"], "submission": {"sample": "", "class_column": "class"},
        "labels": {"format": "mask_images", "path": "pool", "suffix": "_mask.png", "missing": "unlabeled",
                   "palette": {"background": 0, "car": 7, "road": 9}},
    }  # fmt: skip


def test_images_without_label_are_unlabeled_and_masks_are_no_images(pool):
    competition = Competition(CompetitionSettings(**pool))
    competition.check()
    assert [competition.ids(split) for split in ("train", "test", "unlabeled")] == [["a", "b"], ["e"], ["c", "d"]]
    assert (competition.labels.open("a", 8, 9).read(0, 0, 8, 9) == np.eye(8, 9) * 2).all()
    rows = competition.sample.to_dict("list")
    assert rows == {"id": ["e", "e"], "class": ["road", "car"], "predicted": ["", ""]}

    # What macOS leaves beside files is neither image nor mask; Windows begins texts with a BOM.
    for name in ("._a.png", "._a_mask.png"):
        (competition.root / "pool" / name).write_bytes(b"\0\5\26\7")
    (competition.root / "test.txt").write_text("pool/e.png\n", encoding="utf-8-sig")
    again = Competition(CompetitionSettings(**pool))
    assert again.images == competition.images and again.labels.image_ids == {"a", "b"}

    pool["labels"] |= {"missing": "error"}
    with pytest.raises(UserError, match="training image 'c' has no label"):
        Competition(CompetitionSettings(**pool)).check()


def test_two_files_that_could_be_an_images_mask(pool):
    pool["labels"] |= {"files": "{id}_*.png", "suffix": ""}
    (Competition(CompetitionSettings(**pool)).root / "pool/a_color.png").write_bytes(b"")
    with pytest.raises(UserError, match="are of one image; say in competition.labels.files which of them counts"):
        Competition(CompetitionSettings(**pool))


def test_polygons_of_labelme(pool, tmp_path):
    shapes = [
        {"label": "car", "shape_type": "rectangle", "points": [[2, 1], [5, 3]]},
        {"label": "road", "shape_type": "polygon", "points": [[0, 0], [8, 0], [8, 7], [0, 7]]},
        {"label": "road", "shape_type": "line", "points": [[0, 0], [8, 7]]},
    ]
    content = {"shapes": shapes, "imageHeight": 8, "imageWidth": 9}
    for name in "ab":
        (tmp_path / f"pool/{name}.json").write_text(json.dumps(content))
    pool["labels"] = {"format": "labelme", "path": "pool", "suffix": ".json", "paint": "area", "missing": "unlabeled"}
    pool["train_images"] = pool["test_images"] = "pool/?.png"
    label = np.ones((8, 9), np.uint8)
    label[1:4, 2:6] = 2
    competition = Competition(CompetitionSettings(**pool))
    assert (competition.labels.open("a", 8, 9).read(0, 0, 8, 9) == label).all()
    with pytest.raises(UserError, match="says that a is 8 x 9; it is 9 x 9"):
        competition.labels.open("a", 9, 9)
    content["shapes"][2]["shape_type"] = "spline"
    (tmp_path / "pool/b.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="b.json has a shape of type 'spline', which is not read; make it a polygon"):
        Competition(CompetitionSettings(**pool)).labels.open("b", 8, 9)
    with pytest.raises(UserError, match="holds 'car', which is not one of competition.classes"):
        Competition(CompetitionSettings(**{**pool, "classes": ["road"]})).labels.open("a", 8, 9)
    content["shapes"] = shapes[:2]
    (tmp_path / "pool/a.json").write_text(json.dumps(content), encoding="utf-8-sig")
    assert (competition.labels.open("a", 8, 9).read(0, 0, 8, 9) == label).all(), "a BOM is no part of a JSON"
    road = {"label": "road", "shape_type": "polygon"}
    for points in (
        [[0, 0, 1], [8, 0, 1], [8, 7, 1], [0, 7, 1]],
        [[0, "x"], [8, 0], [8, 7]],
        [[0, 0], [8], [8, 7]],
        "abc",
    ):
        (tmp_path / "pool/a.json").write_text(json.dumps({**content, "shapes": [{**road, "points": points}]}))
        with pytest.raises(UserError, match="a.json is not a JSON of .* annotations with points .corner"):
            competition.labels.open("a", 8, 9)
    (tmp_path / "pool/a.json").write_text(json.dumps({**content, "shapes": ["road"]}))
    with pytest.raises(UserError, match="a.json is not a JSON of labelme, Cityscapes"):
        competition.labels.open("a", 8, 9)


def labelme(tmp_path, shapes, height=40, width=50, **labels):
    """The label of an image with these shapes, of the classes road (1) and car (2)."""
    (tmp_path / "a.json").write_text(json.dumps({"shapes": shapes, "imageHeight": height, "imageWidth": width}))
    options = {"format": "labelme", "path": ".", "suffix": ".json", **labels}
    reader = Labelme(CompetitionSettings(root=str(tmp_path), classes=["road", "car"], labels=options), {"a"})
    label = reader.open("a", height, width)
    whole = label.read(0, 0, height, width)
    assert (label.read(3, 4, 20, 30) == whole[3:23, 4:34]).all()
    return whole


def shape(kind, points, name="car", **more):
    return {"label": name, "shape_type": kind, "points": points, "flags": {}, "group_id": None, **more}


def box(top, bottom, left, right, height=40, width=50):
    out = np.zeros((height, width), bool)
    out[top:bottom, left:right] = True
    return out


def test_rectangles_of_labelme_have_two_or_four_corners(tmp_path):
    four = [[5, 10], [20, 10], [20, 30], [5, 30]]
    for points in (
        [[5, 10], [20, 30]],
        [[20, 30], [5, 10]],
        [[5, 30], [20, 10]],
        four,
        four[::-1],
        four[2:] + four[:2],
    ):
        assert ((labelme(tmp_path, [shape("rectangle", points)]) == 2) == box(10, 31, 5, 21)).all()
    turned = [[25, 5], [40, 20], [25, 35], [10, 20]]
    for kind in ("rectangle", "polygon", "rotation"):
        label = labelme(tmp_path, [shape(kind, turned)])
        assert label[20, 11] == 2 and label[6, 25] == 2 and not label[8, 12] and 400 < (label == 2).sum() < 550
    assert not labelme(tmp_path, [shape("rectangle", [[5, 10]])]).any(), "one corner has no area"


def test_every_kind_of_shape_that_labelme_writes(tmp_path):
    circle = labelme(tmp_path, [shape("circle", [[25, 20], [25, 30]])])
    distance = np.hypot(*(np.indices((40, 50)) - np.array([[[20]], [[25]]])))
    assert (circle[distance < 9] == 2).all() and not circle[distance > 11.5].any()
    without_area = [
        ("point", [[5, 5]]),
        ("points", [[5, 5], [9, 9], [20, 5]]),
        ("line", [[1, 1], [30, 30]]),
        ("linestrip", [[1, 1], [30, 5], [40, 30]]),
        ("polygon", [[1, 1], [5, 5]]),
        ("polygon", []),
    ]
    for kind, points in without_area:
        assert not labelme(tmp_path, [shape(kind, points)]).any()
    group = [
        shape("polygon", [[1, 1], [5, 1], [5, 5]], group_id=3),
        shape("rectangle", [[20, 20], [30, 30]], group_id=3),
    ]
    assert (labelme(tmp_path, group)[20:31, 20:31] == 2).all() and labelme(tmp_path, group)[2, 4] == 2
    assert (labelme(tmp_path, [{"label": "car", "points": [[5, 5], [9, 5], [9, 9], [5, 9]]}])[5:10, 5:10] == 2).all()


@pytest.mark.parametrize(("y", "x"), [(10, 20), (-4, -6), (35, 45), (0, 0), (60, 60)])
def test_masks_of_labelme(tmp_path, y, x):
    """Drawn by its model: a PNG of the pixels between two corners."""
    pixels = np.random.default_rng(0).random((12, 15)) < 0.6
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    label = labelme(tmp_path, [shape("mask", [[x, y], [x + 14, y + 11]], mask=text)], paint="area")
    expected = np.zeros((140, 150), np.uint8)
    expected[50 + y : 62 + y, 50 + x : 65 + x] = pixels * 2
    assert (label == expected[50:90, 50:100]).all()


def test_holes_of_labelme_are_background_on_top(tmp_path):
    whole, hole = [[5, 5], [30, 5], [30, 30], [5, 30]], [[10, 10], [20, 20]]
    shapes = [
        shape("polygon", whole),
        shape("rectangle", hole, "_background_"),
        shape("circle", [[26, 26], [26, 28]], "__ignore__"),
    ]
    label = labelme(tmp_path, shapes)
    assert not label[10:21, 10:21].any() and label[26, 26] == 255 and label[7, 7] == 2
    assert (labelme(tmp_path, shapes[::-1], paint="area") == label).all()
    with pytest.raises(UserError, match="a.json is not a JSON of labelme"):
        labelme(tmp_path, [shape("mask", [[0, 0], [4, 4]], mask="no picture")])
