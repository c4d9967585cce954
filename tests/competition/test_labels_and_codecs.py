import cv2
import numpy as np
import pandas as pd
import pytest

import lib.competition.codecs
import lib.competition.labels  # noqa: F401
from lib.competition import rle
from lib.competition.labels.common import label_of_runs
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.plugins import find

COLOURS = {"road": (10, 20, 30), "tree": (0, 200, 0)}


@pytest.fixture
def painted(tmp_path):
    """A palette mask of 20 x 30 with both classes and one foreign colour."""
    indices = np.zeros((20, 30), np.uint8)
    indices[5:, 10:] = 1
    indices[0, 0] = 255
    pixels = np.zeros((20, 30, 3), np.uint8)
    for i, colour in enumerate(COLOURS.values()):
        pixels[indices == i] = colour
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks/a.png"), pixels[:, :, ::-1])
    rows = [(name, *colour) for name, colour in COLOURS.items()]
    pd.DataFrame(rows, columns=["name", "r", "g", "b"]).to_csv(tmp_path / "classes.csv", index=False)
    labels = {"format": "mask_images", "path": "masks", "palette": "classes.csv", "other": "ignore"}
    config = CompetitionSettings(root=str(tmp_path), classes=list(COLOURS), background=False, labels=labels)
    return config, indices


def reader(config, ids=("a",)):
    return find("labels", config.labels.format, "x")(config, set(ids))


def test_palette_becomes_indices_and_foreign_colours_are_ignored(painted):
    config, indices = painted
    assert (reader(config).open("a", 20, 30).read(3, 5, 10, 20) == indices[3:13, 5:25]).all()


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("classes", [["road"], ["road", "tree"]])
def test_pixels_are_counted_as_they_are_painted(order, classes):
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 2, (20, 30)) for _ in classes]  # they overlap: the later one wins
    runs = [(i, *rle.parse(rle.encode(mask, order), 600, "here")) for i, mask in enumerate(masks, start=1)]
    for background in (True, False):
        label = label_of_runs(runs, 20, 30, order, background)
        for box in ((0, 0, 20, 30), (3, 5, 10, 20), (19, 29, 1, 1)):
            assert (label.counts(*box) == np.bincount(label.read(*box).ravel(), minlength=256)).all()


def test_foreign_colour_is_an_error_by_default(painted):
    config, _ = painted
    strict = config.model_copy(update={"labels": config.labels.model_copy(update={"other": "error"})})
    with pytest.raises(UserError, match="colour 0,0,0, which is not a class"):
        reader(strict).open("a", 20, 30)


def test_mask_of_another_size_is_named(painted):
    config, _ = painted
    with pytest.raises(UserError, match=r"a.png is 20 x 30, its image 21 x 30"):
        reader(config).open("a", 21, 30)


def test_bands_of_a_tall_mask_meet(tmp_path, monkeypatch):
    indices = np.random.default_rng(0).integers(0, 3, (23, 7)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), indices)
    labels = {"format": "mask_images", "path": "."}
    config = CompetitionSettings(root=str(tmp_path), classes=["road", "tree"], labels=labels)
    monkeypatch.setattr("lib.competition.labels.mask_images.TRANSLATED_PIXELS", 5)
    assert (reader(config).open("a", 23, 7).read(0, 0, 23, 7) == indices).all()


def test_grey_masks_and_bad_palettes_say_what_to_do(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.array([[0, 255], [255, 0]], np.uint8))
    labels = {"format": "mask_images", "path": "."}
    config = CompetitionSettings(root=str(tmp_path), classes=["road"], labels=labels)
    with pytest.raises(UserError, match=r"a.png holds value 255, which is not a class.*competition.labels.palette"):
        reader(config).open("a", 2, 2)
    config = CompetitionSettings(root=str(tmp_path), classes=["road"], labels=labels | {"palette": "classes.csv"})
    for red in ("x", "256", "-1", ""):
        (tmp_path / "classes.csv").write_text(f"name,r,g,b\nroad,{red},255,255\n")
        with pytest.raises(UserError, match="the colour of 'road' is not three numbers from 0 to 255"):
            reader(config)
    (tmp_path / "classes.csv").write_text("name,r,g,b\nroad,255,255,255\nbackground,0,0,0\n")
    assert reader(config).open("a", 2, 2).read(0, 0, 2, 2).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("order", ["row", "column"])
def test_codec_round_trip_by_class(tmp_path, order, background):
    rng = np.random.default_rng(1)
    n = 3 if background else 2
    labels = rng.integers(0, n, (13, 17)).astype(np.uint8)
    sample = pd.DataFrame({"id": ["a", "a", "b", "b"], "class": ["road", "tree"] * 2, "predicted": ""})
    config = CompetitionSettings(
        classes=["road", "tree"],
        background=background,
        submission={"class_column": "class", "order": order, "empty": "-1"},
    )
    codec = find("codec", "rle", "x")(config, sample, [])
    codec.add("a", 13, 17, [(0, labels[:6]), (6, labels[6:])])
    codec.write(tmp_path / "out.csv")
    assert list(pd.read_csv(tmp_path / "out.csv", dtype=str)["predicted"][2:]) == ["-1", "-1"]
    assert (codec.read(tmp_path / "out.csv", {"a": (13, 17)})["a"].read(0, 0, 13, 17) == labels).all()


def test_check_finds_wrong_order_and_overlap(tmp_path):
    sample = pd.DataFrame({"id": ["a", "a"], "class": ["road", "tree"], "predicted": ["", ""]})
    config = CompetitionSettings(classes=["road", "tree"], submission={"class_column": "class"})
    codec = find("codec", "rle", "x")(config, sample, [])
    sample.iloc[::-1].to_csv(tmp_path / "order.csv", index=False)
    with pytest.raises(UserError, match="row 2 is"):
        codec.read(tmp_path / "order.csv", {"a": (4, 4)})
    sample.assign(predicted=["1 3", "3 2"]).to_csv(tmp_path / "overlap.csv", index=False)
    with pytest.raises(UserError, match="overlaps"):
        codec.read(tmp_path / "overlap.csv", {"a": (4, 4)})
