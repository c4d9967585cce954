"""Stage 1 where classes overlap: tiles of planes, counts, sizes of objects, pictures."""

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import yaml

from lib.competition import rle
from lib.competition.dataset import Competition
from lib.competition.labels.common import Label
from lib.competition.labels.planes import Planes, label_of_array, label_of_objects
from lib.config import load
from lib.config.competition import CompetitionSettings
from lib.data.preprocess.pick_images import has_object
from lib.data.preprocess.tile_labels import hidden_pixels, object_areas, subsampled_label, vanished_objects
from lib.data.tile_files import read_planes
from lib.tables import FULL, IGNORE
from tests.conftest import disc_image

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["disc", "left"]


def write(folder: Path, **preprocess) -> tuple[Path, dict[str, np.ndarray]]:
    """A competition of discs, and of the left half of every image, which lies over some of them."""
    rng, rows, truth = np.random.default_rng(3), [], {}
    (folder / "raw/train").mkdir(parents=True)
    for name in ("a", "b"):
        image, disc = disc_image(rng, 90, 140)
        left = np.zeros_like(disc)
        left[:, :70] = 1
        assert (disc & left).any() and (disc & ~left & 1).any(), "the fixture is degenerate"
        cv2.imwrite(str(folder / "raw/train" / f"{name}.png"), image)
        truth[name] = np.stack([disc, left])
        rows += [(name, c, rle.encode(plane)) for c, plane in zip(CLASSES, truth[name], strict=True)]
    pd.DataFrame(rows, columns=["id", "class", "encoding"]).to_csv(folder / "raw/train.csv", index=False)
    config = {
        "competition": {
            "name": "overlap", "root": str(folder / "raw"), "classes": CLASSES, "multilabel": True,
            "test_images": "", "submission": {"sample": ""}, "labels": {"class_column": "class"},
        },
        "preprocess": {"tile_size": 64, "stride": 48, "background_keep": 1.0, **preprocess},
        "workspace": str(folder / "work"), "jobs": 1,
    }  # fmt: skip
    path = folder / "overlap.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path, truth


def tiles_of(folder: Path, config: Path) -> list[tuple[dict, list[np.ndarray]]]:
    runpy.run_path(str(ROOT / "01_preprocess.py"))["main"]([str(config)])
    rows = pd.read_csv(folder / "work/tiles.csv").to_dict("records")
    return [(row, read_planes(folder / "work" / row["mask_path"], len(CLASSES))) for row in rows]


def test_a_tile_stores_a_plane_for_each_class(tmp_path):
    config, truth = write(tmp_path)
    tiles = tiles_of(tmp_path, config)
    assert len(tiles) == 2 * 2 * 3
    for row, planes in tiles:
        here = truth[row["image_id"]][:, row["y"] : row["y"] + row["height"], row["x"] : row["x"] + row["width"]]
        assert (np.stack(planes) == here * FULL).all()
        assert [row[f"px_{name}"] for name in CLASSES] == here.sum((1, 2)).tolist()
        assert row["px_background"] == (here.sum(0) == 0).sum() and row["px_ignore"] == 0
    assert {len(planes) for _, planes in tiles} == {2}
    objects = json.loads((tmp_path / "work/report/objects.json").read_text())["counts"]
    assert set(objects) == set(CLASSES) and sum(objects["left"]) == 2
    assert (tmp_path / "work/report/images/a.jpg").is_file()


def test_a_shrunk_tile_stores_shares(tmp_path):
    config, truth = write(tmp_path, scale=0.5)
    (row, planes), *_ = tiles_of(tmp_path, config)
    assert (row["height"], row["width"]) == (90, 128)
    for plane, whole in zip(planes, truth[row["image_id"]], strict=True):
        share = cv2.resize(whole[:, :128].astype(np.float32), (64, 45), interpolation=cv2.INTER_AREA)
        assert (plane[:45] == (share * FULL).round()).all() and (plane[45:] == IGNORE).all()
    assert len({*np.unique(planes[0])} - {0, FULL, IGNORE}) > 1


def test_a_shrunk_tile_of_one_class_that_may_overlap_stores_shares(tmp_path):
    path, truth = write(tmp_path, scale=0.5)
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["competition"] |= {"classes": ["disc"], "labels": {}}  # its index is 0 in tables, and 1 in its plane
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    table = pd.read_csv(tmp_path / "raw/train.csv")
    table[table["class"] == "disc"].drop(columns="class").to_csv(tmp_path / "raw/train.csv", index=False)
    (row, halves), *_ = tiles_of(tmp_path, path)
    stored, disc = np.concatenate(halves), truth[row["image_id"]][0, :, :128]
    share = cv2.resize(disc.astype(np.float32), (64, 45), interpolation=cv2.INTER_AREA)
    assert stored.shape == (64, 64)
    assert (stored[:45] == (share * FULL).round()).all() and (stored[45:] == IGNORE).all()
    assert len({*np.unique(stored)} - {0, FULL, IGNORE}) > 1 and row["px_disc"] > 0


def test_maps_and_objects_of_planes(tmp_path):
    planes = np.zeros((2, 100, 100), np.uint8)
    planes[0, 10:20, 10:20] = planes[1, 15:60, 15:60] = planes[1, 80, 80] = 1
    label = Planes([Label(lambda y, x, h, w, p=p: p[y : y + h, x : x + w]) for p in planes])
    small = subsampled_label(label, 100, 100, (5, 2))
    assert (small == planes[:, ::5, ::2]).all()
    assert object_areas(planes, 1, 0) == {0: [100], 1: [45 * 45, 1]}
    assert vanished_objects(label, 100, 100, (50, 50)) == (3, 1)


def test_an_image_without_any_class_is_told_from_the_others(tmp_path):
    path, _ = write(tmp_path)
    table = pd.read_csv(tmp_path / "raw/train.csv")
    table.loc[table["id"] == "a", "encoding"] = ""
    table.to_csv(tmp_path / "raw/train.csv", index=False)
    competition = Competition(load(path).competition)
    assert {image.image_id: has_object(competition, image) for image in competition.images} == {"a": False, "b": True}


def without_multilabel(path: Path, **competition) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["competition"] |= {"multilabel": False, **competition}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")


def test_pixels_that_another_class_hides_are_counted_and_said_once(tmp_path, capsys):
    path, truth = write(tmp_path)
    tiles_of(tmp_path, path)
    assert "overlap" not in capsys.readouterr().out
    without_multilabel(path)
    runpy.run_path(str(ROOT / "01_preprocess.py"))["main"]([str(path)])
    out = capsys.readouterr().out
    hidden = sum(int((planes[0] & planes[1]).sum()) for planes in truth.values())
    everything = sum(int(planes.sum()) for planes in truth.values())
    disc = sum(int(planes[0].sum()) for planes in truth.values())
    assert out.count("classes overlap in the labels") == 1
    assert f"{100 * hidden / everything:.2g}% of the object pixels are lost, the most of 'disc'" in out
    assert f"({100 * hidden / disc:.2g}%; " in out and "set competition.multilabel to true" in out


def test_hidden_pixels_of_a_large_image_are_counted_in_bands(monkeypatch):
    objects = [(1, np.ones((64, 8), np.uint8)), (2, np.tile(np.array([[0], [1]], np.uint8), (32, 8)))]

    def paint(some: list[tuple[int, np.ndarray]], _: int) -> Label:
        out = np.zeros((64, 8), np.uint8)
        for index, mask in some:
            out[mask > 0] = index
        return label_of_array(out)

    label = label_of_objects(objects, paint, CompetitionSettings(classes=CLASSES))
    assert hidden_pixels(label, 64, 8, 1).tolist() == [[512, 256], [256, 0]]
    monkeypatch.setattr("lib.data.preprocess.tile_labels.COMPARED_PIXELS", 2 * 16 * 8)
    (pixels, other), hidden = hidden_pixels(label, 64, 8, 1)
    assert pixels == 2 * 16 * 8 and hidden.tolist() == [other, 0] and other == 128
    assert hidden_pixels(label_of_array(objects[0][1]), 64, 8, 1).shape == (2, 0)
