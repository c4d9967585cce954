"""01's work: look at every image, keep tiles, cut them; first over images, then over bands of their rows."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.competition.dataset import Competition, ImageInfo
from lib.competition.labels.sources import label_tables
from lib.config import Config, for_source
from lib.data.image_facts import Facts, facts_of
from lib.data.pictures import draw_survey, object_sizes, small_label
from lib.data.tiling import (
    Spot,
    cut,
    foreground_pixels,
    keep_tiles,
    nearest_label,
    survey,
    vanished_objects,
    write_tile,
)
from lib.digests import file_state
from lib.files import hash_of
from lib.imaging.content import content_map
from lib.imaging.grid import map_step, whole_size
from lib.imaging.reader import open_image
from lib.imaging.readers.tiled_copy import spooled
from lib.imaging.roi import regions
from lib.plugins import load_plugins
from lib.tables import IGNORE, class_columns

BAND_TILES = 32  # tiles of one band, at least
LOOKS, LOOK = 5, 512  # labels looked at for each image picked, and their side


@dataclass(frozen=True)
class Survey:
    """What is known of an image before it is cut.

    `row`: of images.csv; `spots`: the tiles to keep; `sizes`: as lib/data/pictures.py:object_sizes; `on_blank`: object
    pixels in tiles that count as blank, and in all; `unused`: as in lib/competition/labels/common.py:Label.
    """

    image: ImageInfo
    row: dict
    spots: list[Spot]
    windowed: bool
    sizes: dict[int, list[int]] = field(default_factory=dict)
    objects: int = 0
    vanished: int = 0
    facts: Facts | None = None
    on_blank: tuple[int, int] = (0, 0)
    unused: dict[Path, int] = field(default_factory=dict)

    def bands(self) -> list[list[Spot]]:
        """The spots in bands of whole rows, so that processes can share an image that is read by window."""
        if not self.windowed:
            return [self.spots] if self.spots else []
        bands: list[list[Spot]] = []
        for spot in self.spots:
            full = bands and len(bands[-1]) >= BAND_TILES and bands[-1][-1].row["y"] != spot.row["y"]
            if not bands or full:
                bands.append([])
            bands[-1].append(spot)
        return bands


def pick_images(competition: Competition, limit: int) -> list[ImageInfo]:
    """All images, or `limit` of each split and source, evenly spread over the sorted list.

    Labeled ones without object give way to others, as far as `LOOKS` times as many looks find some.
    """
    if not limit:
        return list(competition.images)
    chosen = []
    for split, source in dict.fromkeys((image.split, image.source) for image in competition.images):
        images = [image for image in competition.images if (image.split, image.source) == (split, source)]
        picked = _spread(images, limit)
        if split == "train":
            full = [image for image in picked if has_object(competition, image)]
            for image in _spread(images, LOOKS * limit):
                if len(full) < len(picked) and image not in picked and has_object(competition, image):
                    full.append(image)
            picked = sorted([*full, *(image for image in picked if image not in full)][:limit], key=images.index)
        chosen += picked
    return chosen


def _spread(images: list[ImageInfo], limit: int) -> list[ImageInfo]:
    places = np.unique(np.linspace(0, len(images) - 1, min(limit, len(images))).round().astype(int))
    return [images[i] for i in places]


def has_object(competition: Competition, image: ImageInfo) -> bool:
    """Whether the label of a training image, seen at `LOOK` pixels a side at most, is more than background."""
    with open_image(image.path, competition.settings.pixels) as reader:
        height, width = reader.height, reader.width
    label = competition.open_label(image, height, width)
    seen = nearest_label(label, (0, 0, height, width), (min(height, LOOK), min(width, LOOK)))
    return bool(((seen >= int(competition.settings.background)) & (seen != IGNORE)).any())


def _competition(config: Config) -> Competition:
    """A process reads labels and metadata once, not once per image, and again where a table of them has changed."""
    states = tuple(tuple(file_state(path)) for path in label_tables(config.competition))
    return _read_competition(config.model_dump_json(), states)


@lru_cache(maxsize=1)
def _read_competition(config_json: str, _states: tuple) -> Competition:
    config = Config.model_validate_json(config_json)
    load_plugins(config.plugins)  # a worker process has its own registries
    return Competition(config.competition)


def survey_image(image: ImageInfo, config: Config, spool: Path, pictures: Path) -> Survey:
    """Look at one image at low resolution, and at its label; draw it in `pictures`.

    `spool`: for images that must be decoded whole.
    """
    competition, preprocess = _competition(config), for_source(config, image.source).preprocess
    facts = facts_of(image, competition)  # of a spooled copy others are true
    image = replace(image, path=spooled(image.path, config.competition.pixels, spool))
    with open_image(image.path, config.competition.pixels) as reader:
        content = content_map(reader, preprocess.blank_tolerance)
        row = {
            "image_id": image.image_id,
            "split": image.split,
            "source": image.source,
            "path": str(image.path),
            "height": reader.height,
            "width": reader.width,
            "channels": reader.channels,
            "blank_share": round(content.share, 4),
            "n_tiles": 0,
            "n_dropped": 0,
            "content": hash_of(content.picture.shape, content.picture),
            "label": "",
            **dict.fromkeys(class_columns(competition.label_names), 0),
        }
        path, size = pictures / f"{image.image_id}.jpg", (reader.height, reader.width)
        # Of test images too: a box outside of its image is told here, not by 05.
        where = regions(preprocess.roi, image.image_id, reader, preprocess.blank_tolerance, content)
        if image.split != "train":
            draw_survey(path, content.picture, size)
            return Survey(image, row, [], reader.windowed, facts=facts)
        label = competition.open_label(image, reader.height, reader.width)
        spots = survey(image.image_id, image.source, reader, label, where, content, competition.label_names, preprocess)
        rows = [spot.row for spot in spots]
        objects_in = {spot.box: foreground_pixels(spot.row) for spot in spots}
        on_blank = sum(n for box, n in objects_in.items() if content.is_blank(*box)), sum(objects_in.values())
        kept = keep_tiles(rows, preprocess, config.competition.background, zlib.crc32(image.image_id.encode()))
        row |= {"n_tiles": len(kept), "n_dropped": len(rows) - len(kept)}
        row |= {key: sum(r[key] for r in rows) for key in class_columns(competition.label_names)}
        small, first = small_label(label, *size), int(config.competition.background)
        row["label"] = hash_of(competition.label_names, small.shape, small, rows)
        boxes = [spot.box for spot in spots]
        chosen, dropped = [boxes[i] for i in kept], [boxes[i] for i in sorted(set(range(len(boxes))) - set(kept))]
        draw_survey(path, content.picture, size, chosen, dropped, small, first)
        sizes = object_sizes(small, map_step(*size), bool(first))
        objects = (0, 0)
        if preprocess.mode == "resize" and config.competition.background and where.boxes is None:
            size = whole_size(reader.height, reader.width, preprocess.tile_size, preprocess.fit)
            objects = vanished_objects(label, reader.height, reader.width, size)
        spots = [spots[i] for i in kept]
        return Survey(image, row, spots, reader.windowed, sizes, *objects, facts, on_blank, label.unused)


def cut_band(image: ImageInfo, spots: list[Spot], config: Config, folder: Path) -> tuple[list[dict], np.ndarray]:
    """Cut and store one band: (rows of tiles.csv, colour sums (2, 4): of values and squares, last the pixel count)."""
    competition, preprocess = _competition(config), config.preprocess
    rows, sums = [], np.zeros((2, 4))
    kinds = len(competition.label_names), competition.channels == 1
    with open_image(image.path, config.competition.pixels) as reader:
        label = competition.open_label(image, reader.height, reader.width)
        for spot in spots:
            pixels, mask = cut(spot, reader, label, *kinds, preprocess.tile_size)
            rows.append(write_tile(spot.row, pixels, mask, folder, preprocess.image_format))
            n = pixels.shape[0] * pixels.shape[1]
            mean, std = (values.ravel() for values in cv2.meanStdDev(pixels))
            sums += [[*(n * mean), n], [*(n * (mean**2 + std**2)), 0]]
    return rows, sums


def class_pixels(surveys: list[Survey], label_names: list[str]) -> dict[str, int]:
    """Pixels by label name, over all tiles, dropped ones included."""
    return {column[3:]: sum(survey.row[column] for survey in surveys) for column in class_columns(label_names)}


def share_on_blank(surveys: list[Survey]) -> float:
    """Share of the object pixels of all tiles that lie in tiles which count as blank."""
    blank, everywhere = (sum(survey.on_blank[i] for survey in surveys) for i in (0, 1))
    return blank / max(1, everywhere)


def describe(surveys: list[Survey], tiles: pd.DataFrame, sums: np.ndarray, label_names: list[str]) -> dict:
    """The fingerprint: sizes, colours, classes, objects on blank ground."""
    images = pd.DataFrame([survey.row for survey in surveys])
    (*total, n), (*squares, _) = sums
    mean = np.array(total) / max(1, n)
    pixels = class_pixels(surveys, label_names)
    return {
        "images": {split: int((images["split"] == split).sum()) for split in ("train", "test", "unlabeled")},
        "height": [int(images["height"].min()), int(images["height"].max())],
        "width": [int(images["width"].min()), int(images["width"].max())],
        "mean": mean.round(3).tolist(),
        "std": np.sqrt(np.maximum(0, np.array(squares) / max(1, n) - mean**2)).round(3).tolist(),
        "tiles": len(tiles),
        "tiles_with_object": int(sum(foreground_pixels(r) > 0 for r in tiles.to_dict("records"))),
        "pixels": pixels,
        "objects_on_blank": round(share_on_blank(surveys), 4),
        "share": {name: round(count / max(1, sum(pixels.values())), 6) for name, count in pixels.items()},
    }
