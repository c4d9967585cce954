"""What `check` says of files that are no answers."""

import time
import tracemalloc
import zipfile

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from lib.competition import integer_text as digits
from lib.competition import rle
from lib.competition.codecs import csv_rows
from lib.competition.codecs.file_zip import _check_names
from lib.competition.scoring import open_codec
from lib.config.competition import CompetitionSettings
from lib.errors import UserError

SIZES = {"a": (6, 8), "b": (6, 8)}


class Folder:
    """What `open_codec` asks a competition for."""

    def __init__(self, sample, **submission):
        self.settings = CompetitionSettings(classes=["road"], submission=submission)
        self.label_names, self.sample = ["background", "road"], sample


def check(tmp_path, rows, sample=(("a", ""), ("b", "")), **submission):
    columns = ["id", "predicted"]
    path = tmp_path / "out.csv"
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return open_codec(Folder(pd.DataFrame(sample, columns=columns), **submission)).check(path, SIZES)


def test_what_is_right_is_counted(tmp_path):
    assert check(tmp_path, [("a", "1 3 9 2"), ("b", "")]) == {"a": 5, "b": 0}


@pytest.mark.parametrize(
    ("rows", "options", "what"),
    [
        ([("a", "nan"), ("b", "")], {}, "out.csv, a: the answer is NaN; an image without object is written '' here"),
        ([("a", "1 2"), ("a", "1 2")], {}, "row 3 is a again, as row 2 is, expected b"),
        ([("a", "1 2"), ("b", "")], {"empty": "-1"}, "out.csv, b: the answer is empty; .* is written '-1' here"),
        ([("a", "2 3 4 5"), ("b", "2 3 4 50")], {"relative": True}, "b: the run 9 50 lies outside the image of 48"),
    ],
)
def test_rows_of_run_lengths(tmp_path, rows, options, what):
    with pytest.raises(UserError, match=what):
        check(tmp_path, rows, **options)


@pytest.mark.parametrize(("last", "pixels"), [("", 0), ("1 2", 2)])
def test_the_last_line_need_not_end(tmp_path, last, pixels):
    (tmp_path / "out.csv").write_text(f"id,predicted\na,1 3\nb,{last}")
    folder = Folder(pd.DataFrame([("a", ""), ("b", "")], columns=["id", "predicted"]))
    assert open_codec(folder).check(tmp_path / "out.csv", SIZES) == {"a": 3, "b": pixels}


@pytest.mark.parametrize("held", [4, 7, 16, 100])
def test_long_rows_are_read_in_pieces_as_short_ones_are_whole(tmp_path, monkeypatch, held):
    masks = {name: np.random.default_rng(i).random((40, 30)) < 0.4 for i, name in enumerate("ab")}
    sizes = dict.fromkeys(masks, (40, 30))
    path = tmp_path / "out.csv"
    path.write_text("id,predicted\n" + "".join(f"{name},{rle.encode(mask)}\n" for name, mask in masks.items()))
    folder = Folder(pd.DataFrame([("a", ""), ("b", "")], columns=["id", "predicted"]))
    whole = open_codec(folder).check(path, sizes)
    assert whole == {name: mask.sum() for name, mask in masks.items()}
    for name, value in (("TEXT_BYTES_IN_MEMORY", held), ("PIECE", 5), ("SHORT", 3)):
        monkeypatch.setattr(csv_rows, name, value)
    monkeypatch.setattr(digits, "LETTERS_AT_ONCE", 11)
    monkeypatch.setattr(rle, "RUN_PIXELS_AT_ONCE", 11)
    came = []
    plain = rle.parse
    monkeypatch.setattr(rle, "parse", lambda text, *rest: (came.append(type(text)), plain(text, *rest))[1])
    assert open_codec(folder).check(path, sizes) == whole
    assert came == [digits.LongText] * 2
    labels = open_codec(folder).read(path, sizes)
    assert all((labels[name].read(0, 0, 40, 30) == mask).all() for name, mask in masks.items())
    assert open_codec(folder).check(path, {"b": (40, 30)}) == {"b": whole["b"]}, "a row that nobody reads is passed"
    for wrong, what in (("1 2 2 5", "a: the runs at 1 and 2 overlap"), ("1 2 9 3 x", "not an integer"),
                        ("1 2 9", "pairs"),
                        ("9 3 1 1300", "run 1 1300 lies outside")):  # fmt: skip
        path.write_text(f"id,predicted\na,{wrong}\nb,{rle.encode(masks['b'])}\n")
        with pytest.raises(UserError, match=what):
            open_codec(folder).check(path, sizes)


def test_objects_of_an_image_may_stand_anywhere_but_not_overlap(tmp_path):
    rows = [("a", "1 3"), ("b", ""), ("a", "9 2")]
    assert check(tmp_path, rows, instances=True) == {"a": 5, "b": 0}
    for extra, what in (
        ([("a", "10 4")], "in a the object 3 overlaps 2 at pixel 10"),
        ([("a", "1 3")], "in a the object 3 overlaps 1 at pixel 1"),
        ([("b", "1 3")], "row 5 is one more row of b, and a row says that it has no object"),
        ([("a", "")], "row 5 is one more row of a"),
        ([("c", "1 3")], "row 5 is c, which the sample submission does not ask for"),
    ):
        with pytest.raises(UserError, match=what):
            check(tmp_path, rows + extra, instances=True)
    with pytest.raises(UserError, match="has no row for b, which the sample submission asks for"):
        check(tmp_path, rows[:1], instances=True)


def test_objects_are_read_as_one_label(tmp_path):
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 2:4], labels[4:, 5:] = 1, 1
    sample = pd.DataFrame({"id": ["a", "b"], "predicted": ["", ""]})
    codec = open_codec(Folder(sample, instances=True))
    codec.add("a", 6, 8, [(0, labels)])
    codec.write(tmp_path / "out.csv")
    assert list(pd.read_csv(tmp_path / "out.csv")["id"]) == ["a", "a", "b"]
    assert (codec.read(tmp_path / "out.csv", SIZES)["a"].read(0, 0, 6, 8) == labels).all()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("0 1 0", "a: the answer has 3 numbers; 4 are expected .2 x 2."),
        ("0 1 0 2", "a: there is no label 2; they go from 0 to 1"),
        ("0 1 0 x", "a: the answer holds something that is not an integer"),
    ],
)
def test_rows_of_pixels(tmp_path, text, what):
    with pytest.raises(UserError, match=what):
        check(tmp_path, [("a", text), ("b", "0 0 0 0")], codec="pixels", size=[2, 2])


def test_rows_of_patches(tmp_path):
    sample = [(f"{i}_{x}", "") for i in "ab" for x in (0, 4)]
    options = {"codec": "patches", "patch": 4, "id_template": "{id}_{x}"}
    template = {**options, "id_template": "{id}_{x}_{y}"}
    with pytest.raises(UserError, match="row 2 is a_4, expected a_0"):
        check(tmp_path, [("a_4", "1")], sample, **options)
    rows = [(name, "1") for name, _ in sample]
    with pytest.raises(UserError, match=r"no row a_0_0, a patch of a; check the image's size"):
        check(tmp_path, rows, sample, **template)
    with pytest.raises(UserError, match="a_4: the answer is '0.7'; 0 or 1 is expected"):
        check(tmp_path, [rows[0], ("a_4", "0.7"), *rows[2:]], sample, **options)


def tif(path, **files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, pixels in files.items():
            archive.writestr(f"{name}.tif", cv2.imencode(".tif", pixels)[1].tobytes())
    return path


def test_zipped_tiffs(tmp_path):
    codec = open_codec(Folder(pd.DataFrame(), preset="inria"))
    good = np.zeros((6, 8), np.uint8)
    good[2:4, 1:] = 255
    path = tmp_path / "out.zip"
    assert codec.check(tif(path, a=good, b=good * 0), SIZES) == {"a": 14, "b": 0}
    for files, what in (
        ({"a": good}, "out.zip lacks b.tif"),
        (
            {"a": good, "b": good, "c": good},
            "holds c.tif, which belongs to no test image; expected files such as a.tif",
        ),
        ({"a": good[1:], "b": good}, "a.tif is 5 x 8, expected 6 x 8"),
        ({"a": good // 255, "b": good}, "a.tif holds 1; expected 0 or 255"),
        ({"a": np.dstack([good] * 3), "b": good}, "a.tif has 1 x 3 bands of uint8; one of uint8 is expected"),
        ({"a": good.astype(np.uint16), "b": good}, "1 bands of uint16"),
    ):
        with pytest.raises(UserError, match=what):
            codec.check(tif(path, **files), SIZES)
    some = codec.read(tif(path, a=good, b=good * 0), {"b": SIZES["b"]})
    assert list(some) == ["b"] and not some["b"].read(0, 0, 6, 8).any()
    path.write_text("no zip")
    with pytest.raises(UserError, match="out.zip is not a readable ZIP"):
        codec.check(path, SIZES)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.tif", b"no TIFF")
        archive.writestr("b.tif", b"no TIFF")
    with pytest.raises(UserError, match="a.tif is not a readable TIFF"):
        codec.check(path, SIZES)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.tif", b"II*\0")
        archive.writestr("b.tif", b"")
    with pytest.raises(UserError, match="a.tif is not a readable TIFF"):
        codec.check(path, SIZES)
    data = bytearray(tif(path, a=good, b=good).read_bytes())
    for head, method in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
        data[data.index(head) + method] = 99  # a compression that Python's zipfile cannot undo
    path.write_bytes(data)
    with pytest.raises(UserError, match="out.zip is not a readable ZIP .*compression"):
        codec.check(path, SIZES)


def test_the_names_of_many_files_are_compared_in_linear_time(tmp_path):
    names = [f"image_{i:06}.tif" for i in range(60_000)]
    begun = time.process_time()
    _check_names(tmp_path, names[::-1], names, alone=True)
    for here, what in ((names[:-1], "lacks image_059999.tif"), ([*names, names[7]], "image_000007.tif twice")):
        with pytest.raises(UserError, match=what):
            _check_names(tmp_path, here, names, alone=True)
    assert time.process_time() - begun < 5  # some 0.1 s; a set for each name takes an hour


def test_objects_of_several_classes(tmp_path):
    labels = np.zeros((6, 8), np.uint8)
    labels[0, :3], labels[2:4, 3:5], labels[2:4, 5:7], labels[5, 0] = 1, 1, 2, 1  # the second touches the third
    sample = pd.DataFrame({"id": ["a", "a"], "class": ["road", "tree"], "predicted": ""})
    folder = Folder(sample, instances=True, class_column="class", order="row")
    folder.settings = folder.settings.model_copy(update={"classes": ["road", "tree"]})
    codec = open_codec(folder)
    codec.add("a", 6, 8, [(0, labels[:3]), (3, labels[3:])])
    codec.write(tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv")
    expected = [["a", "road", "1 3"], ["a", "road", "20 2 28 2"], ["a", "road", "41 1"], ["a", "tree", "22 2 30 2"]]
    assert table.to_numpy().tolist() == expected
    assert (codec.read(tmp_path / "out.csv", {"a": (6, 8)})["a"].read(0, 0, 6, 8) == labels).all()
    assert codec.check(tmp_path / "out.csv", {"a": (6, 8)}) == {"a": 12}


def test_classes_that_may_overlap(tmp_path):
    sample = pd.DataFrame({"id": ["a", "a"], "class": ["road", "tree"], "predicted": ""})
    table = sample.assign(predicted=["1 5", "3 5"])
    table.to_csv(tmp_path / "out.csv", index=False)
    for overlap in (False, True):
        folder = Folder(sample, class_column="class", overlap=overlap)
        folder.settings = folder.settings.model_copy(update={"classes": ["road", "tree"]})
        codec = open_codec(folder)
        if overlap:
            assert codec.check(tmp_path / "out.csv", {"a": (6, 8)}) == {"a": 10}
            continue
        with pytest.raises(UserError, match="in a the class tree overlaps road at pixel 3"):
            codec.check(tmp_path / "out.csv", {"a": (6, 8)})


@pytest.mark.parametrize("kind", ["tif", "png"])
@pytest.mark.parametrize("height", [255, 256, 257, 1000])
def test_tall_tiffs_and_pngs_come_from_bands(tmp_path, height, kind):
    labels = np.random.default_rng(0).integers(0, 2, (height, 30)).astype(np.uint8)
    codec = open_codec(Folder(pd.DataFrame(), preset="inria", codec=kind, id_template=f"{{id}}.{kind}"))
    codec.add("a", height, 30, [(y, labels[y : y + 97]) for y in range(0, height, 97)])
    codec.write(tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        pixels = cv2.imdecode(np.frombuffer(archive.read(f"a.{kind}"), np.uint8), cv2.IMREAD_UNCHANGED)
    assert (pixels == labels * 255).all()
    assert (codec.read(tmp_path / "out.zip", {"a": (height, 30)})["a"].read(0, 0, height, 30) == labels).all()


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_images_may_be_added_to_what_was_written(tmp_path, kind):
    codec, labels = open_codec(Folder(pd.DataFrame(), preset="inria", codec=kind, id_template=f"{{id}}.{kind}")), {}
    for seed, name in enumerate("ab"):
        labels[name] = np.random.default_rng(seed).integers(0, 2, (6, 8)).astype(np.uint8)
        codec.add(name, 6, 8, [(0, labels[name])])
        codec.write(tmp_path / "out.zip")
        found = codec.read(tmp_path / "out.zip", dict.fromkeys(labels, (6, 8)))
        assert all((found[one].read(0, 0, 6, 8) == labels[one]).all() for one in labels)


def test_zipped_pngs(tmp_path):
    codec = open_codec(Folder(pd.DataFrame(), preset="inria", codec="png", id_template="{id}.png"))
    good = np.zeros((6, 8), np.uint8)
    good[2:4, 1:] = 255

    def png(**files):
        with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
            for name, pixels in files.items():
                data = pixels if isinstance(pixels, bytes) else cv2.imencode(".png", pixels)[1].tobytes()
                archive.writestr(f"{name}.png", data)
        return tmp_path / "out.zip"

    assert codec.check(png(a=good, b=good * 0), SIZES) == {"a": 14, "b": 0}
    damaged = cv2.imencode(".png", np.random.default_rng(0).choice([0, 255], (6, 8)).astype(np.uint8))[1].tobytes()
    for files, what in (
        ({"a": good[1:], "b": good}, "a.png is 5 x 8, expected 6 x 8"),
        ({"a": good // 255, "b": good}, "a.png holds 1; expected 0 or 255"),
        ({"a": np.dstack([good] * 3), "b": good}, "a.png has pixels of Pillow's mode RGB; one grey channel"),
        ({"a": good.astype(np.uint16), "b": good}, "one grey channel of 8 bits is expected"),
        ({"a": b"no PNG", "b": good}, "a.png is not a readable PNG"),
        ({"a": damaged[:-20], "b": good}, "a.png is not a readable"),
    ):
        with pytest.raises(UserError, match=what):
            codec.check(png(**files), SIZES)


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_memory_of_a_tiff_or_png_is_a_band(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(tifffile.TIFF, "MAXWORKERS", 8)  # as where there are more cores
    side = 8000  # 64 MB a label map
    band = np.zeros((500, side), np.uint8)
    band[:, ::100] = 1
    codec = open_codec(Folder(pd.DataFrame(), preset="inria", codec=kind, id_template=f"{{id}}.{kind}"))
    tracemalloc.start()
    codec.add("a", side, side, ((y, band) for y in range(0, side, 500)))
    codec.write(tmp_path / "out.zip")
    assert codec.check(tmp_path / "out.zip", {"a": (side, side)}) == {"a": side * 80}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32e6


def test_too_many_patches_are_declined():
    codec = open_codec(Folder(pd.DataFrame({"id": [], "predicted": []}), codec="patches", patch=2))
    with pytest.raises(UserError, match="an image of 4000 x 4000 pixels has 4000000 patches of 2"):
        codec.answer_size(4000, 4000)
