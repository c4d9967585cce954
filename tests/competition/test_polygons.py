"""Labels as polygons: GeoJSON and its kin, WKT, coordinates in pixels and on Earth."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from pycocotools import mask as coco_mask
from rasterio.features import rasterize
from rasterio.transform import from_origin
from rasterio.warp import transform_geom

from lib.competition.dataset import Competition
from lib.competition.labels.polygons import Polygons
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.tables import IGNORE

H, W = 60, 80
OUTLINE = [[10, 5], [50, 5], [50, 40], [10, 40], [10, 5]]
HOLE = [[20, 15], [30, 15], [30, 25], [20, 25], [20, 15]]
SMALL = [[60, 45], [70, 45], [70, 55], [60, 55], [60, 45]]
WITH_HOLE = {"type": "Polygon", "coordinates": [OUTLINE, HOLE]}
BOTH = {"type": "MultiPolygon", "coordinates": [[OUTLINE, HOLE], [SMALL]]}


def feature(geometry, **properties):
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def collection(*features, **more):
    return {"type": "FeatureCollection", "features": list(features), **more}


def reader(root, path=".", classes=("house",), known=("a",), **labels):
    options = {"format": "polygons", "path": path, "suffix": ".geojson", **labels}
    return Polygons(CompetitionSettings(root=str(root), classes=list(classes), labels=options), set(known))


def painted(root, content, name="a.geojson", **options):
    (root / name).write_text(json.dumps(content))
    return reader(root, **options).open("a", H, W).read(0, 0, H, W)


def edges(*geometries):
    """What polygons along the edges of pixels cover, by other means."""
    return rasterize([(one, 1) for one in geometries], out_shape=(H, W), dtype=np.uint8)


@pytest.mark.parametrize(
    "content",
    [
        collection(feature(BOTH)),
        [feature(WITH_HOLE), feature({"type": "Polygon", "coordinates": [SMALL]})],
        collection(feature(WITH_HOLE), feature({"type": "Polygon", "coordinates": [SMALL]}), feature(None)),
        BOTH,
        feature({"type": "GeometryCollection", "geometries": [BOTH, {"type": "Point", "coordinates": [3, 3]}]}),
    ],
)
def test_every_kind_of_content_is_painted(tmp_path, content):
    assert (painted(tmp_path, content) == edges(BOTH)).all() and edges(BOTH).sum() == 40 * 35 - 100 + 100


def test_lists_of_outlines_and_of_images(tmp_path):
    without_hole = {"type": "Polygon", "coordinates": [OUTLINE]}
    other = {"type": "Polygon", "coordinates": [SMALL]}
    assert (painted(tmp_path, [OUTLINE, SMALL], "a.json", suffix=".json") == edges(without_hole, other)).all()
    (tmp_path / "all.json").write_text(json.dumps({"images": [
        {"file_name": "a.tif", "annotations": [{"class": "house", "segmentation": np.ravel(OUTLINE).tolist()}]},
        {"file_name": "b.tif", "annotations": [{"class": "house", "segmentation": [np.ravel(SMALL).tolist()]}]},
    ]}))  # fmt: skip
    made = reader(tmp_path, "all.json", known=("a", "b"), id_column="file_name", id_template="{id}.tif")
    assert made.image_ids == {"a", "b"}
    assert (made.open("a", H, W).read(0, 0, H, W) == edges(without_hole)).all()
    assert (made.open("b", H, W).read(0, 0, H, W) == edges(other)).all()


def test_outlines_through_the_middles_of_pixels(tmp_path):
    mask = np.zeros((H, W), np.uint8)
    cv2.ellipse(mask, (30, 30), (20, 15), 20, 0, 360, 1, -1)
    mask[25:32, 25:36] = 0
    rings, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    geometry = {"type": "Polygon", "coordinates": [ring[:, 0].tolist() for ring in rings]}
    assert len(rings) == 2, "the fixture has no hole"
    assert (painted(tmp_path, collection(feature(geometry)), polygon_fill="fillpoly") == mask).all()


def test_corners_between_pixels_are_those_of_coco(tmp_path):
    ring = [[3.2, 4.7], [40.1, 9.9], [33.3, 51.2], [12.8, 44.4]]
    runs = coco_mask.frPyObjects([np.ravel(ring).tolist()], H, W)
    assert (painted(tmp_path, [ring]) == coco_mask.decode(runs)[..., 0]).all()


def test_windows_are_parts_of_the_whole(tmp_path):
    whole = painted(tmp_path, collection(feature(BOTH)))
    label = reader(tmp_path).open("a", H, W)
    for y, x, h, w in ((0, 0, 20, 20), (12, 18, 9, 9), (38, 45, 22, 35)):
        assert (label.read(y, x, h, w) == whole[y : y + h, x : x + w]).all()


def test_a_property_names_the_class(tmp_path):
    content = collection(
        feature({"type": "Polygon", "coordinates": [OUTLINE]}, classification={"name": "house"}),
        feature({"type": "Polygon", "coordinates": [HOLE]}, classification={"name": "yard"}),
    )
    label = painted(tmp_path, content, classes=("house", "yard"), class_column="classification.name")
    assert label[20, 25] == 2 and label[10, 12] == 1 and label[0, 0] == 0
    content["features"].append(feature({"type": "Polygon", "coordinates": [SMALL]}, classification={"name": "tree"}))
    with pytest.raises(UserError, match="a polygon has 'tree' as 'classification.name', which is not one of"):
        painted(tmp_path, content, classes=("house", "yard"), class_column="classification.name")
    options = {"classes": ("house", "yard"), "class_column": "classification.name", "other": "ignore"}
    assert painted(tmp_path, content, **options)[50, 65] == IGNORE
    with pytest.raises(UserError, match="class_column is empty, but competition.classes has 2"):
        reader(tmp_path, classes=("house", "yard"))


@pytest.mark.parametrize(("paint", "top"), [("file", 1), ("area", 2)])
def test_which_of_two_lies_on_top(tmp_path, paint, top):
    large = {"type": "Polygon", "coordinates": [OUTLINE]}
    small = {"type": "Polygon", "coordinates": [HOLE]}
    content = collection(feature(small, kind="yard"), feature(large, kind="house"))
    options = {"classes": ("house", "yard"), "class_column": "kind", "paint": paint}
    assert painted(tmp_path, content, **options)[20, 25] == top


def wkt(*rings):
    return "POLYGON (" + ", ".join("(" + ", ".join(f"{x} {y}" for x, y in ring) + ")" for ring in rings) + ")"


def test_a_table_of_texts(tmp_path):
    rows = [("a", wkt(OUTLINE, HOLE), 1), ("a", wkt(SMALL), 0.9), ("b", "POLYGON EMPTY", 1), ("c", "", 1)]
    pd.DataFrame(rows, columns=["ImageId", "PolygonWKT_Pix", "Confidence"]).to_csv(tmp_path / "train.csv", index=False)
    options = {"id_column": "ImageId", "rle_column": "PolygonWKT_Pix", "known": ("a", "b", "c")}
    made = reader(tmp_path, "train.csv", **options)
    assert made.image_ids == {"a", "b", "c"}
    assert (made.open("a", H, W).read(0, 0, H, W) == edges(BOTH)).all()
    assert not made.open("b", H, W).read(0, 0, H, W).any() and not made.open("c", H, W).read(0, 0, H, W).any()
    pd.DataFrame([("a", "POLYGON ((1 1, 2")], columns=["ImageId", "PolygonWKT_Pix"]).to_csv(
        tmp_path / "train.csv", index=False
    )
    with pytest.raises(UserError, match=r"train.csv, row 2, column PolygonWKT_Pix is not a WKT such as POLYGON"):
        reader(tmp_path, "train.csv", **options)


@pytest.fixture(scope="module")
def earth(tmp_path_factory):
    """Two scenes in a map of their own, and their polygons in degrees."""
    root = tmp_path_factory.mktemp("earth")
    for split, x0 in (("train/a", 525000.0), ("train/b", 525500.0), ("test/c", 526000.0)):
        (root / split).mkdir(parents=True)
        transform = from_origin(x0, 9247000, 0.5, 0.5)
        with rasterio.open(
            root / split / f"{split[-1]}.tif", "w", driver="GTiff", width=W, height=H, count=3, dtype="uint8",
            crs="EPSG:32737", transform=transform,
        ) as file:  # fmt: skip
            file.write(np.full((3, H, W), 90, np.uint8))
    return root


def on_earth(x0, crs):
    corners = lambda ring: [[x0 + 0.5 * x, 9247000 - 0.5 * y] for x, y in ring]  # noqa: E731
    geometry = {"type": "Polygon", "coordinates": [corners(OUTLINE), corners(HOLE)]}
    return transform_geom("EPSG:32737", crs, geometry) if crs != "EPSG:32737" else geometry


def settings(root, **labels):
    options = {"format": "polygons", "path": "labels", "suffix": ".geojson", **labels}
    return CompetitionSettings(
        root=str(root), train_images="train/*/*.tif", test_images="test/*/*.tif", classes=["house"], labels=options
    )


@pytest.mark.parametrize(
    ("crs", "named", "option"),
    [
        ("EPSG:4326", "urn:ogc:def:crs:OGC:1.3:CRS84", ""),
        ("EPSG:4326", "", "EPSG:4326"),
        ("EPSG:32737", "", "image"),
        ("EPSG:32736", "urn:ogc:def:crs:EPSG::32736", ""),
    ],
)
def test_coordinates_on_earth_become_pixels(earth, crs, named, option):
    (earth / "labels").mkdir(exist_ok=True)
    more = {"crs": {"type": "name", "properties": {"name": named}}} if named else {}
    for name, x0 in (("a", 525000.0), ("b", 525500.0)):
        (earth / f"labels/{name}.geojson").write_text(json.dumps(collection(feature(on_earth(x0, crs)), **more)))
    competition = Competition(settings(earth, crs=option))
    for image in competition.images[:2]:
        label = competition.open_label(image, H, W).read(0, 0, H, W)
        assert (label == edges(WITH_HOLE)).mean() > 0.999 and label.sum() > 1000


def test_an_image_may_be_turned_on_its_map(tmp_path):
    (tmp_path / "train").mkdir()
    turned = Affine.translation(525000, 9247000) * Affine.rotation(30) * Affine.scale(0.5, -0.5)
    with rasterio.open(
        tmp_path / "train/a.tif", "w", driver="GTiff", width=W, height=H, count=1, dtype="uint8", crs="EPSG:32737",
        transform=turned,
    ) as file:  # fmt: skip
        file.write(np.zeros((1, H, W), np.uint8))
    corners = [[list(turned * (x, y)) for x, y in ring] for ring in (OUTLINE, HOLE)]
    label = painted(tmp_path, collection(feature({"type": "Polygon", "coordinates": corners})), crs="image")
    assert (label == edges(WITH_HOLE)).mean() > 0.999


def test_one_file_serves_all_images(earth):
    both = collection(*(feature(on_earth(x0, "EPSG:4326")) for x0 in (525000.0, 525500.0)))
    (earth / "all.geojson").write_text(json.dumps(both))
    competition = Competition(settings(earth, path="all.geojson", id_column="", crs="EPSG:4326"))
    for image in competition.images[:2]:
        label = competition.open_label(image, H, W)
        assert (label.read(0, 0, H, W) == edges(WITH_HOLE)).mean() > 0.999 and not label.unused


def test_degrees_that_are_taken_for_pixels_are_noticed(earth):
    (earth / "plain").mkdir(exist_ok=True)
    for name in "ab":
        content = collection(feature(on_earth(525000.0, "EPSG:32737")))
        (earth / f"plain/{name}.geojson").write_text(json.dumps(content))
    competition = Competition(settings(earth, path="plain"))
    with pytest.raises(UserError, match=r"none of the 1 polygons of a lies on the image .*labels.crs"):
        competition.open_label(competition.images[0], H, W)
    with pytest.raises(UserError, match=r"labels.crs names the coordinate system 'EPSG:1', which is not known"):
        competition = Competition(settings(earth, path="plain", crs="EPSG:1"))
        competition.open_label(competition.images[0], H, W)


def test_an_image_without_place_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    cv2.imwrite(str(tmp_path / "train/a.png"), np.zeros((H, W, 3), np.uint8))
    (tmp_path / "a.geojson").write_text(json.dumps(collection(feature(WITH_HOLE))))
    with pytest.raises(UserError, match=r"a.png does not say where on Earth it lies, but its polygons in .*EPSG:4326"):
        reader(tmp_path, crs="EPSG:4326").open("a", H, W)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"features": [{"type": "Feature", "geometry": {"type": "Blob"}}]}, "a geometry is of the type 'Blob'"),
        ({"type": "Polygon", "coordinates": [[[0, "x"], [1, 1], [2, 2]]]}, "the corners of a polygon are not pairs"),
        ({"type": "Polygon", "coordinates": [[0, 1, 2]]}, "the corners of a polygon are not pairs"),
        ("text", "a.geojson is not a GeoJSON"),
        ({"a": 1}, "a.geojson is not a GeoJSON"),
    ],
)
def test_other_content_is_refused(tmp_path, content, what):
    with pytest.raises(UserError, match=what):
        painted(tmp_path, content)


def test_polygons_of_no_image_are_told(tmp_path):
    for name in "ax":
        (tmp_path / f"{name}.geojson").write_text(json.dumps(collection()))
    with pytest.raises(UserError, match=r"x.geojson has polygons of 'x', but competition.train_images"):
        reader(tmp_path)
    assert reader(tmp_path, surplus="skip").image_ids == {"a"}
