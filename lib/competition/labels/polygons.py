"""Labels as polygons in files like GeoJSON, or as texts (WKT) in a table: in pixels, or in coordinates of a map."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from lib.competition.labels.coco import PaintedObject, label_of_things
from lib.competition.labels.common import Label, index_of
from lib.competition.labels.json_file import FARTHEST
from lib.competition.labels.mask_images import label_files
from lib.competition.labels.template import Names, ids_by_path, image_id_of
from lib.competition.polygons.areas import Area, thing_of_areas
from lib.competition.polygons.georeference import Georeference, crs_of, georeference_of
from lib.competition.polygons.polygon_files import Feature, areas_of_text, read_features
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.plugins import register
from lib.tables import IGNORE
from lib.user_tables import read_csv

JSON_SUFFIXES = (".geojson", ".json")
_START = "competition.labels."


@register("labels", "polygons")
class Polygons:
    """A file for each image, found as masks are; one file for all of them; or a table with a row for each object.

    In one file for all, `labels.id_column` names the property with the image's id. Where that is empty, every image
    takes what lies on it. Later objects lie on top, in the order of `labels.paint`.
    """

    def __init__(self, config: CompetitionSettings, known_ids: set[str]):
        self.config, self.known = config, known_ids
        self.path = Path(config.root) / config.labels.path
        if len(config.classes) > 1 and not config.labels.class_column:
            raise UserError(
                f"{_START}class_column is empty, but competition.classes has {len(config.classes)}: name the property, "
                "or the column, that holds the class of a polygon, as in class_column: classification.name"
            )
        self.files = self._files() if self.path.is_dir() else {}
        self.crs, self._own = "", {}
        if not self.path.is_dir():
            self._own, self.crs = self._of_one_file()
        self.image_ids = (set(self.files) | set(self._own)) & known_ids
        if not self.path.is_dir() and not config.labels.id_column:
            self.image_ids = set(known_ids)
        strangers = sorted((set(self.files) | set(self._own)) - known_ids - {""})
        if strangers and config.labels.surplus == "error":
            raise UserError(
                f"{self.files.get(strangers[0], self.path)} has polygons of {strangers[0]!r}, but "
                f"competition.train_images ({config.train_images}) has no such image; add the image, remove the "
                f"polygons, or set {_START}surplus to skip"
            )

    def open(self, image_id: str, height: int, width: int) -> Label:
        """Raises UserError where polygons cannot be read, or where none of them lies near the image."""
        path, crs = self.files.get(image_id, self.path), self.crs
        if image_id in self.files:
            features, crs = read_features(path)
        else:
            features = self._own.get(image_id if self.config.labels.id_column else "", [])
        wanted = [(index, one) for one in features if (index := self._index(path, one)) is not None]
        areas = self._in_pixels(image_id, [one.areas for _, one in wanted], crs, path)
        shared, drawn = not self.path.is_dir() and not self.config.labels.id_column, any(o.areas for _, o in wanted)
        near = any(_touches(area, (height, width)) for own in areas for area in own)
        if drawn and not near and not shared:
            raise UserError(
                f"{path}: none of the {len(areas)} polygons of {image_id} lies on the image of {height} x {width} "
                f"pixels; say in {_START}crs which coordinates they have: EPSG:4326 for degrees, image for the map of "
                "the image"
            )
        things = [
            self._thing(path, index, area, (height, width))
            for (index, _), area in sorted(zip(wanted, areas, strict=True), key=self._rank)
        ]
        if shared:
            things = [one for one in things if one]
        return label_of_things(path, things, (height, width), self.config)

    def _files(self) -> dict[str, Path]:
        return {image_id: files[0][1] for image_id, files in label_files(self.config, self.known).items()}

    def _of_one_file(self) -> tuple[dict[str, list[Feature]], str]:
        """(image id → its polygons, the coordinate system that the file names)."""
        labels, found = self.config.labels, {}
        if self.path.suffix.lower() in JSON_SUFFIXES:
            features, crs = read_features(self.path)
        else:
            features, crs = self._of_table(), ""
        if not labels.id_column:
            return {"": features}, crs
        by_path = ids_by_path(self.config.train_images, self.config.image_ids)
        names = Names(labels.id_template, [], self.known, by_path)
        for feature in features:
            cell = feature.property(labels.id_column)
            read = names.read(str(cell)) if cell is not None else None
            if read is None:
                raise UserError(
                    f"{self.path}: a polygon has {cell!r} as {labels.id_column!r}, which is not like "
                    f"{_START}id_template, {labels.id_template}; correct id_column or id_template"
                )
            found.setdefault(read[0], []).append(feature)
        return found, crs

    def _of_table(self) -> list[Feature]:
        labels = self.config.labels
        table = read_csv(self.path, [labels.id_column, labels.rle_column, labels.class_column])
        rows = enumerate(table.to_dict("records"), start=2)
        column = labels.rle_column
        return [
            Feature(row, areas_of_text(row[column], f"{self.path}, row {line}, column {column}", self.path))
            for line, row in rows
        ]

    def _index(self, path: Path, feature: Feature) -> int | None:
        """The label index of a polygon; None for what is not painted."""
        labels = self.config.labels
        if not labels.class_column:
            return int(self.config.background)
        name = feature.property(labels.class_column)
        index = None if name is None else index_of(str(name), self.config)
        if index is None and labels.other == "error" and feature.areas:
            raise UserError(
                f"{path}: a polygon has {name!r} as {labels.class_column!r}, which is not one of competition.classes; "
                f"add it, or set {_START}other to ignore or background"
            )
        return IGNORE if index is None and labels.other == "ignore" else index

    def _in_pixels(self, image_id: str, areas: list[list[Area]], crs: str, path: Path) -> list[list[Area]]:
        """Polygons in pixels of the image. Those that are too far away are left out."""
        named = self.config.labels.crs or crs
        if named in ("", "pixels"):
            moved = areas
        else:
            place = self._place(image_id, named, path)
            system = place.crs if named == "image" else crs_of(named, self._said(named, path), path)
            moved = _projected(areas, place, system, path)
        return [[one for one in own if all((np.abs(ring) <= FARTHEST).all() for ring in one)] for own in moved]

    def _place(self, image_id: str, named: str, path: Path) -> Georeference:
        image = self._images[image_id]
        place = georeference_of(image)
        if place is None:
            raise UserError(
                f"{image} does not say where on Earth it lies, but its polygons in {path} have the coordinates of "
                f"{named}; set {_START}crs to pixels where they are pixels, or replace the image"
            )
        return place

    def _said(self, named: str, path: Path) -> str:
        return f"{_START}crs" if self.config.labels.crs == named else str(path)

    @cached_property
    def _images(self) -> dict[str, Path]:
        """The file of each training image, by id."""
        from lib.competition.image_files import image_files  # which needs this package's templates

        root, pattern = Path(self.config.root), self.config.train_images
        files = image_files(root, pattern, "competition.train_images")
        return {image_id_of(file, self.config.image_ids): file for file in files}

    def _thing(self, path: Path, index: int, areas: list[Area], size: tuple[int, int]) -> PaintedObject | None:
        try:
            return thing_of_areas(index, areas, size, self.config.labels.polygon_fill)
        except ValueError as error:
            raise UserError(f"{path} holds a polygon that cannot be painted ({error})") from None

    def _rank(self, one: tuple[tuple[int, Feature], list[Area]]) -> float:
        """Large objects first where `labels.paint` is `area`."""
        return -sum(_size_of(area) for area in one[1]) if self.config.labels.paint == "area" else 0.0


def _projected(areas: list[list[Area]], place: Georeference, system: object, path: Path) -> list[list[Area]]:
    """All polygons in pixels: their corners are projected together."""
    rings = [ring for own in areas for area in own for ring in area]
    if not rings:
        return areas
    corners = np.concatenate(rings)
    columns, rows = place.pixels(corners[:, 0], corners[:, 1], system, path)
    parts = iter(np.split(np.column_stack([columns, rows]), np.cumsum([len(ring) for ring in rings])[:-1]))
    return [[[next(parts) for _ in area] for area in own] for own in areas]


def _touches(area: Area, size: tuple[int, int]) -> bool:
    """Whether the box of a polygon touches an image of `size` (height, width)."""
    low, high = area[0].min(0), area[0].max(0)
    return bool((high >= 0).all() and low[0] <= size[1] and low[1] <= size[0])


def _size_of(area: Area) -> float:
    """The pixels in the outline of a polygon."""
    x, y = area[0].T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2
