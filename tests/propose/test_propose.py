"""`init` on miniatures of known competitions, and on the real ones where they are at hand."""

import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import layouts
import numpy as np
import odd_layouts
import pytest
import tifffile

from lib.competition.dataset import Competition
from lib.competition.demo import make_demo
from lib.competition.labels.common import Label
from lib.config import flat, load
from lib.errors import UserError
from lib.propose.choose import background_keep, windows
from lib.propose.globs import glob_of
from lib.propose.pixels.measure import ObjectSizes, PictureSizes, share_with_object
from lib.propose.propose import propose

ROOT = Path(__file__).resolve().parents[2]


def proposed(tmp_path, make):
    layout = make(tmp_path / "raw")
    propose(layout.root, "mine", tmp_path / "configs/mine.yaml")
    return layout, load(tmp_path / "configs/mine.yaml")


@pytest.mark.parametrize("make", [*layouts.ALL, *odd_layouts.ALL], ids=lambda make: make.__name__)
def test_labels_are_read_as_they_were_drawn(tmp_path, make):
    layout, config = proposed(tmp_path, make)
    competition = Competition(config.competition)
    competition.check()
    assert set(competition.ids("train")) == set(layout.truth) and len(competition.ids("test")) >= 2
    for name, label in layout.truth.items():
        height, width = label.shape[-2:]
        assert (competition.labels.open(name, height, width).read(0, 0, height, width) == label).all()
    options = flat(config)
    for key, value in layout.expected.items():
        assert options.get(key, options.get(f"competition.{key}")) == value, key


def test_every_choice_has_its_section_and_most_a_reason(tmp_path):
    proposed(tmp_path, layouts.hubmap)
    text = (tmp_path / "configs/mine.yaml").read_text()
    for key in (
        "tile_size",
        "scale",
        "stride",
        "background_keep",
        "batch_size",
        "k",
        "group_column",
        "terms",
        "window",
    ):
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{key}:"))
        assert "#" in line, line
    assert "preset: hubmap2021" in text


@pytest.mark.parametrize(
    ("sizes", "stored"),
    [
        (PictureSizes(40, [500] * 40, [500] * 40, 3, ()), "bmp"),
        (PictureSizes(40, [20_000] * 40, [20_000] * 40, 3, ()), None),
        (PictureSizes(100, [500] * 60 + [20_000] * 40, [500] * 60 + [20_000] * 40, 3, ()), None),  # the median is small
    ],
)
def test_tiles_that_take_little_room_are_stored_uncompressed(sizes, stored):
    choices = {choice.key: choice.value for choice in windows(sizes, ObjectSizes(1000, 200, 0.1), 1.0, True)}
    assert choices.get("preprocess.image_format") == stored


def test_background_is_kept_about_as_often_as_objects(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (160, 320, 3)).astype(np.uint8)
    image[:, 140:] = 255  # blank glass
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb")
    label = np.zeros((160, 320), np.uint8)
    label[10, 10] = 1
    competition = SimpleNamespace(
        settings=load(None).competition, label_names=["background", "x"],
        images=[SimpleNamespace(split="train", path=tmp_path / "a.tif", image_id="a")],
        labels=SimpleNamespace(open=lambda *_: Label(lambda y, x, h, w: label[y : y + h, x : x + w])),
    )  # fmt: skip
    assert [share_with_object(competition, side) for side in (160, 80, 40)] == [1, 1 / 4, 1 / 16]
    assert background_keep(1 / 4).value == 0.33 and background_keep(0.001).value == 0.05


def test_groups(tmp_path, capsys):
    _, config = proposed(tmp_path / "a", layouts.hubmap)
    assert config.folds.group_column == "patient_number" and config.folds.k == 3
    assert "a pixel shows 0.5 micrometres" in capsys.readouterr().out
    _, config = proposed(tmp_path / "b", layouts.carvana)
    assert config.folds.group_regex == "^(.+?)[_.-][^_.-]+$"
    _, config = proposed(tmp_path / "c", layouts.severstal)
    assert not config.folds.group_column and not config.folds.group_regex
    assert "nothing says so, so each image is a group" in capsys.readouterr().out
    _, config = proposed(tmp_path / "d", odd_layouts.lost_zeros)  # patients stand beside file names
    groups = Competition(config.competition).metadata["patient"]
    assert groups["0000"] == groups["0001"] == "P0" and len(groups) == 8


def test_hidden_files_belong_to_no_pattern(tmp_path):
    (tmp_path / "train").mkdir()
    for name in ("1.png", "2.png", "._1.png"):
        (tmp_path / "train" / name).touch()
    assert glob_of(tmp_path, ["train/1.png", "train/2.png"], set()) == "train/*"


def test_deep_pictures_get_a_range(tmp_path):
    root = layouts.hubmap(tmp_path / "raw").root
    for path in root.glob("*/*.tiff"):
        deep = tifffile.imread(path).astype(np.uint16) * 15  # of 12 bits
        tifffile.imwrite(path, deep, photometric="rgb")
    propose(root, "mine", tmp_path / "mine.yaml")
    assert load(tmp_path / "mine.yaml").competition.pixels.range == (0, 4095)


def test_what_does_not_fit_yet_is_a_draft_with_what_to_mend(tmp_path):
    root = layouts.coloured(tmp_path / "raw").root  # nothing says which colour is which of the sample's classes
    sample = [(f"{i:04x}7", word, "") for i in (6, 7) for word in ("road", "roof")]
    layouts.table(root / "sample_submission.csv", ["id", "class", "rle"], sample)
    said = "asks for the class 'road'; competition.classes has color_09c81e, color_c80028"
    with pytest.raises(UserError, match=f"no configuration is written.*{said}"):
        propose(root, "mine", tmp_path / "mine.yaml")
    assert not (tmp_path / "mine.yaml").exists()
    assert said in (tmp_path / "mine.draft").read_text().splitlines()[0]
    assert load(tmp_path / "mine.draft").competition.labels.palette["color_09c81e"] == (9, 200, 30)


def test_masks_that_are_mostly_object_may_be_upside_down(tmp_path, capsys):
    layout = layouts.tgs(tmp_path / "raw")
    for path in layout.root.glob("train/masks/*"):
        layouts.save(path, 255 - (np.array(layout.truth[path.stem]) * np.uint8(255)))
    propose(layout.root, "mine", tmp_path / "mine.yaml")
    assert "replace threshold by palette: {object: 0, background: 255}" in capsys.readouterr().out
    text = (tmp_path / "mine.yaml").read_text().replace("threshold: 0", "palette: {object: 0, background: 255}")
    (tmp_path / "mine.yaml").write_text(text)
    reader = Competition(load(tmp_path / "mine.yaml").competition).labels
    assert all((reader.open(i, 101, 101).read(0, 0, 101, 101) == label).all() for i, label in layout.truth.items())


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    proposed(tmp_path, layouts.tgs)
    target = tmp_path / "configs/mine.yaml"
    target.write_text("mine")
    with pytest.raises(UserError, match="mine.yaml exists already"):
        propose(tmp_path / "raw", "mine", target)
    assert target.read_text() == "mine" and [p.name for p in target.parent.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    ("gone", "what"),
    [
        ("train.csv", "holds no labels of a known format"),
        ("train", "holds no labels of a known format"),
        ("test", "no sample submission"),
    ],
)
def test_what_is_missing_is_named(tmp_path, gone, what):
    root = layouts.hubmap(tmp_path / "raw").root
    shutil.rmtree(root / gone) if (root / gone).is_dir() else (root / gone).unlink()
    with pytest.raises(UserError, match=what):
        propose(root, "mine", tmp_path / "mine.yaml")
    assert not (tmp_path / "mine.yaml").exists()


TINY = ["--model.architecture", "tiny", "--model.options", "{}", "--train.frozen", "[]", "--train.precision", "fp32",
        "--infer.precision", "fp32", "--infer.backend", "eager", "--train.device", "cpu"]  # fmt: skip


def to_the_end(tmp_path, *flags):
    for stage in ("01_preprocess", "02_make_folds", "03_train", "05_infer_ensemble"):
        script = runpy.run_path(str(ROOT / f"{stage}.py"))
        where = ["--preflight", "--workspace", str(tmp_path / "work"), *flags]
        script["main"]([str(tmp_path / "configs/mine.yaml"), *where])


@pytest.mark.parametrize("make", [layouts.coco, layouts.severstal], ids=lambda make: make.__name__)
@pytest.mark.slow
def test_a_proposal_runs_unedited_to_a_submission(tmp_path, make):
    layout, _ = proposed(tmp_path, make)
    to_the_end(tmp_path)
    rows = (tmp_path / "work-preflight/submission.csv").read_text().splitlines()
    assert len(rows) == len((layout.root / "sample_submission.csv").read_text().splitlines())


@pytest.mark.parametrize(
    ("make", "header", "first"),
    [
        (odd_layouts.slices, "id,class,predicted", "case30_day0_slice_0001,bowel,"),
        (odd_layouts.arrays, "record_id,encoded_pixels", "1000067,"),
        (odd_layouts.lost_zeros, "id;rle", "6;"),
        (odd_layouts.beside, "image,organ,rle", "scan 1.6.png,heart,"),
        (odd_layouts.no_sample, "filename,rle", "n06.png,"),
        (odd_layouts.hands, "image_name,class,rle", "image1661319000070_R.png,finger-1,"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_names_and_forms_come_back_in_the_submission(tmp_path, make, header, first):
    proposed(tmp_path, make)
    to_the_end(tmp_path, *TINY)
    rows = (tmp_path / "work-preflight/submission.csv").read_text().splitlines()
    assert rows[0] == header and rows[1].startswith(first)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "aerial",
            {"labels.palette": "classes.csv", "submission.order": "row", "folds.group_column": "tile"},
            marks=pytest.mark.slow,
        ),
        ("retina", {"labels.order": "column", "labels.base": 1, "unlabeled_images": "unlabeled/*"}),
        ("facade", {"labels.format": "coco", "train_images": "images/*", "submission.size": (256, 256)}),
    ],
)
def test_real_competitions_where_they_are_at_hand(tmp_path, name, expected):
    root = ROOT.parent / "shared/competitions" / name
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    propose(root, name, tmp_path / f"{name}.yaml")
    options = flat(load(tmp_path / f"{name}.yaml"))
    for key, value in expected.items():
        assert options.get(key, options.get(f"competition.{key}")) == value, key


def test_the_demo(tmp_path):
    make_demo(tmp_path / "raw", sides=(1000, 1100))
    propose(tmp_path / "raw", "demo2", tmp_path / "demo.yaml")
    config = load(tmp_path / "demo.yaml")
    assert config.folds.group_column == "patient" and config.competition.labels.path == "train.csv"
    assert config.preprocess.scale < 1 and not config.competition.answers
