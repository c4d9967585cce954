"""The first pass of stage 1: a thumbnail and the label of every image tell which tiles to cut."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib.competition.dataset import Competition, ImageInfo, check_class_pixels
from lib.competition.labels.sources import label_tables
from lib.competition.metadata import zoom_of, zoomed
from lib.config import Config, for_source
from lib.config.preprocess import Preprocess
from lib.data.preprocess.image_facts import Facts, facts_of
from lib.data.preprocess.pictures import Overlay, draw_survey
from lib.data.preprocess.tile_labels import hidden_pixels, object_areas, subsampled_label, vanished_objects
from lib.data.preprocess.tiling import LabeledImage, Tile, candidate_tiles, keep_tiles
from lib.digests import file_state
from lib.files import hash_of
from lib.imaging.content import Content, content_map
from lib.imaging.draw import as_picture
from lib.imaging.grid import map_step, whole_size
from lib.imaging.reader import ImageReader, open_image
from lib.imaging.readers.registry import file_and_slice
from lib.imaging.readers.tiled_copy import spooled
from lib.imaging.roi import Regions, regions
from lib.plugins import load_plugins
from lib.session import Session
from lib.system.parallel import parallel
from lib.tables import class_columns, foreground_pixels
from lib.workspace import stamp


@dataclass(frozen=True)
class Survey:
    """What is known of an image before it is cut.

    `row`: its row of images.csv. `tiles`: those to cut. `windowed`: whether windows of the image can be read alone.
    `object_areas`: as in lib/data/preprocess/tile_labels.py. `objects`, `vanished`: objects of a label that is resized
    whole, and those of them that lose all pixels. `on_blank`: object pixels in blank tiles, and in all tiles.
    `unused`: objects that cover no pixel, by file (lib/competition/labels/common.py:Label). `hidden`: as
    `hidden_pixels` returns them.
    """

    image: ImageInfo
    row: dict
    tiles: list[Tile]
    windowed: bool
    facts: Facts | None = None
    object_areas: dict[int, list[int]] = field(default_factory=dict)
    objects: int = 0
    vanished: int = 0
    on_blank: tuple[int, int] = (0, 0)
    unused: dict[Path, int] = field(default_factory=dict)
    hidden: np.ndarray | None = None


def survey_images(session: Session, images: list[ImageInfo]) -> list[Survey]:
    """Survey images in processes, and draw each into the report's folder.

    Raises UserError where a class has no pixel in any label, if all images are surveyed.
    """
    workspace, names = session.workspace, session.competition.label_names
    copies, pictures = workspace.root / "spool", workspace.report / "images"
    arguments = [(image, session.config, copies, pictures) for image in images]
    sizes = [stamp(file_and_slice(image.path)[0])[0] for image in images]
    surveys = parallel(survey_image, arguments, session.config.jobs, "01 survey", "image", work=sizes)
    if len(images) == len(session.competition.images):  # a few images may lack a class
        check_class_pixels(names, class_pixels(surveys, names))
    return surveys


def cached_competition(config: Config) -> Competition:
    """The competition, read once per process. It is read again when a table of labels has changed."""
    states = tuple(tuple(file_state(path)) for path in label_tables(config.competition))
    return _read_competition(config.model_dump_json(), states)


@lru_cache(maxsize=1)
def _read_competition(config_json: str, _states: tuple) -> Competition:
    config = Config.model_validate_json(config_json)
    load_plugins(config.plugins)  # a worker process has its own registries
    return Competition(config.competition)


def preprocess_of(config: Config, image: ImageInfo) -> Preprocess:
    """The options of `preprocess` for an image, whose pixels may be larger than those of others."""
    return zoomed(for_source(config, image.source), zoom_of(config, image.image_id)).preprocess


def survey_image(image: ImageInfo, config: Config, copies: Path, pictures: Path) -> Survey:
    """Survey one image at low resolution, with its label if it has one, and draw it in the folder `pictures`.

    `copies`: folder for tiled copies of images that can only be decoded whole.
    """
    competition, preprocess = cached_competition(config), preprocess_of(config, image)
    facts = facts_of(image, competition)  # before the image is replaced by a copy, which has other facts
    image = replace(image, path=spooled(image.path, config.competition.pixels, copies))
    with open_image(image.path, config.competition.pixels) as reader:
        content = content_map(reader, preprocess.blank_tolerance)
        row, picture = _image_row(image, reader, content, competition), pictures / f"{image.image_id}.jpg"
        # For test images too, so that a box outside of its image is reported before the training.
        where = regions(preprocess.roi, image.image_id, reader, preprocess.blank_tolerance, content)
        if image.split != "train":
            draw_survey(picture, as_picture(content.small, config.competition.pixels), (reader.height, reader.width))
            return Survey(image, row, [], reader.windowed, facts)
        label = competition.open_label(image, reader.height, reader.width)
        labeled = LabeledImage(image.image_id, image.source, reader, label, content, competition.label_names)
        return _survey_label(Survey(image, row, [], reader.windowed, facts), labeled, where, config, picture)


def _image_row(image: ImageInfo, reader: ImageReader, content: Content, competition: Competition) -> dict:
    """The row of images.csv, with zeros where the label will tell."""
    return {
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
        "content": hash_of(content.small.shape, content.small),
        "label": "",
        **dict.fromkeys(class_columns(competition.label_names), 0),
    }


def _survey_label(survey: Survey, image: LabeledImage, where: Regions, config: Config, picture: Path) -> Survey:
    """The survey of a training image, completed by what its label tells; draws it in the file `picture`."""
    preprocess, background = preprocess_of(config, survey.image), config.competition.background
    first = config.competition.first_class
    size, names = (image.reader.height, image.reader.width), image.label_names
    tiles = candidate_tiles(image, where, preprocess)
    rows = [tile.row for tile in tiles]
    kept = keep_tiles(rows, preprocess, background, zlib.crc32(image.image_id.encode()))
    label_map = subsampled_label(image.label, *size)
    counts = {key: sum(row[key] for row in rows) for key in class_columns(names)}
    survey.row.update(n_tiles=len(kept), n_dropped=len(rows) - len(kept), **counts)
    survey.row["label"] = hash_of(names, label_map.shape, label_map, rows)
    dropped = sorted(set(range(len(tiles))) - set(kept))
    boxes = ([tiles[i].box for i in positions] for positions in (kept, dropped))
    shown = as_picture(image.content.small, config.competition.pixels)
    draw_survey(picture, shown, size, Overlay(*boxes, label_map, first))
    objects_of = {tile.box: foreground_pixels(tile.row) for tile in tiles}
    objects, vanished = 0, 0
    if preprocess.mode == "resize" and background and where.boxes is None:
        resized = whole_size(*size, preprocess.tile_size, preprocess.fit)
        objects, vanished = vanished_objects(image.label, *size, resized)
    return replace(
        survey,
        tiles=[tiles[i] for i in kept],
        object_areas=object_areas(label_map, map_step(*size), first),
        objects=objects,
        vanished=vanished,
        on_blank=(
            sum(n for box, n in objects_of.items() if image.content.is_blank(*box)),
            sum(objects_of.values()),
        ),
        unused=image.label.unused,
        hidden=hidden_pixels(image.label, *size, first),
    )


def class_pixels(surveys: list[Survey], label_names: list[str]) -> dict[str, int]:
    """Pixels by label name, over all tiles, dropped ones included."""
    return {column[3:]: sum(survey.row[column] for survey in surveys) for column in class_columns(label_names)}


def share_on_blank(surveys: list[Survey]) -> float:
    """Share of the object pixels of all tiles that lie in blank tiles."""
    blank, everywhere = (sum(survey.on_blank[i] for survey in surveys) for i in (0, 1))
    return blank / max(1, everywhere)
