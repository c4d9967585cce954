"""01 says what may be wrong with images and labels: which are turned, of which depth they are, what is blank."""

import runpy

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from lib.competition.dataset import Competition
from lib.config import load
from lib.errors import UserError
from lib.imaging.reader import open_image
from tests.conftest import ROOT, disc_image


def write_config(folder, labels=None, pixels=None, classes=("disc",), **preprocess):
    """A configuration of masks beside images; returns its path."""
    config = {
        "competition": {"name": "few", "root": str(folder / "raw"), "classes": list(classes),
                        "pixels": pixels or {}, "submission": {"sample": ""},
                        "labels": {"format": "mask_images", "path": "masks", "threshold": 0} | (labels or {})},
        "preprocess": {"tile_size": 64} | preprocess,
        "workspace": str(folder / "work"),
        "jobs": 1,
    }  # fmt: skip
    (folder / "few.yaml").write_text(yaml.safe_dump(config))
    return folder / "few.yaml"


def few(folder, save, count=4):
    """Images and masks that `save(path without suffix, picture, mask, number)` writes; the last one is a test image."""
    rng = np.random.default_rng(5)
    for number in range(count):
        split = "train" if number < count - 1 else "test"
        picture, mask = disc_image(rng, 96, 128)
        assert 0.02 < mask.mean() < 0.5
        for name in (split, "masks"):
            (folder / "raw" / name).mkdir(parents=True, exist_ok=True)
        save(folder / "raw" / split / f"im{number}", picture, mask, number)
        if split == "train":
            cv2.imwrite(str(folder / f"raw/masks/im{number}.png"), mask * 255)


def run_01(path, *flags):
    runpy.run_path(str(ROOT / "01_preprocess.py"))["main"]([str(path), *flags])


def orientation(number):
    exif = Image.Exif()
    exif[274] = number
    return exif


def save_turned(path, picture, mask, number):
    Image.fromarray(picture).save(
        path.with_suffix(".jpg"), quality=95, **({"exif": orientation(3)} if number % 2 else {})
    )


def test_images_that_exif_turns_are_counted(tmp_path, capsys):
    few(tmp_path, save_turned)
    config = write_config(tmp_path)
    run_01(config)
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 4 images are turned as their EXIF orientation says (im1.jpg for one)" in said
    assert "set competition.pixels.exif to false" in said
    run_01(config, "--competition.pixels.exif", "false")
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 4 images are not turned, although EXIF says so (im1.jpg for one)" in said


def test_tags_of_tiffs_are_told_apart_from_exif(tmp_path, capsys):
    def save(path, picture, mask, number):
        tifffile.imwrite(
            path.with_suffix(".tif"), picture, photometric="rgb", extratags=[(274, 3, 1, 1 + number % 2 * 5, True)]
        )

    few(tmp_path, save)
    run_01(write_config(tmp_path))
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 4 images are TIFFs whose tag 274 says to turn them (im1.tif for one)" in said and "EXIF" not in said


def test_nothing_is_said_of_images_that_lie_as_they_should(tmp_path, capsys):
    few(tmp_path, lambda path, picture, mask, number: Image.fromarray(picture).save(path.with_suffix(".jpg")))
    run_01(write_config(tmp_path))
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_size_that_the_orientation_explains_is_explained(tmp_path, suffix):
    def save(path, picture, mask, number):
        if suffix == ".tif":
            options = {"photometric": "rgb", "extratags": [(274, 3, 1, 6, True)]}
            tifffile.imwrite(path.with_suffix(suffix), np.rot90(picture), **options)
        else:
            Image.fromarray(picture).save(path.with_suffix(suffix), exif=orientation(6))

    few(tmp_path, save)
    competition = Competition(load(write_config(tmp_path)).competition)
    image = competition.images[0]
    sentence = r"tag 274 of im0\.tif says to turn it" if suffix == ".tif" else "as its EXIF says .*exif to false"
    with pytest.raises(UserError, match=rf"im0\.png is 96 x 128, its image 128 x 96 .*{sentence}"):
        competition.open_label(image, 128, 96)
    with pytest.raises(UserError, match=r"its image 40 x 40"):
        competition.open_label(image, 40, 40)
    if suffix == ".tif":
        return
    stored = Competition(load(write_config(tmp_path, pixels={"exif": False})).competition)
    with open_image(image.path, stored.settings.pixels) as reader:
        assert (reader.height, reader.width) == (96, 128)
    assert stored.open_label(image, 96, 128).counts(0, 0, 96, 128)[1] > 0
    with pytest.raises(UserError, match="but competition.pixels.exif is false: set it to true"):
        stored.open_label(image, 128, 96)
