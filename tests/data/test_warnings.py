"""01 says what may be wrong with images and labels: which are turned, of which depth they are, what is blank."""

import json
import runpy

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from PIL import Image

from lib.competition.dataset import Competition
from lib.config import load
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.inference.sources import roi_of, source_of
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
    assert "2 of 4 images are turned as their EXIF orientation says (for example im1.jpg)" in said
    assert "set competition.pixels.exif to false" in said
    run_01(config, "--competition.pixels.exif", "false")
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 4 images are not turned, although EXIF says so (for example im1.jpg)" in said


def test_tags_of_tiffs_are_told_apart_from_exif(tmp_path, capsys):
    def save(path, picture, mask, number):
        tifffile.imwrite(
            path.with_suffix(".tif"), picture, photometric="rgb", extratags=[(274, 3, 1, 1 + number % 2 * 5, True)]
        )

    few(tmp_path, save)
    run_01(write_config(tmp_path))
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "2 of 4 images are TIFFs whose tag 274 says to turn them (for example im1.tif)" in said and "EXIF" not in said
    )


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


def depths(deep):
    """Writes 8-bit TIFFs, and every second one as `deep(picture)`."""

    def save(path, picture, mask, number):
        tifffile.imwrite(path.with_suffix(".tif"), deep(picture) if number % 2 else picture, photometric="rgb")

    return save


def test_files_of_two_depths_are_shown_alike_or_refused_by_name(tmp_path, capsys):
    few(tmp_path, depths(lambda picture: picture.astype(np.uint16) * 257))
    config = write_config(tmp_path, pixels={"range": [0, 65535]})
    run_01(config)
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "[0, 65535] applies to images of several types: 2 with uint8 (im0.tif), 2 with uint16 (im1.tif)"
        in said.replace(".0", "")
    )
    competition = Competition(load(config).competition)
    means = []
    for image in competition.images:
        with open_image(image.path, competition.settings.pixels) as reader:
            means.append(reader.read(0, 0, 96, 128).mean())
    assert min(means) > 60 and max(means) < 150
    with pytest.raises(
        UserError, match=r"im0\.tif has 8 bits a channel, but .*\[0.0, 4095.0\].*; .*im1\.tif for one is deeper"
    ):
        run_01(write_config(tmp_path, pixels={"range": [0, 4095]}))


def test_dark_8_bit_files_may_have_a_range_of_their_own(tmp_path, capsys):
    few(tmp_path, depths(lambda picture: picture))
    run_01(write_config(tmp_path, pixels={"range": [50, 220]}))
    assert "warning" not in capsys.readouterr().out


def test_other_types_and_channels_of_one_set_are_counted(tmp_path, capsys):
    def save(path, picture, mask, number):
        values = np.dstack([picture, picture[..., : 1 + number % 2]]).astype(("int16", "float32")[number % 2])
        tifffile.imwrite(path.with_suffix(".tif"), values, photometric="minisblack", planarconfig="contig")

    few(tmp_path, save)
    run_01(write_config(tmp_path, pixels={"range": [0, 255], "bands": [2, 1, 0]}))
    said = " ".join(capsys.readouterr().out.split())
    assert "2 with int16 (im0.tif), 2 with float32 (im1.tif)" in said
    assert "2 with 4 channels (im0.tif), 2 with 5 channels (im1.tif)" in said


def test_images_that_count_as_blank_all_over_are_counted(tmp_path, capsys):
    few(tmp_path, depths(lambda picture: picture // 40))
    run_01(write_config(tmp_path))
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 4 images are blank everywhere (for example im1.tif)" in said


def on_dark_ground(share):
    """Pictures 40 times dimmer, but for a square of ordinary brightness over `share` of the width, on the left."""

    def save(path, picture, mask, number):
        left = round(share * picture.shape[1])
        cv2.imwrite(str(path.with_suffix(".png")), np.concatenate([picture[:, :left], picture[:, left:] // 40], axis=1))

    return save


@pytest.mark.parametrize("roi", ["content", "none"])
def test_tiles_with_object_are_kept_on_any_ground_and_their_share_is_said(tmp_path, capsys, roi):
    few(tmp_path, on_dark_ground(0.25))
    config = write_config(tmp_path, tile_size=32, roi=roi, background_keep=1.0)
    run_01(config)
    said = " ".join(capsys.readouterr().out.split())
    tiles = pd.read_csv(tmp_path / "work/tiles.csv")
    masks = {f"im{n}": cv2.imread(str(tmp_path / f"raw/masks/im{n}.png"), 0) > 0 for n in range(3)}
    assert tiles["px_disc"].sum() == sum(mask.sum() for mask in masks.values()), "no object pixel is lost"
    blank = tiles[tiles["blank_share"] == 1]
    share = blank["px_disc"].sum() / tiles["px_disc"].sum()
    assert 0.2 < share < 0.9
    assert f"{share:.1%} of the object pixels lie in tiles that count as blank" in said
    assert "03 to 05 look everywhere, as with infer.roi none, because more than 2% do" in said
    assert (blank["px_disc"] > 0).all() == (roi == "content"), "blank ground without object is left out by roi content"
    assert json.loads((tmp_path / "work/fingerprint.json").read_text())["objects_on_blank"] == round(share, 4)
    assert roi_of(load(config)) == "none" and source_of(load(config), "im0", "im0.png").roi == "none"
    assert roi_of(load(config, ["--infer.roi", "some.csv"])) == "some.csv"
    run_01(config, "--infer.roi", "none", "--preprocess.background_keep", "0.9")
    assert "count as blank" not in capsys.readouterr().out, "05 will look there"


def test_few_objects_on_blank_ground_are_said_and_change_nothing(tmp_path, capsys):
    few(tmp_path, on_dark_ground(0.5))
    for number in range(3):  # one pixel on the dark side
        path = str(tmp_path / f"raw/masks/im{number}.png")
        mask = cv2.imread(path, 0)
        mask[:, 64:] = 0
        mask[5, 120] = 255
        cv2.imwrite(path, mask)
    config = write_config(tmp_path, tile_size=32)
    run_01(config)
    said = " ".join(capsys.readouterr().out.split())
    assert "but 05 leaves blank windows out; set infer.roi to none to look everywhere, or lower" in said
    assert 0 < json.loads((tmp_path / "work/fingerprint.json").read_text())["objects_on_blank"] <= 0.02
    assert roi_of(load(config)) == "content"


OUTSIDE = [300, 0], [400, 0], [300, 9]


def shape(kind, *points):
    return {"label": "disc", "shape_type": kind, "points": points}


def test_shapes_that_cover_no_pixel_are_counted_once_for_all_files(tmp_path, capsys):
    few(tmp_path, lambda path, picture, mask, number: cv2.imwrite(f"{path}.png", picture))
    square = shape("rectangle", [20, 20], [60, 60])
    flat = [
        [shape("line", [1, 1], [30, 30])],
        [shape("linestrip", [1, 1], [30, 5], [9, 9]), shape("point", [5, 5]), shape("polygon", *OUTSIDE)],
        [],
    ]  # fmt: skip
    for number, shapes in enumerate(flat):
        content = {"shapes": [square, *shapes], "imageHeight": 96, "imageWidth": 128}
        (tmp_path / f"raw/masks/im{number}.json").write_text(json.dumps(content))
    run_01(write_config(tmp_path, {"format": "labelme", "suffix": ".json"}))
    said = capsys.readouterr().out
    assert "warning: labels hold 4 object(s) that cover no pixel and do not count: points, lines" in said
    assert f"(the most, 3, in {tmp_path / 'raw/masks/im1.json'})" in said and said.count("warning") == 1


def test_annotations_of_coco_without_outline_are_counted(tmp_path, capsys):
    few(tmp_path, lambda path, picture, mask, number: cv2.imwrite(f"{path}.png", picture))
    images = [{"id": n, "file_name": f"im{n}.png", "height": 96, "width": 128} for n in range(3)]
    outlines = [[[20, 20, 60, 20, 60, 60]], [], None]
    annotations = [
        {"id": 3 * n + i, "image_id": n, "category_id": 1, "segmentation": outline}
        for n in range(3) for i, outline in enumerate(outlines)
    ]  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "disc"}]}
    (tmp_path / "raw/coco.json").write_text(json.dumps(content))
    run_01(write_config(tmp_path, {"format": "coco", "path": "coco.json"}))
    said = capsys.readouterr().out
    assert "labels hold 6 object(s) that cover no pixel" in said and said.count("warning") == 1
    assert f"(the most, 6, in {tmp_path / 'raw/coco.json'})" in said
