"""What `init` once guessed wrongly: each kind in miniature."""

import json
import re

import cv2
import layouts
import numpy as np
import pytest
import tifffile
from layouts import numbered, save, scene, scenes, table
from PIL import Image

from lib.competition import rle
from lib.competition.dataset import Competition
from lib.config import flat, load
from lib.config.competition import Pixels
from lib.data.folds import name_groups
from lib.errors import UserError
from lib.propose.found import Notes
from lib.propose.groups import _of_names
from lib.propose.pixels.depth import shown_range, span
from lib.propose.propose import propose


def options_of(tmp_path):
    propose(tmp_path / "raw", "mine", tmp_path / "mine.yaml")
    config = load(tmp_path / "mine.yaml")
    competition = Competition(config.competition)
    competition.check()
    return flat(config), competition


def read(competition, name, shape):
    return competition.labels.open(name, *shape).read(0, 0, *shape)


def with_masks(root, names, classes=1, suffix=".png", values=(0, 255, 128)):
    """Images and masks; label indices by training image."""
    truth = {}
    for split, name, picture, label in scenes(names, 100, 140, classes):
        save(root / split / f"{name}.png", picture)
        if split == "train":
            save(root / "masks" / f"{name}{suffix}", np.array(values, np.uint8)[label])
            truth[name] = label
    return truth


def with_runs(root, columns, names=None, order="column", base=1, rows="image", relative=False):
    """Images and a table of run-lengths `columns`; label indices by training image."""
    import cv2

    lines, truth = [], {}
    for split, name, picture, label in scenes(names or numbered("{:04x}b"), 100, 140):
        save(root / split / f"{name}.png", picture)
        if split == "train":
            parts = cv2.connectedComponents(label)[1] if rows == "object" else label
            for i in range(1, parts.max() + 1):
                numbers = np.array(rle.encode(parts == i, order, base).split(), np.int64)
                numbers[2::2] -= (numbers[:-2:2] + numbers[1:-1:2]) * relative
                lines.append((name, " ".join(map(str, numbers))))
            truth[name] = label
    table(root / "train.csv", columns, lines)
    return truth


def test_views_of_one_object_are_images(tmp_path):
    """A table with a row for each car, whose name is a part of the images' names, does not make channels of views."""
    layout = layouts.carvana(tmp_path / "raw")
    cars = sorted({name[:3] for name in layout.truth}) + ["9aa"]
    table(layout.root / "metadata.csv", ["id", "year"], [(car, 2010 + i) for i, car in enumerate(cars)])
    options, competition = options_of(tmp_path)
    assert options["competition.pixels.files"] == () and options["competition.classes"] == ["object"]
    assert set(competition.ids("train")) == set(layout.truth)


def test_names_with_brackets_and_folders_of_one_kind(tmp_path):
    """A pattern never matches more than it should, and needs no sample to part the images."""
    root = tmp_path / "raw"
    for number, split in enumerate(["Train [v2]/Rural", "Train [v2]/Urban", "Val/Rural", "Val/Urban", "Test/Rural"]):
        for i in range(3):
            picture, label = scene(10 * number + i, 100, 120)
            save(root / split / "images" / f"{number}{i}.png", picture)
            if number < 4:
                save(root / split / "masks" / f"{number}{i}.png", label)
    options, competition = options_of(tmp_path)
    assert options["competition.train_images"] == "{Train [[]v2],Val}/{Rural,Urban}/images/*"
    assert len(competition.ids("train")) == 12 and sorted(competition.ids("test")) == ["40", "41", "42"]


@pytest.mark.parametrize(
    ("values", "no_data", "dtype", "low", "high"),
    [
        ((600, 2300), -32768, np.int16, 600, 2300),
        ((600, 2300), 65535, np.uint16, 600, 2300),
        ((1.2, 4.6), -9999, np.float32, 1.2, 4.6),
        ((1.2, 4.6), np.nan, np.float32, 1.2, 4.6),
        ((1.2, 4.6), -3.4e38, np.float32, 1.2, 4.6),
        ((600, 2300), 600, np.uint16, 600, 2300),
    ],
)
def test_a_value_for_no_data_does_not_stretch_the_range(tmp_path, values, no_data, dtype, low, high):
    pixels = np.random.default_rng(0).uniform(*values, (90, 110)).astype(dtype)
    pixels[:20] = no_data
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    black, white = shown_range([tmp_path / "a.tif"], Pixels())
    assert black == pytest.approx(low, abs=0.02 * high) and white == pytest.approx(high, rel=0.03)


@pytest.mark.parametrize("values", [[0, 65535], [0, 1, 65535], [7]])
def test_deep_masks_keep_the_range_of_their_values(tmp_path, values):
    pixels = np.random.default_rng(0).choice(np.array(values, np.uint16), (90, 110))
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    low, high = span(tmp_path / "a.tif", Pixels())
    assert low - 1 <= values[0] and high + 1 >= (values[1] if len(values) < 3 and len(values) > 1 else values[0])


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ([f"000{s}TP_{6690 + 30 * i:06}" for s in (1, 6) for i in range(5)], 2),  # two video sequences
        ([f"seq{s:02}_frame{120 + i:04}" for s in range(3) for i in range(4)], 3),
        ([f"{p}_{x}_{y}" for p in ("rome", "oslo", "bonn") for x in (0, 512) for y in (0, 512, 1024)], 3),
        (["alone", *(f"{p}_{x}" for p in "abcd" for x in ("left", "right"))], 5),  # one name lacks the word
        ([f"{place:06}_{i:06}" for place in range(5) for i in (3, 90, 41)], 5),
    ],
)
def test_groups_of_names_match_every_name(names, groups):
    found = _of_names(set(names), set(), Notes())
    assert found.groups == groups
    config = load(None, ["--folds.group_regex", found.choices[0].value]).folds
    assert len(set(name_groups(names, None, config))) == groups


def test_one_long_sequence_has_no_groups_but_a_warning():
    notes = Notes()
    assert _of_names({f"vol_{i:04}" for i in range(9)}, set(), notes).choices == []
    assert "neighbouring frames or slices look alike" in notes.unsure[0]


def test_the_columns_of_a_preset_with_labels_of_another_form(tmp_path):
    """ImageId,EncodedPixels are SIIM's columns, too; here runs are absolute, and objects have rows of their own."""
    truth = with_runs(tmp_path / "raw", ["ImageId", "EncodedPixels"], rows="object")
    table(tmp_path / "raw/sample_submission.csv", ["ImageId", "EncodedPixels"], [("0006b", ""), ("0007b", "")])
    options, competition = options_of(tmp_path)
    s = "competition.submission."
    assert (options[s + "preset"], options[s + "instances"], options[s + "relative"]) == ("", True, False)
    assert options[s + "base"] == 1 and options[s + "empty"] == ""
    assert (read(competition, "0002b", truth["0002b"].shape) == truth["0002b"]).all()


def test_relative_runs_with_rows_of_objects_are_one_row_of_an_image(tmp_path):
    """SIIM's own form: several rows an image in the labels, one in the answer."""
    with_runs(tmp_path / "raw", ["ImageId", "EncodedPixels"], base=0, rows="object", relative=True)
    table(tmp_path / "raw/sample_submission.csv", ["ImageId", "EncodedPixels"], [("0006b", "-1"), ("0007b", "-1")])
    options, _ = options_of(tmp_path)
    assert options["competition.submission.preset"] == "siim" and not options["competition.submission.instances"]
    assert options["competition.submission.relative"] and options["competition.labels.relative"]


def test_rows_of_images_are_no_rows_of_objects(tmp_path):
    """Airbus' columns and names, but the labels have a row for each image."""
    layout = layouts.airbus(tmp_path / "raw")
    lines = [(f"{name}.jpg", rle.encode(label)) for name, label in layout.truth.items()]
    table(layout.root / "train_ship_segmentations.csv", ["ImageId", "EncodedPixels"], lines)
    options, _ = options_of(tmp_path)
    assert not options["competition.submission.instances"] and options["competition.submission.preset"] == ""


def test_runs_go_into_the_column_of_run_lengths(tmp_path):
    with_runs(tmp_path / "raw", ["id", "rle"])
    rows = [("0006b", "", 140, 1), ("0007b", "", 140, 1)]
    table(tmp_path / "raw/sample_submission.csv", ["image", "rle_mask", "width", "usage"], rows)
    options, _ = options_of(tmp_path)
    assert options["competition.submission.rle_column"] == "rle_mask"


@pytest.mark.parametrize(("order", "base"), [("row", 0), ("row", 1), ("column", 0), ("column", 1)])
def test_masks_confirm_how_runs_are_counted(tmp_path, order, base):
    """Noise tells nothing of the order, and square images have no line lengths that do."""
    rng, rows = np.random.default_rng(5), []
    for i in range(6):
        label = rng.integers(0, 2, (64, 64)).astype(np.uint8)
        save(tmp_path / f"raw/train/{i:03}.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
        save(tmp_path / f"raw/masks/{i:03}.png", label * np.uint8(255))
        rows.append((f"{i:03}", rle.encode(label, order, base)))
    save(tmp_path / "raw/test/009.png", rng.integers(0, 255, (64, 64, 3)).astype(np.uint8))
    table(tmp_path / "raw/train.csv", ["id", "rle"], rows)
    table(tmp_path / "raw/sample_submission.csv", ["id", "answer"], [("009", "")])
    options, _ = options_of(tmp_path)
    assert (options["competition.submission.order"], options["competition.submission.base"]) == (order, base)


@pytest.mark.parametrize(
    ("suffix", "values", "codec", "value"),
    [("_kelp.tif", (0, 1), "tif", 1), ("_L.tif", (0, 255), "tif", 255), (".png", (0, 255), "png", 255)],
)
def test_without_a_sample_answers_are_files_such_as_the_masks(tmp_path, suffix, values, codec, value):
    with_masks(tmp_path / "raw", numbered("{:04x}d"), suffix=suffix, values=values)
    options, _ = options_of(tmp_path)
    s = "competition.submission."
    found = [options[s + key] for key in ("codec", "id_template", "object_value", "sample")]
    assert found == [codec, "{id}" + suffix, value, ""]


def test_no_answer_is_invented(tmp_path):
    root = layouts.coco(tmp_path / "raw").root
    (root / "sample_submission.csv").unlink()
    (root / "test").mkdir()
    for name in ("IMG0006.jpg", "IMG0007.jpg"):
        (root / "images" / name).rename(root / "test" / name)
    with pytest.raises(UserError, match="nothing shows how answers are written.*add the organiser's sample submission"):
        propose(root, "mine", tmp_path / "mine.yaml")
    assert not (tmp_path / "mine.yaml").exists()


def test_unusable_files_and_labels_without_image_stop_nothing(tmp_path, capsys):
    """An array of four axes beside the masks, and a folder that holds labels alone."""
    root, truth = tmp_path / "raw", {}
    for i, name in enumerate(["ka", "kb", "kc", "kd"]):
        for k in range(3):
            picture, label = scene(10 * i + k, 100, 100)
            place = root / ("test" if name == "kd" else "train") / name
            save(place / "images" / f"{k:03}.png", picture)
            if name != "kd":
                save(place / "labels" / f"{k:03}.png", label)
                np.save(place / "each_mask.npy", np.zeros((9, 9, 2, 4), np.int32))
                truth[f"{name}_{k:03}"] = label
    save(root / "train/ke/labels/000.png", scene(99, 100, 100)[1])
    rows = [(f"kd_{k:03}", "") for k in range(3)]
    table(root / "sample_submission.csv", ["id", "rle"], rows)
    options, competition = options_of(tmp_path)
    said = capsys.readouterr().out
    assert options["competition.labels.surplus"] == "skip" and "1 labels have no image here" in said
    assert "3 files are left out" in said and "is an array (9, 9, 2, 4)" in said
    assert set(competition.ids("train")) == set(truth)
    assert all((read(competition, name, (100, 100)) == label).all() for name, label in truth.items())


def test_rows_without_image_are_left_out(tmp_path):
    with_runs(tmp_path / "raw", ["id", "rle"])
    path = tmp_path / "raw/train.csv"
    path.write_text(path.read_text() + "gone,1 5\n")
    table(tmp_path / "raw/sample_submission.csv", ["id", "rle"], [("0006b", ""), ("0007b", "")])
    options, competition = options_of(tmp_path)
    assert options["competition.labels.surplus"] == "skip" and len(competition.labels.image_ids) == 6


def test_files_that_are_not_read_are_named(tmp_path):
    root = tmp_path / "raw"
    (root / "train").mkdir(parents=True)
    for i in range(3):
        (root / f"train/image_{i}.mat").write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"holds no image of a supported format .*: 3 files \.mat \(MATLAB\), such as train/"
    ):
        propose(root, "mine", tmp_path / "mine.yaml")


def test_a_photograph_among_masks_is_named(tmp_path):
    with_masks(tmp_path / "raw", numbered("{:04x}f"))
    save(tmp_path / "raw/masks/0003f.png", scene(77, 109, 140)[0])
    table(tmp_path / "raw/sample_submission.csv", ["id", "rle"], [("0006f", ""), ("0007f", "")])
    with pytest.raises(UserError, match=r"0003f\.png holds \d+ different values or colours, where most masks hold 2"):
        propose(tmp_path / "raw", "mine", tmp_path / "mine.yaml")


def coco_folder(tmp_path, names=None):
    layout = layouts.coco(tmp_path / "raw")
    content = json.loads((layout.root / "train.json").read_text())
    return layout, content, layout.root / "train.json"


def test_a_category_for_no_class_is_none(tmp_path):
    layout, content, path = coco_folder(tmp_path)
    content["categories"][0]["name"] = "_background_"
    path.write_text(json.dumps(content))
    options, competition = options_of(tmp_path)
    assert options["competition.classes"] == ["tree"]
    name, label = next(iter(layout.truth.items()))
    assert ((read(competition, name, label.shape) == 1) <= (label == 2)).all()


def test_the_coco_json_of_most_images_is_taken(tmp_path):
    layout, content, path = coco_folder(tmp_path)
    some = [image["id"] for image in content["images"]][:2]
    few = {**content, "images": [i for i in content["images"] if i["id"] in some],
           "annotations": [a for a in content["annotations"] if a["image_id"] in some]}  # fmt: skip
    (path.parent / "fold.json").write_text(json.dumps(few))
    options, competition = options_of(tmp_path)
    assert options["competition.labels.path"] == "train.json" and len(competition.ids("train")) == 6


def test_a_coco_json_that_fits_no_image_says_why(tmp_path, capsys):
    _, content, path = coco_folder(tmp_path)
    for image in content["images"]:
        image["file_name"] = f"x{image['file_name'].removeprefix('images/')}"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="holds no labels of a known format"):
        propose(path.parent, "mine", tmp_path / "mine.yaml")
    assert re.search(r"which images .*train.json labels: it lists 'xIMG0000.jpg'", capsys.readouterr().out)


def test_images_that_exif_turns_and_images_of_several_depths_are_said(tmp_path, capsys):
    for name in ("plain", "turned", "mixed"):
        with_runs(tmp_path / name, ["id", "rle"])
        ids = sorted(path.stem for path in (tmp_path / name / "test").iterdir())
        table(tmp_path / name / "sample_submission.csv", ["id", "rle"], [(i, "") for i in ids])
    first = min((tmp_path / "turned/train").iterdir())
    exif = Image.Exif()
    exif[274] = 3  # upside down: the size stays
    Image.open(first).save(first, exif=exif)
    for path in sorted((tmp_path / "mixed/train").iterdir())[1:]:
        cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 257)
    said = {}
    for name in ("plain", "turned", "mixed"):
        propose(tmp_path / name, "mine", tmp_path / f"{name}.yaml")
        said[name] = capsys.readouterr().out
    assert f"images with an EXIF orientation: train/{first.name} (competition.pixels.exif)" in said["turned"]
    assert "the values of 8-bit images (" in said["mixed"] and "each type is shown in its whole range" in said["mixed"]
    assert "EXIF" not in said["plain"] + said["mixed"] and "8-bit images (" not in said["plain"] + said["turned"]


def test_one_labeled_image_cannot_be_validated(tmp_path):
    with_runs(tmp_path / "raw", ["id", "rle"], {"train": ["a"], "test": ["b"]})
    table(tmp_path / "raw/sample_submission.csv", ["id", "rle"], [("b", "")])
    propose(tmp_path / "raw", "mine", tmp_path / "mine.yaml")
    config = load(tmp_path / "mine.yaml")
    assert config.train.folds == ["all"] and config.infer.folds == "all"


@pytest.mark.parametrize("blank", [True, False])
def test_zero_is_no_data_where_images_are_blank(tmp_path, blank):
    """Masks of 1, 2 and 3, 0 where the image is black: the answers are counted from 0, and 0 is not scored."""
    for i in range(6):
        picture, label = scene(i, 100, 100, classes=2)
        label += 1
        label[:20] = 0
        if blank:
            picture[:20] = 0
        save(tmp_path / f"raw/train/images/{i}.png", picture)
        save(tmp_path / f"raw/train/masks/{i}.png", label)
    save(tmp_path / "raw/test/images/9.png", scene(9, 100, 100)[0])
    options, competition = options_of(tmp_path)
    assert options["competition.background"] == (not blank)
    seen = read(competition, "0", (100, 100))
    assert set(np.unique(seen)) == ({0, 1, 2, 255} if blank else {0, 1, 2, 3})
    s = "competition.submission."
    assert (options[s + "codec"], options[s + "id_template"]) == ("png", "{id}.png")


def test_polygons_in_annotations_with_points(tmp_path):
    layout = layouts_labelme(tmp_path / "raw")
    options, competition = options_of(tmp_path)
    assert options["competition.labels.format"] == "labelme" and competition.settings.classes == ["cell", "nucleus"]
    assert all((read(competition, n, label.shape) == label).all() for n, label in layout.truth.items())


def layouts_labelme(root):
    import odd_layouts

    layout = odd_layouts.labelme(root)
    for path in root.glob("train/*.json"):
        content = json.loads(path.read_text())
        notes = [{"id": i, "type": "poly_seg", **shape} for i, shape in enumerate(content["shapes"])]
        size = {"height": content["imageHeight"], "width": content["imageWidth"]}
        path.write_text(json.dumps({"annotations": notes, "filename": path.name, "metadata": size}))
    return layout


def test_a_stack_is_not_read_as_its_first_page(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "raw" / split).mkdir(parents=True)
        stack = np.stack([scene(i, 90, 110)[0][..., 0] for i in range(5)])
        tifffile.imwrite(tmp_path / f"raw/{split}/{split}_volume.tif", stack, photometric="minisblack")
    with pytest.raises(UserError, match="_volume.tif holds a stack of 5 pages, and only the first would be read"):
        propose(tmp_path / "raw", "mine", tmp_path / "mine.yaml")


def test_hidden_test_images(tmp_path):
    """A sample that is a head alone, and no test image: what a notebook will find."""
    with_runs(tmp_path / "raw", ["id", "segmentation"], {"train": [f"{i:04x}b" for i in range(6)]})
    (tmp_path / "raw/sample_submission.csv").write_text("id,predicted\n")
    options, competition = options_of(tmp_path)
    assert options["competition.test_images"] == "test/*" and competition.ids("test") == []
    assert options["competition.submission.rle_column"] == "predicted" and len(competition.ids("train")) == 6


def test_one_file_of_labels_in_each_folder(tmp_path):
    """Two labeled folders, whose images are named by their own folders."""
    for number, split in enumerate(["train", "validation", "test"]):
        for i in range(4):
            picture, label = scene(10 * number + i, 90, 90)
            place = tmp_path / "raw" / split / f"10{number}{i}7"
            place.mkdir(parents=True)
            np.save(place / "band_11.npy", picture[..., :1].astype(np.float32))
            if split != "test":
                np.save(place / "pixel_masks.npy", label[..., None].astype(np.int32))
    sample = [(f"102{i}7", "-") for i in range(4)]
    table(tmp_path / "raw/sample_submission.csv", ["record_id", "encoded_pixels"], sample)
    options, competition = options_of(tmp_path)
    assert options["competition.labels.files"] == "*/{id}/pixel_masks.npy" and len(competition.ids("train")) == 8


@pytest.mark.parametrize("in_files", [False, True])
def test_the_channels_that_tell_the_labels_are_seen(tmp_path, in_files):
    """Objects show in the difference of channels 4 and 2 alone; the others tell nothing."""
    rng = np.random.default_rng(1)
    for number in range(9):
        label, split = scene(number, 80, 80)[1], "train" if number < 7 else "test"
        values = 900 + 60 * rng.standard_normal((80, 80, 1)) + 20 * rng.standard_normal((80, 80, 6))
        values[..., 4] += 70 * (label > 0)
        values[..., 2] -= 70 * (label > 0)
        values, name = values.astype(np.uint16), f"c{number:02}x"
        if in_files:
            for i in range(6):
                save(tmp_path / f"raw/{split}/{name}/b{i}.tif", values[..., i])
        else:
            place = tmp_path / f"raw/{split}"
            place.mkdir(parents=True, exist_ok=True)
            np.save(place / f"{name}.npy", values)
        if split == "train":
            save(tmp_path / f"raw/labels/{name}.tif", label)
    options, competition = options_of(tmp_path)
    assert ({"b4", "b2"} if in_files else {"band4", "band2"}) <= set(options["competition.pixels.show"])
    assert len(competition.settings.pixels.channels) == 6
    assert len(competition.ids("train")) == 7 and sorted(competition.ids("test")) == ["c07x", "c08x"]


def test_channels_whose_names_tell_colours_stay(tmp_path):
    import odd_layouts

    odd_layouts.bands(tmp_path / "raw")
    options, _ = options_of(tmp_path)
    assert options["competition.pixels.colours"] == ("B04", "B03", "B02")


@pytest.mark.parametrize("unknown", [-1, np.nan])
def test_negative_values_and_nan_in_masks_are_not_scored(tmp_path, unknown):
    for i in range(6):
        picture, label = scene(i, 90, 110, classes=2)
        values = label.astype(np.float32 if unknown != -1 else np.int8)
        values[:20] = unknown
        save(tmp_path / f"raw/train/{i}.png", picture)
        save(tmp_path / f"raw/masks/{i}.tif", values)
    save(tmp_path / "raw/test/9.png", scene(9, 90, 110)[0])
    options, competition = options_of(tmp_path)
    assert options["competition.labels.other"] == "ignore" and competition.settings.classes == ["class1", "class2"]
    assert (read(competition, "0", (90, 110))[:20] == 255).all()
