"""`init` on polygons, arrays, colours as answers, and kinds of masks in a folder for each image."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
import rasterio
from layouts import numbered, save, scenes, table
from rasterio.transform import from_origin
from rasterio.warp import transform_geom

from lib.competition.dataset import Competition
from lib.competition.scoring import open_codec
from lib.config import flat, load
from lib.errors import UserError
from lib.propose.propose import propose

NAMES = numbered("{:04x}7")


def proposed(tmp_path):
    propose(tmp_path / "raw", "mine", tmp_path / "mine.yaml")
    config = load(tmp_path / "mine.yaml")
    competition = Competition(config.competition)
    competition.check()
    open_codec(competition)
    return {key.removeprefix("competition."): value for key, value in flat(config).items()}, competition


def agrees(competition, truth, least=1.0):
    for name, label in truth.items():
        read = competition.labels.open(name, *label.shape).read(0, 0, *label.shape)
        assert (read == label).mean() >= least, name


def geotiff(path, picture, x0):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = picture.shape[:2]
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=3, dtype="uint8", crs="EPSG:32630",
        transform=from_origin(x0, 621000, 0.5, 0.5),
    ) as file:  # fmt: skip
        file.write(np.moveaxis(picture, 2, 0))


def rings(label):
    return [
        ring[:, 0] for ring in cv2.findContours(label, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0] if len(ring) > 2
    ]


def outlines(label, x0):
    """Polygons along the middles of rim pixels, in the image's map."""
    return [
        {"type": "Polygon", "coordinates": [[[x0 + 0.5 * (x + 0.5), 621000 - 0.5 * (y + 0.5)] for x, y in ring]]}
        for ring in rings(label)
    ]


def scene_of_earth(root, crs, named):
    truth = {}
    for i, (split, name, picture, label) in enumerate(scenes(NAMES, 120, 140)):
        x0 = 808000.0 + 500 * i
        geotiff(root / split / f"area{i % 2}" / name / f"{name}.tif", picture, x0)
        if split == "train":
            geometries = [transform_geom("EPSG:32630", crs, one) for one in outlines(label, x0)]
            own = [{"type": "Feature", "properties": {"building": "yes"}, "geometry": one} for one in geometries]
            content: dict = {"type": "FeatureCollection", "features": own}
            if named:
                content["crs"] = {"type": "name", "properties": {"name": crs}}
            place = root / split / f"area{i % 2}" / f"{name}-labels"
            place.mkdir(parents=True)
            (place / f"{name}.geojson").write_text(json.dumps(content))
            truth[name] = label
    return truth


@pytest.mark.parametrize(
    ("crs", "named", "expected"),
    [("EPSG:4326", True, ""), ("EPSG:4326", False, "EPSG:4326"), ("EPSG:32630", False, "image")],
)
def test_polygons_on_earth(tmp_path, capsys, crs, named, expected):
    truth = scene_of_earth(tmp_path / "raw", crs, named)
    options, competition = proposed(tmp_path)
    assert options["labels.format"] == "polygons" and options["labels.crs"] == expected
    assert options["labels.files"] == "*/*/{id}.geojson" and set(competition.ids("train")) == set(truth)
    assert options["submission.codec"] == "files" and options["submission.id_template"] == "{id}.tif"
    assert options["submission.georeference"] is True
    agrees(competition, truth, 0.97)
    assert "for polygons set id_template to {id}.geojson" in capsys.readouterr().out


@pytest.mark.parametrize(("suffix", "place"), [(".tif", True), (".png", False)])
def test_masks_of_georeferenced_images_are_answered_with_a_place_if_they_can_hold_one(tmp_path, suffix, place):
    root = tmp_path / "raw"
    for i, (split, name, picture, label) in enumerate(scenes(NAMES, 100, 140)):
        geotiff(root / split / f"{name}.tif", picture, 808000.0 + 500 * i)
        if split == "train":
            save(root / "masks" / f"{name}{suffix}", label)
    options, _ = proposed(tmp_path)
    assert (options["submission.id_template"], options["submission.georeference"]) == (f"{{id}}{suffix}", place)


def in_pixels(root, write):
    """Images and polygons through the middles of pixels. `write(rows)`: rows of (name, outline)."""
    truth, rows = {}, []
    for split, name, picture, label in scenes(NAMES, 100, 140):
        save(root / split / f"{name}.png", picture)
        if split == "train":
            label = np.zeros_like(label)
            for ring in rings(scene_label := scenes_label(name)):
                cv2.fillPoly(label, [ring], 1)
                rows.append((name, ring.tolist()))
            assert scene_label.any()
            truth[name] = label
    write(rows)
    return truth


def scenes_label(name):
    return next(label for split, own, _, label in scenes(NAMES, 100, 140) if own == name)


def test_a_table_of_wkt(tmp_path):
    root = tmp_path / "raw"

    def write(rows):
        texts = [
            (name, "POLYGON ((" + ", ".join(f"{x} {y}" for x, y in [*ring, ring[0]]) + "))") for name, ring in rows
        ]
        pd.DataFrame(texts, columns=["ImageId", "PolygonWKT_Pix"]).to_csv(root / "train.csv", index=False)
        table(root / "sample_submission.csv", ["id", "rle"], [(name, "") for name in NAMES["test"]])

    truth = in_pixels(root, write)
    options, competition = proposed(tmp_path)
    assert (options["labels.format"], options["labels.rle_column"]) == ("polygons", "PolygonWKT_Pix")
    assert options["labels.polygon_fill"] == "fillpoly" and not options["submission.instances"]
    agrees(competition, truth)


@pytest.mark.parametrize("kind", ["one", "lists"])
def test_polygons_in_pixels(tmp_path, kind):
    root = tmp_path / "raw"

    def write(rows):
        if kind == "one":
            features = [
                {"type": "Feature", "properties": {"image": f"{name}.png", "class": ("cell", "rod")[i % 2]},
                 "geometry": {"type": "Polygon", "coordinates": [ring]}} for i, (name, ring) in enumerate(rows)
            ]  # fmt: skip
            content = {"type": "FeatureCollection", "features": features}
            (root / "labels.geojson").write_text(json.dumps(content))
        else:
            (root / "polygons").mkdir()
            for name in NAMES["train"]:
                own = [ring for one, ring in rows if one == name]
                (root / "polygons" / f"{name}.json").write_text(json.dumps(own))

    truth = in_pixels(root, write)
    options, competition = proposed(tmp_path)
    if kind == "one":
        assert options["labels.id_column"] == "image" and options["labels.id_template"] == "{id}.png"
        assert options["labels.class_column"] == "class" and options["classes"] == ["cell", "rod"]
        found = {name: competition.labels.open(name, *label.shape) for name, label in truth.items()}
        found = {name: label.read(0, 0, *truth[name].shape) for name, label in found.items()}
        assert all(((found[name] > 0) == label).all() for name, label in truth.items())
        assert {1, 2} <= set(np.unique(np.concatenate([label.ravel() for label in found.values()])))
    else:
        assert options["labels.suffix"] == ".json" and options["submission.id_template"] == "{id}.png"
        agrees(competition, truth)


def test_polygons_that_lie_nowhere_are_told(tmp_path, capsys):
    root = tmp_path / "raw"

    def write(rows):
        (root / "polygons").mkdir()
        for name in NAMES["train"]:
            far = [[[x + 5000, y] for x, y in ring] for one, ring in rows if one == name]
            (root / "polygons" / f"{name}.json").write_text(json.dumps(far))

    in_pixels(root, write)
    with pytest.raises(UserError, match="holds no labels of a known format"):
        propose(root, "mine", tmp_path / "mine.yaml")
    assert "which coordinates the polygons of polygons have: they lie on no image as pixels" in capsys.readouterr().out


COLOURS = np.array([(0, 0, 0), (0, 255, 255), (255, 255, 0)], np.uint8)


@pytest.mark.parametrize("named", [True, False])
def test_masks_in_colours_are_answered_in_colours(tmp_path, named):
    root, truth = tmp_path / "raw", {}
    for split, name, picture, label in scenes(NAMES, 100, 140, classes=2):
        save(root / split / f"{name}_sat.jpg", picture)
        if split == "train":
            save(root / split / f"{name}_mask.png", COLOURS[label])
            truth[name] = label
    if named:
        rows = [
            (name, *map(int, colour)) for name, colour in zip(("background", "urban", "field"), COLOURS, strict=True)
        ]
        table(root / "class_dict.csv", ["name", "r", "g", "b"], rows)
    options, competition = proposed(tmp_path)
    assert options["submission.palette"] == "labels" and options["submission.id_template"] == "{id}_mask.png"
    codec = open_codec(competition)
    assert codec.values.pixels(np.array([[0, 1, 2]])).tolist() == [COLOURS.tolist()]
    agrees(competition, truth)


def test_of_two_masks_in_the_folder_of_an_image_the_one_of_more_images_is_taken(tmp_path, capsys):
    root, truth = tmp_path / "raw", {}
    for number, (split, name, picture, label) in enumerate(scenes(NAMES, 100, 100)):
        split = "validation" if split == "train" and number % 3 == 2 else split
        place = root / split / f"10{name}"
        place.mkdir(parents=True)
        np.save(place / "band_11.npy", picture.astype(np.float32))
        if split == "test":
            continue
        people = np.stack([label, label, np.roll(label, 3)], -1)[:, :, None]
        if split == "train":
            np.save(place / "human_individual_masks.npy", people.astype(np.int32))
        np.save(place / "human_pixel_masks.npy", (people.sum(-1) > 1).astype(np.int32))
        truth[f"10{name}"] = label
    table(root / "sample_submission.csv", ["record_id", "encoded_pixels"], [(f"10{n}", "-") for n in NAMES["test"]])
    options, competition = proposed(tmp_path)
    assert options["labels.files"] == "*/{id}/human_pixel_masks.npy" and options["train_images"].startswith(
        "{train,val"
    )
    assert set(competition.ids("train")) == set(truth)
    agrees(competition, truth)
    assert "human_pixel_masks is taken, not human_individual_masks" in capsys.readouterr().out
