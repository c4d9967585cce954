"""Raw folders as organisers lay them out, in miniature: discs that are brighter than their ground, and their labels."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tifffile
from PIL import Image
from pycocotools import mask as mask_tool

from lib.competition import rle

COUNTS = {"train": 6, "test": 2}


@dataclass
class Layout:
    """A folder and what `init` has to see in it: label indices by training image, and how labels are told."""

    root: Path
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    expected: dict[str, object] = field(default_factory=dict)


def scene(number: int, height: int, width: int, classes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(picture (h, w, 3), label indices (h, w)); objects touch the rim here and there."""
    rng = np.random.default_rng(number)
    picture = rng.integers(60, 110, (height, width, 3)).astype(np.uint8)
    label = np.zeros((height, width), np.uint8)
    for i in range(3 * classes):
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        cv2.ellipse(
            label, centre, (int(rng.integers(12, 26)), int(rng.integers(8, 14))), 20, 0, 360, 1 + i % classes, -1
        )
    picture += (label * np.uint8(120 // classes))[..., None]
    assert set(np.unique(label)) == set(range(classes + 1)), "the fixture is degenerate"
    return picture, label


def scenes(names: dict[str, list[str]], height: int, width: int, classes: int = 1):
    """(split, name, picture, label) of every name; sizes differ a little, unless they are equal."""
    pairs = [(split, name) for split, own in names.items() for name in own]
    for number, (split, name) in enumerate(pairs):
        more = 0 if height == width else 3 * number
        yield split, name, *scene(number, height + more, width, classes)


def numbered(pattern: str) -> dict[str, list[str]]:
    return {"train": [pattern.format(i) for i in range(6)], "test": [pattern.format(i) for i in range(6, 8)]}


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, pixels, resolution=(20000, 20000), resolutionunit="CENTIMETER")  # half a micrometre
    else:
        Image.fromarray(pixels).save(path)


def table(path: Path, columns: list[str], rows: list[tuple]) -> None:
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)


def hubmap(root: Path) -> Layout:
    """One row per slide, column-major; two slides per patient."""
    layout, rows, meta = Layout(root), [], []
    names = {"train": [f"{i:03x}a{i}f" for i in range(8)], "test": ["b17c", "b18c"]}
    for split, name, picture, label in scenes(names, 150, 210):
        save(root / split / f"{name}.tiff", picture)
        meta.append((name, f"patient{names[split].index(name) // 2}{split[:2]}", 150))
        if split == "train":
            rows.append((name, rle.encode(label)))
            layout.truth[name] = label
    table(root / "train.csv", ["id", "encoding"], rows)
    table(root / "information.csv", ["image_file", "patient_number", "height_pixels"], meta)
    table(root / "sample_submission.csv", ["id", "predicted"], [(name, "") for name in names["test"]])
    layout.expected = {"labels.order": "column", "labels.base": 1, "submission.preset": "hubmap2021",
                       "metadata_id": "image_file"}  # fmt: skip
    return layout


def severstal(root: Path) -> Layout:
    """Four classes in one column with the image; only objects have rows, and one image has none."""
    layout, rows = Layout(root), []
    names = numbered("{:04x}c")
    for split, name, picture, label in scenes(names, 96, 200, classes=4):
        save(root / f"{split}_images/{name}.jpg", picture)
        if split == "train":
            label[:] = 0 if name == "0003c" else label
            rows += [(f"{name}.jpg_{c}", rle.encode(label == c)) for c in range(1, 5) if (label == c).any()]
            layout.truth[name] = label
    table(root / "train.csv", ["ImageId_ClassId", "EncodedPixels"], rows)
    sample = [(f"{name}.jpg_{c}", "1 1") for name in names["test"] for c in range(1, 5)]
    table(root / "sample_submission.csv", ["ImageId_ClassId", "EncodedPixels"], sample)
    layout.expected = {"labels.id_template": "{id}.jpg_{class}", "classes": ["1", "2", "3", "4"],
                       "labels.missing": "empty", "submission.preset": "severstal"}  # fmt: skip
    return layout


def carvana(root: Path) -> Layout:
    """GIF masks beside a CSV, row-major answers; several pictures of one car."""
    layout, rows = Layout(root), []
    names = {"train": [f"{car}_{i:02}" for car in ("0ca", "1cb", "2dc", "3e0") for i in range(1, 4)],
             "test": ["9aa_01", "9aa_02"]}  # fmt: skip
    for split, name, picture, label in scenes(names, 100, 160):
        save(root / split / f"{name}.jpg", picture)
        if split == "train":
            save(root / "train_masks" / f"{name}_mask.gif", label)
            rows.append((f"{name}.jpg", rle.encode(label, "row")))
            layout.truth[name] = label
    table(root / "train_masks.csv", ["img", "rle_mask"], rows)
    table(root / "sample_submission.csv", ["img", "rle_mask"], [(f"{name}.jpg", "") for name in names["test"]])
    layout.expected = {"labels.suffix": "_mask.gif", "labels.threshold": 0, "submission.preset": "carvana"}
    return layout


def tgs(root: Path) -> Layout:
    """Small square pictures in grey, masks of 16 bits."""
    layout = Layout(root)
    names = numbered("{:04x}b")
    for split, name, picture, label in scenes(names, 101, 101):
        save(root / split / "images" / f"{name}.png", picture[..., 0])
        if split == "train":
            save(root / "train/masks" / f"{name}.png", label.astype(np.uint16) * 65535)
            layout.truth[name] = label
    table(root / "depths.csv", ["id", "z"], [(name, 100 + i) for i, name in enumerate(sum(names.values(), []))])
    table(root / "sample_submission.csv", ["id", "rle_mask"], [(name, "1 1") for name in names["test"]])
    layout.expected = {"labels.format": "mask_images", "submission.preset": "tgs", "preprocess.tile_size": 128}
    return layout


def square_rle(root: Path) -> Layout:
    """Square pictures with row-major run-lengths from 0: only the pictures tell the order."""
    layout, rows = Layout(root), []
    names = numbered("{:04x}d")
    for split, name, picture, label in scenes(names, 128, 128):
        save(root / split / f"{name}.png", picture)
        if split == "train":
            rows.append((name, rle.encode(label, "row", 0)))
            layout.truth[name] = label
    table(root / "train.csv", ["id", "rle"], rows)
    table(root / "sample_submission.csv", ["id", "answer"], [(name, "") for name in names["test"]])
    layout.expected = {"labels.order": "row", "labels.base": 0, "submission.order": "row", "submission.base": 0,
                       "submission.rle_column": "answer"}  # fmt: skip
    return layout


def coco(root: Path) -> Layout:
    """All pictures in one folder; parted by the sample; polygons."""
    layout, names = Layout(root), numbered("IMG{:04x}")
    content = {split: {"images": []} for split in names}
    content["train"] |= {"annotations": [], "categories": [{"id": 3, "name": "car"}, {"id": 8, "name": "tree"}]}
    for number, (split, name, picture, label) in enumerate(scenes(names, 120, 180, classes=2)):
        save(root / "images" / f"{name}.jpg", picture)
        size = {"height": picture.shape[0], "width": picture.shape[1]}
        content[split]["images"].append({"id": number, "file_name": f"images/{name}.jpg", **size})
        if split == "train":
            layout.truth[name] = np.zeros_like(label)
            for index, category in ((1, 3), (2, 8)):
                rings = cv2.findContours((label == index).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[
                    0
                ]
                for ring in rings:
                    content["train"]["annotations"].append(
                        {"id": len(content["train"]["annotations"]), "image_id": number, "category_id": category,
                         "segmentation": [ring.ravel().tolist()], "area": 1000 * (3 - index), "iscrowd": 0}
                    )  # fmt: skip
                    parts = mask_tool.frPyObjects([ring.ravel().tolist()], *label.shape)
                    layout.truth[name][mask_tool.decode(mask_tool.merge(parts)) > 0] = index
    for split in names:
        (root / f"{split}.json").write_text(json.dumps(content[split]))
    sample = [(f"images/{name}.jpg", "") for name in names["test"]]
    table(root / "sample_submission.csv", ["image_id", "PredictionString"], sample)
    layout.expected = {"classes": ["car", "tree"], "train_images": "images/*", "test_images": "images/*",
                       "submission.preset": "boostcamp_trash", "submission.id_template": "images/{id}.jpg"}  # fmt: skip
    return layout


def class_masks(root: Path) -> Layout:
    """A folder of masks per class."""
    layout, names = Layout(root), numbered("{:04x}e")
    for split, name, picture, label in scenes(names, 110, 150, classes=2):
        save(root / split / "images" / f"{name}.png", picture)
        if split == "train":
            for index, word in ((1, "road"), (2, "roof")):
                save(root / "train/masks" / word / f"{name}.png", (label == index) * np.uint8(255))
            layout.truth[name] = label
    sample = [(name, word, "") for name in names["test"] for word in ("road", "roof")]
    table(root / "sample_submission.csv", ["id", "class", "predicted"], sample)
    layout.expected = {"labels.files": "{class}/{id}.png", "classes": ["road", "roof"]}
    return layout


def object_masks(root: Path) -> Layout:
    """A folder per picture, with a mask per object."""
    layout, names = Layout(root), numbered("{:04x}f")
    for split, name, picture, label in scenes(names, 96, 130):
        save(root / split / name / "images" / f"{name}.png", picture)
        if split == "train":
            count, parts = cv2.connectedComponents(label)
            for i in range(1, count):
                save(root / split / name / "masks" / f"{i}{name[::-1]}.png", (parts == i) * np.uint8(255))
            layout.truth[name] = label
    table(root / "sample_submission.csv", ["ImageId", "EncodedPixels"], [(name, "") for name in names["test"]])
    layout.expected = {"labels.files": "{id}/masks/*.png", "train_images": "train/*/images/*"}
    return layout


def indexed(root: Path) -> Layout:
    """Class indices in masks, their names in a CSV; 255 where nobody knows."""
    layout, names = Layout(root), numbered("{:04x}a")
    for split, name, picture, label in scenes(names, 100, 140, classes=2):
        save(root / split / f"{name}.png", picture)
        if split == "train":
            label[:5] = 255
            save(root / "labels" / f"{name}.png", label)
            layout.truth[name] = label
    table(root / "labels.csv", ["id", "name"], [(0, "background"), (1, "field"), (2, "river")])
    sample = [(name, word, "") for name in names["test"] for word in ("field", "river")]
    table(root / "sample_submission.csv", ["id", "class", "predicted"], sample)
    layout.expected = {"classes": ["field", "river"], "labels.other": "ignore", "background": True}
    return layout


def coloured(root: Path) -> Layout:
    """Masks in colours that nothing names."""
    layout, names = Layout(root), numbered("{:04x}7")
    for split, name, picture, label in scenes(names, 100, 140, classes=2):
        save(root / split / f"{name}.png", picture)
        if split == "train":
            save(
                root / "annotations" / f"{name}.png", np.array([(0, 0, 0), (9, 200, 30), (200, 0, 40)], np.uint8)[label]
            )
            layout.truth[name] = label
    table(root / "sample_submission.csv", ["id", "answer"], [(name, "") for name in names["test"]])
    layout.expected = {"classes": ["color_09c81e", "color_c80028"], "background": True}
    return layout


def grey_levels(root: Path) -> Layout:
    """Masks of 0, 100 and 200, beside the pictures' folder."""
    layout, names = Layout(root), numbered("{:04x}8")
    for split, name, picture, label in scenes(names, 100, 140, classes=2):
        save(root / split / f"{name}.png", picture)
        if split == "train":
            save(root / "masks" / f"{name}_L.png", label * np.uint8(100))
            layout.truth[name] = label
    table(root / "sample_submission.csv", ["id", "answer"], [(name, "") for name in names["test"]])
    layout.expected = {"classes": ["value100", "value200"], "labels.suffix": "_L.png"}
    return layout


def hubmap2022(root: Path) -> Layout:
    """Run-lengths, organ and pixel size in one table."""
    layout, rows, names = Layout(root), [], numbered("{:04}1")
    for number, (split, name, picture, label) in enumerate(scenes(names, 130, 130)):
        save(root / f"{split}_images" / f"{name}.tiff", picture)
        if split == "train":
            rows.append((name, ("lung", "spleen")[number % 2], 0.4, rle.encode(label), 30 + number))
            layout.truth[name] = label
    table(root / "train.csv", ["id", "organ", "pixel_size", "rle", "age"], rows)
    table(root / "sample_submission.csv", ["id", "rle"], [(name, "") for name in names["test"]])
    layout.expected = {"labels.order": "column", "submission.preset": "hubmap2022", "metadata": "train.csv",
                       "folds.stratify_column": "organ", "folds.group_column": ""}  # fmt: skip
    return layout


def airbus(root: Path) -> Layout:
    """A row per object; images without object have an empty one."""
    layout, rows, names = Layout(root), [], numbered("{:04x}9")
    for split, name, picture, label in scenes(names, 120, 160):
        if split == "train":
            label[:] = 0 if name == "00049" else label
            count, parts = cv2.connectedComponents(label)
            rows += [(f"{name}.jpg", rle.encode(parts == i)) for i in range(1, count)] or [(f"{name}.jpg", "")]
            layout.truth[name] = label
        save(root / split / f"{name}.jpg", picture)
    table(root / "train_ship_segmentations.csv", ["ImageId", "EncodedPixels"], rows)
    sample = [(f"{name}.jpg", "0 1") for name in names["test"]]
    table(root / "sample_submission.csv", ["ImageId", "EncodedPixels"], sample)
    layout.expected = {"labels.id_template": "{id}.jpg", "submission.preset": "airbus", "metric": "airbus_f2"}
    return layout


def siim(root: Path) -> Layout:
    """Starts that count from the end of the run before, and -1 for none."""
    layout, rows, names = Layout(root), [], numbered("1.2.{}.7")
    for split, name, picture, label in scenes(names, 120, 140):
        if split == "train":
            label[:] = 0 if name == "1.2.4.7" else label
            numbers = np.array(rle.encode(label, base=0).split(), np.int64)
            numbers[2::2] -= numbers[:-2:2] + numbers[1:-1:2]
            rows.append((name, " ".join(map(str, numbers)) or "-1"))
            layout.truth[name] = label
        save(root / split / f"{name}.png", picture)
    table(root / "train-rle.csv", ["ImageId", " EncodedPixels"], rows)
    table(root / "sample_submission.csv", ["ImageId", "EncodedPixels"], [(name, "-1") for name in names["test"]])
    layout.expected = {"labels.relative": True, "labels.order": "column", "submission.preset": "siim"}
    return layout


def inria(root: Path) -> Layout:
    """TIFF masks of 0 and 255, several scenes of one town, and no sample."""
    layout = Layout(root)
    names = {
        "train": [f"{town}{i}" for town in ("austin", "vienna", "kitsap") for i in (1, 2)],
        "test": ["bonn1", "bonn2"],
    }
    for split, name, picture, label in scenes(names, 140, 160):
        save(root / split / "images" / f"{name}.tif", picture)
        if split == "train":
            save(root / "train/gt" / f"{name}.tif", label * np.uint8(255))
            layout.truth[name] = label
    layout.expected = {"labels.suffix": ".tif", "submission.codec": "tif", "submission.object_value": 255}
    return layout


ALL = [
    hubmap,
    severstal,
    carvana,
    tgs,
    square_rle,
    coco,
    class_masks,
    object_masks,
    indexed,
    coloured,
    grey_levels,
    hubmap2022,
    airbus,
    siim,
]
