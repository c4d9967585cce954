"""More raw folders in miniature, whose names, files and tables are laid out in the less usual ways."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from layouts import Layout, numbered, save, scene, scenes, table

from lib.competition import rle


def slices(root: Path) -> Layout:
    """Grey slices of 16 bits by patient and day, of which the folders name a part; classes overlap; NaN for none."""
    layout, rows, sample, number = Layout(root), [], [], 0
    for case, split in ((2, "train"), (7, "train"), (11, "train"), (30, "test")):
        for day in (0, 14):
            where = f"case{case}_day{day}"
            for i in (1, 2):
                picture, label = scene(number, 90 + case, 120, classes=2)
                deep = picture[..., 0].astype(np.uint16) * 60
                save(root / f"{split}/case{case}/{where}/scans/slice_{i:04}_120_{90 + case}_1.50_1.50.png", deep)
                name, number = f"{where}_slice_{i:04}", number + 1
                for index, word in ((1, "bowel"), (2, "stomach")):
                    if split == "test":
                        sample.append((name, word, ""))
                    else:
                        mask = label == index if index == 2 else label > 0  # the stomach lies within the bowel
                        rows.append((name, word, rle.encode(mask, "row") if i == 1 else ""))
                if split == "train":
                    layout.truth[name] = np.stack([label > 0, label == 2]) * (i == 1)
    table(root / "train.csv", ["id", "class", "segmentation"], rows)
    table(root / "sample_submission.csv", ["id", "class", "predicted"], sample)
    layout.expected = {"image_ids": "{id}/scans/{id}_*_*_*_*", "labels.order": "row", "classes": ["bowel", "stomach"],
                       "submission.preset": "uw_madison", "multilabel": True}  # fmt: skip
    return layout


def volumes(root: Path) -> Layout:
    """TIFF slices of 16 bits, numbered anew in the folder of each kidney; labels beside the images' folder."""
    layout, sample, number = Layout(root), [], 0
    for kidney, split in (("kidney_1", "train"), ("kidney_2", "train"), ("kidney_3", "train"), ("kidney_5", "test")):
        for i in range(2):
            picture, label = scene(number, 100 + number, 130)
            number += 1
            save(root / split / kidney / "images" / f"{i:04}.tif", picture[..., 0].astype(np.uint16) * 200)
            if split == "train":
                save(root / split / kidney / "labels" / f"{i:04}.tif", label * np.uint8(255))
                layout.truth[f"{kidney}_{i:04}"] = label
            else:
                sample.append((f"{kidney}_{i:04}", "1 0"))
    table(root / "sample_submission.csv", ["id", "rle"], sample)
    layout.expected = {"image_ids": "{id}/images/{id}", "labels.files": "{id}/labels/{id}.tif",
                       "submission.preset": "sennet"}  # fmt: skip
    return layout


def street(root: Path) -> Layout:
    """Suffixes of images and masks, folders of cities, three kinds of masks per image, class names in a JSON."""
    layout, sample, number = Layout(root), [], 0
    for city, split in (("aachen", "train"), ("bremen", "train"), ("bonn", "test")):
        for i in range(3):
            picture, label = scene(number, 96, 140 + number, classes=2)
            name, number = f"{city}_{number:06}_{i:06}", number + 1
            save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", picture)
            if split == "train":
                place = root / "gtFine" / split / city
                save(place / f"{name}_gtFine_labelIds.png", np.array([0, 7, 26], np.uint8)[label])
                save(place / f"{name}_gtFine_instanceIds.png", np.array([0, 7, 26001], np.uint16)[label])
                save(
                    place / f"{name}_gtFine_color.png",
                    np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142)], np.uint8)[label],
                )
                layout.truth[name] = label
            else:
                sample += [(name, word, "") for word in ("road", "car")]
    (root / "classes.json").write_text(json.dumps({"0": "unlabeled", "7": "road", "26": "car"}))
    table(root / "sample_submission.csv", ["id", "class", "predicted"], sample)
    layout.expected = {"image_ids": "{id}_leftImg8bit", "classes": ["road", "car"],
                       "labels.files": "*/{id}_gtFine_labelIds.png"}  # fmt: skip
    return layout


def arrays(root: Path) -> Layout:
    """A folder per record, which alone names it, with an array of eight floats a pixel and a mask as an array."""
    layout, names = Layout(root), numbered("10{:04}7")
    for split, name, picture, label in scenes(names, 100, 100):
        place = root / split / name
        place.mkdir(parents=True)
        times = np.repeat(picture[..., :1], 8, axis=-1).astype(np.float32) / 4 + 220  # kelvin
        np.save(place / "band_11.npy", times)
        if split == "train":
            np.save(place / "human_pixel_masks.npy", label[..., None].astype(np.int32))
            layout.truth[name] = label
    table(root / "sample_submission.csv", ["record_id", "encoded_pixels"], [(n, "-") for n in names["test"]])
    layout.expected = {"image_ids": "{id}/band_11", "labels.files": "{id}/human_pixel_masks.npy",
                       "submission.preset": "contrails"}  # fmt: skip
    return layout


def lost_zeros(root: Path) -> Layout:
    """Files 0001.png, ids that a spreadsheet made 1 of; semicolons and a byte order mark; patients by file name."""
    layout, rows, meta = Layout(root), [], []
    names = numbered("{:04}")
    for split, name, picture, label in scenes(names, 100, 140):
        save(root / split / f"{name}.png", picture)
        meta.append((f"{name}.png", f"P{int(name) // 2}"))
        if split == "train":
            rows.append((int(name), rle.encode(label)))
            layout.truth[name] = label
    for file, columns, cells in (
        ("train.csv", ["id", "rle"], rows),
        ("patients.csv", ["filename", "patient"], meta),
        ("sample_submission.csv", ["id", "rle"], [(int(n), "") for n in names["test"]]),
    ):
        lines = [";".join(map(str, line)) for line in (columns, *cells)]
        (root / file).write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    layout.expected = {"labels.id_template": "{number}", "submission.id_template": "{number}",
                       "metadata": "patients.csv", "metadata_template": "{id}.png",
                       "folds.group_column": "patient"}  # fmt: skip
    return layout


def prefixes(root: Path) -> Layout:
    """img_0001.JPG and mask_0001.jpg, whose edges JPEG has made grey; a sample in a ZIP."""
    layout, names = Layout(root), numbered("{:04}")
    for split, name, picture, label in scenes(names, 100, 140):
        save(root / split / f"img_{name}.JPG", picture)
        if split == "train":
            save(root / "masks" / f"mask_{name}.jpg", label * np.uint8(255))
            layout.truth[name] = label
    sample = [(f"img_{n}.JPG", "") for n in names["test"]]
    table(root / "sample_submission.csv.zip", ["image", "rle"], sample)
    layout.expected = {"image_ids": "img_{id}", "labels.files": "mask_{id}.jpg", "labels.threshold": 127,
                       "submission.id_template": "img_{id}.JPG"}  # fmt: skip
    return layout


def voc(root: Path) -> Layout:
    """Palette masks of some of the images, border 255, objects in masks beside; lists of names; no sample."""
    from PIL import Image

    layout, names = Layout(root), numbered("2007_{:06}")
    colours = np.zeros((256, 3), np.uint8)
    colours[[1, 2, 3, 255]] = (128, 0, 0), (0, 128, 0), (128, 128, 0), (224, 224, 192)
    for split, name, picture, label in scenes(names, 100, 140, classes=2):
        save(root / "JPEGImages" / f"{name}.jpg", picture)
        if split == "train":
            label[:3] = 255
            kinds = {"SegmentationClass": label, "SegmentationObject": np.where(label == 2, 3, label).astype(np.uint8)}
            for kind, values in kinds.items():
                image = Image.fromarray(values, "P")
                image.putpalette(colours.tobytes())
                (root / kind).mkdir(exist_ok=True)
                image.save(root / kind / f"{name}.png")
            layout.truth[name] = label
    for i in range(2):
        save(root / "JPEGImages" / f"2009_{i:06}.jpg", scene(50 + i, 100, 140)[0])
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for split, own in names.items():
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(own) + "\n")
    layout.expected = {"labels.path": "SegmentationClass", "labels.missing": "unlabeled", "labels.other": "ignore",
                       "submission.sample": ""}  # fmt: skip
    return layout


def labelme(root: Path) -> Layout:
    """A JSON of polygons beside each training image."""
    layout, names = Layout(root), numbered("shot {:02}.v1")
    for split, name, picture, label in scenes(names, 100, 140, classes=2):
        save(root / split / f"{name}.jpg", picture)
        if split == "train":
            shapes, layout.truth[name] = [], np.zeros_like(label)
            for index, word in ((1, "cell"), (2, "nucleus")):
                mask = (label == index).astype(np.uint8)
                for ring in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
                    if len(ring) > 2:
                        shapes.append({"label": word, "points": ring[:, 0].tolist(), "shape_type": "polygon"})
                        cv2.fillPoly(layout.truth[name], [ring], index)
            content = {"version": "5.0.1", "shapes": shapes, "imagePath": f"{name}.jpg", "imageData": None,
                       "imageHeight": label.shape[0], "imageWidth": label.shape[1]}  # fmt: skip
            (root / split / f"{name}.json").write_text(json.dumps(content))
    sample = [(f"{n}.jpg", word, "") for n in names["test"] for word in ("cell", "nucleus")]
    table(root / "sample_submission.csv", ["image", "class", "rle"], sample)
    layout.expected = {"labels.format": "labelme", "classes": ["cell", "nucleus"]}
    return layout


def rgba(root: Path) -> Layout:
    """Masks in colours with an alpha channel, whose colours a JSON names; pictures in grey with alpha."""
    layout, names = Layout(root), numbered("{:02}-q")
    colours = np.array([(0, 0, 0, 255), (255, 0, 0, 255), (0, 0, 255, 255)], np.uint8)
    for split, name, picture, label in scenes(names, 100, 140, classes=2):
        grey = np.dstack([picture[..., 0], np.full(label.shape, 255, np.uint8)])
        save(root / "images" / split / f"{name}.png", grey)
        if split == "train":
            save(root / "masks" / f"{name}.png", colours[label])
            layout.truth[name] = label
    classes = [
        {"id": i, "name": n, "color": colours[i, :3].tolist()} for i, n in enumerate(("background", "weed", "crop"))
    ]
    (root / "classes.json").write_text(json.dumps({"classes": classes}))
    sample = [(n, word, "") for n in names["test"] for word in ("weed", "crop")]
    table(root / "sample_submission.csv", ["id", "class", "predicted"], sample)
    layout.expected = {"classes": ["weed", "crop"]}
    return layout


def soft_edges(root: Path) -> Layout:
    """PNG masks whose edges are grey; a sample under gzip; -1 for none."""
    layout, names = Layout(root), numbered("s{:02}")
    for split, name, picture, label in scenes(names, 100, 140):
        save(root / split / "images" / f"{name}.bmp", picture)
        if split == "train":
            soft = cv2.GaussianBlur(label * np.float32(255), (5, 5), 0)
            save(root / split / "masks" / f"{name}.png", np.round(soft).astype(np.uint8))
            layout.truth[name] = (np.round(soft) > 127).astype(np.uint8)
    table(root / "sample_submission.csv.gz", ["id", "predicted"], [(n, "-1") for n in names["test"]])
    layout.expected = {"labels.threshold": 127, "submission.empty": "-1"}
    return layout


def beside(root: Path) -> Layout:
    """Pictures and a mask per class in one folder, dots and spaces in their names; the sample parts them."""
    layout, names = Layout(root), numbered("scan 1.{}")
    for split, name, picture, label in scenes(names, 100, 140, classes=2):
        save(root / "data" / f"{name}.png", picture)
        if split == "train":
            for index, word in ((1, "heart"), (2, "left_lung")):
                save(root / "data" / f"{name}_mask_{word}.png", (label == index) * np.uint8(255))
            layout.truth[name] = label
    sample = [(f"{n}.png", word, "") for n in names["test"] for word in ("heart", "left_lung")]
    table(root / "sample_submission.csv", ["image", "organ", "rle"], sample)
    layout.expected = {"labels.files": "{id}_mask_{class}.png"}
    return layout


def bands(root: Path) -> Layout:
    """A folder per chip with a TIFF of 16 bits for each band; TIFFs are handed in."""
    layout, names = Layout(root), numbered("c{:03}")
    for split, name, picture, label in scenes(names, 120, 120):
        for i, band in enumerate(("B02", "B03", "B04", "B08")):
            save(root / f"{split}_features" / name / f"{band}.tif", picture[..., i % 3].astype(np.uint16) * 40)
        if split == "train":
            save(root / "train_labels" / f"{name}.tif", label)
            layout.truth[name] = label
    layout.expected = {"pixels.colours": ("B04", "B03", "B02"), "submission.codec": "tif"}
    return layout


def no_sample(root: Path) -> Layout:
    """Run-lengths, and nothing that shows what to hand in."""
    layout, rows, names = Layout(root), [], numbered("n{:02}")
    for split, name, picture, label in scenes(names, 100, 140):
        save(root / split / f"{name}.png", picture)
        if split == "train":
            rows.append((f"{name}.png", rle.encode(label)))
            layout.truth[name] = label
    table(root / "train.csv", ["filename", "rle"], rows)
    layout.expected = {"submission.sample": "", "submission.id_template": "{id}.png"}
    return layout


BONES = ("finger-1", "Hamate", "Ulna")


def hands(root: Path, bones: tuple[str, ...] = BONES) -> Layout:
    """A JSON of polygons per image in the folder of a person, who has two hands; bones overlap."""
    layout, sample, number = Layout(root), [], 0
    for person in range(1, 7):
        split = "train" if person < 6 else "test"
        for side in "RL":
            name = f"image{1661319000000 + 7 * number}_{side}"
            rng, number = np.random.default_rng(number), number + 1
            planes = np.zeros((len(bones), 120, 100), np.uint8)
            for place, plane in enumerate(planes):
                centre = 15 + 70 * place // len(bones) + int(rng.integers(0, 4)), int(rng.integers(40, 80))
                cv2.ellipse(plane, centre, (18, 30), 0, 0, 360, 1, -1)
            assert (planes.sum(0) > 1).any(), "the fixture is degenerate"
            grey = (rng.integers(40, 80, planes.shape[1:]) + planes.sum(0) * 120 // len(bones)).astype(np.uint8)
            save(root / split / f"DCM/ID{person:03}/{name}.png", np.dstack([grey] * 3))
            if split == "test":
                sample += [(f"{name}.png", bone, "") for bone in bones]
                continue
            shapes = [
                {"label": bone, "points": cv2.findContours(plane, cv2.RETR_EXTERNAL, 1)[0][0][:, 0].tolist()}
                for bone, plane in zip(bones, planes, strict=True)
            ]
            path = root / split / f"outputs_json/ID{person:03}/{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"annotations": shapes, "metadata": {"height": 120, "width": 100}}))
            layout.truth[name] = planes[np.argsort(bones, kind="stable")]  # as `init` sorts the classes
    table(root / "sample_submission.csv", ["image_name", "class", "rle"], sample)
    layout.expected = {"labels.format": "labelme", "submission.preset": "boostcamp_handbone", "multilabel": True,
                       "folds.group_regex": "([^/]+)/[^/]+$"}  # fmt: skip
    return layout


ALL = [slices, volumes, street, arrays, lost_zeros, prefixes, voc, labelme, rgba, soft_edges, beside, bands, no_sample,
       hands]  # fmt: skip
