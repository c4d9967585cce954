"""Recognises labels that are polygons: GeoJSON and its kin, for each image or for all of them, and WKT in a table."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from lib.competition.labels.template import Names
from lib.competition.polygons.areas import Area
from lib.competition.polygons.georeference import crs_of, georeference_of
from lib.competition.polygons.polygon_files import Feature, areas_of_text, read_features
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.imaging.readers.tiff import TIFF_SUFFIXES
from lib.propose.folder import Folder
from lib.propose.found import Notes, OptionChoice, abbreviated, choice_if, evenly_spaced
from lib.propose.labels.found import FoundLabels, file_choice, surplus
from lib.propose.labels.masks import place_of_answers
from lib.propose.names import Form, form_of_most

_WKT = re.compile(r"\s*(MULTI)?POLYGON\s*(Z\s*)?(\(|EMPTY)", re.IGNORECASE)
_CLASS_KEY = re.compile(r"class|label|categor|subtype|damage|kind|^type$|^name$|species|crop", re.IGNORECASE)
_ID_KEY = re.compile(r"image|file|chip|tile|scene|^id$", re.IGNORECASE)
_READ_FILES = 24  # so many files are read to find coordinates and classes
_DEGREES = "EPSG:4326"
_MOST_CLASSES = 64
_MOST_FILES = 50  # that may each hold the polygons of all images
_START = "competition.labels."


@dataclass(frozen=True)
class PolygonsByImage:
    """Polygons of a few images, by image id. `crs`: the system that the files name; empty for none."""

    features: dict[str, list[Feature]]
    crs: str
    path: str


def from_polygons(folder: Folder, asked: set[str], notes: Notes) -> FoundLabels | None:
    """Polygons in files of their own, in one file, or in a table; None where there are none.

    `asked`: ids of the test images, whose labels are not used.
    """
    for recognise in (_of_files, _of_one_file, _of_table):
        if found := recognise(folder, asked, notes):
            return found
    return None


def _of_files(folder: Folder, asked: set[str], notes: Notes) -> FoundLabels | None:
    """A file for each image. Of several such kinds, the one with the most images."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in _jsons(folder):
        kinds[PurePosixPath(name).suffix.lower()].append(name)
    fitting = []
    for names in kinds.values():
        readable = [name for name in evenly_spaced(names, _READ_FILES) if _features(folder.root / name)]
        if not readable:
            continue
        holding = [name for name in names if _features(folder.root / name)] if len(readable) < len(names) else names
        base, below = folder.split_base(holding)
        form, strangers = form_of_most(below, folder.known(), files=True)
        if form and form.alone and not form.classes and not form.ids & asked:
            fitting.append((len(form.ids), base, form, strangers, dict(zip(below, holding, strict=True))))
    if not fitting:
        return None
    _, base, form, strangers, files = max(fitting, key=lambda one: one[0])
    by_id = {image_id: files[text] for text in files if text not in strangers and (image_id := _id_in(text, form))}
    some = {image_id: by_id[image_id] for image_id in evenly_spaced(sorted(by_id), _READ_FILES)}
    read = {image_id: read_features(folder.root / name) for image_id, name in some.items()}
    crs = next((crs for _, crs in read.values() if crs), "")
    polygons = PolygonsByImage({image_id: features for image_id, (features, _) in read.items()}, crs, base)
    place = [OptionChoice(_START + "path", base or "."), file_choice(form), *surplus(strangers, notes)]
    return _labels(folder, polygons, place, form.ids, f"polygons {base}/{form.template}".replace("//", "/"), notes)


def _jsons(folder: Folder) -> list[str]:
    return [name for name in folder.texts if name.lower().endswith((".geojson", ".json"))]


def _id_in(text: str, form: Form) -> str:
    named = Names(form.template, form.classes, form.ids).read(text)
    return named[0] if named and named[0] in form.ids else ""


def _of_one_file(folder: Folder, asked: set[str], notes: Notes) -> FoundLabels | None:
    """One file for all images, whose property names the image."""
    for name in _jsons(folder)[:_MOST_FILES]:
        features = _features(folder.root / name)
        keys = sorted({key for feature in features for key in feature.properties}, key=lambda k: not _ID_KEY.search(k))
        for key in keys:
            cells = [str(feature.properties.get(key)) for feature in features]
            form, strangers = form_of_most(cells, folder.known()) if len(set(cells)) > 1 else (None, [])
            if form is None or form.classes or form.ids <= asked:
                continue
            own: dict[str, list[Feature]] = defaultdict(list)
            for cell, feature in zip(cells, features, strict=True):
                if image_id := _id_in(cell, form):
                    own[image_id].append(feature)
            crs = read_features(folder.root / name)[1]
            place = [
                OptionChoice(_START + "path", name),
                OptionChoice(_START + "id_column", key),
                *choice_if(form.template != "{id}", _START + "id_template", form.template),
                *surplus(strangers, notes),
            ]
            return _labels(folder, PolygonsByImage(own, crs, name), place, form.ids, f"polygons in {name}", notes)
    return None


def _of_table(folder: Folder, asked: set[str], notes: Notes) -> FoundLabels | None:
    """Texts such as POLYGON ((0 0, …)) in the column of a table. Of several columns, the one in pixels."""
    for name, table in folder.tables.items():
        texts = [c for c in table.columns if table[c].str.match(_WKT).any() and _all_wkt(table[c])]
        texts.sort(key=lambda column: "geo" in column.lower())
        if not texts or "submission" in name.lower():
            continue
        for column in (c for c in table.columns if c not in texts):
            form, strangers = form_of_most(list(table[column]), folder.known())
            if form is None or form.classes or form.ids <= asked:
                continue
            own: dict[str, list[Feature]] = defaultdict(list)
            for row in table[~table[column].isin(strangers)].to_dict("records"):
                image_id = _id_in(row[column], form)
                if image_id and (image_id in own or len(own) < _READ_FILES):
                    areas = areas_of_text(row[texts[0]], f"{name}, {image_id}", folder.root / name)
                    own[image_id].append(Feature(row, areas))
            place = [
                OptionChoice(_START + "path", name),
                OptionChoice(_START + "id_column", column),
                *choice_if(form.template != "{id}", _START + "id_template", form.template),
                OptionChoice(_START + "rle_column", texts[0]),
                *surplus(strangers, notes),
            ]
            kind = f"polygons in the column {texts[0]} of {name}"
            return _labels(folder, PolygonsByImage(own, "", name), place, form.ids, kind, notes)
    return None


def _all_wkt(cells) -> bool:
    return bool((cells.str.match(_WKT) | (cells.str.strip() == "")).all())


def _features(path: Path) -> list[Feature]:
    """The features of a file; [] where it holds none, or is a catalogue's entry on an image (STAC)."""
    try:
        features, _ = read_features(path)
    except UserError:
        return []
    catalogue = any({"datetime", "proj:epsg", "gsd"} & set(feature.properties) for feature in features[:3])
    return [] if catalogue else [feature for feature in features if feature.areas]


def _labels(
    folder: Folder, polygons: PolygonsByImage, place: list[OptionChoice], ids: set[str], kind: str, notes: Notes
) -> FoundLabels | None:
    crs = _coordinates(folder, polygons, notes)
    if crs is None:
        return None
    key, classes = _classes(polygons)
    choices = [
        OptionChoice(_START + "format", "polygons"),
        *place,
        *choice_if(key, _START + "class_column", key),
        *crs,
        *_fill(polygons, crs),
        *choice_if(len(classes) > 1, _START + "paint", "area", "where objects overlap, the smaller one lies on top"),
    ]
    suffix = ".tif" if PurePosixPath(folder.pictures[0]).suffix.lower() in TIFF_SUFFIXES else ".png"
    answer = {"codec": "files", "id_template": "{id}" + suffix, **place_of_answers(folder)}
    painted = len(classes) > 1
    return FoundLabels(kind, choices, ids, classes or ["object"], whole=True, painted=painted, answer=answer)


def _classes(polygons: PolygonsByImage) -> tuple[str, list[str]]:
    """(the property that names classes, the classes); empty where there is one class."""
    features = [one for own in polygons.features.values() for one in own if one.areas]
    keys = {key for one in features for key in _keys(one.properties)}
    for key in sorted(filter(_CLASS_KEY.search, keys)):
        values = [one.property(key) for one in features]
        names = sorted({str(value) for value in values if isinstance(value, str | int)})
        if 2 <= len(names) <= min(_MOST_CLASSES, len(features) // 2) and all(isinstance(v, str | int) for v in values):
            return key, names
    return "", []


def _keys(properties: dict, start: str = "") -> list[str]:
    """The names of properties; those of objects with a dot."""
    out = []
    for key, value in properties.items():
        out += _keys(value, f"{start}{key}.") if isinstance(value, dict) and not start else [f"{start}{key}"]
    return out


def _coordinates(folder: Folder, polygons: PolygonsByImage, notes: Notes) -> list[OptionChoice] | None:
    """The choice of `labels.crs`: how most polygons lie on their images. None where they do not, in any system."""
    shares: dict[str, float] = {}
    for system in [polygons.crs] * bool(polygons.crs) + ["pixels", "image", _DEGREES]:
        shares[system] = _share_lying(folder, polygons, system)
        if system == polygons.crs and shares[system] >= 0.5:  # the files say so, and are right
            break
    best = max(shares, key=shares.get)
    if shares[best] < 0.5:
        notes.unsure.append(
            f"which coordinates the polygons of {polygons.path} have: they lie on no image as pixels, in the map of "
            "the image, or in degrees (labels.crs)"
        )
        return None
    others = [system for system, share in shares.items() if system != best and share > 0.5]
    if others:
        notes.unsure.append(f"whether coordinates are those of {best}, which is taken, or of {abbreviated(others)}")
    said = f"of {best}" if best not in ("pixels", "image") else {"pixels": "pixels", "image": "the image's map"}[best]
    notes.found.append(f"coordinates of polygons: {said}; {shares[best]:.0%} of them lie on their image")
    usual = best == (polygons.crs or "pixels")
    return choice_if(not usual, _START + "crs", best, "so do polygons lie on their images")


def _share_lying(folder: Folder, polygons: PolygonsByImage, system: str) -> float:
    """The share of polygons that lie on their image in a coordinate system; 0.0 where there are none."""
    images = folder.images()
    lying = [_lying(folder.root / images[image_id], folder, own, system) for image_id, own in polygons.features.items()]
    shares = [share for share in lying if share is not None]
    return float(np.mean(shares)) if shares else 0.0


def _lying(path: Path, folder: Folder, features: list[Feature], system: str) -> float | None:
    """The share of polygons that lie on their image; None where there is nothing to compare."""
    areas = [area for feature in features for area in feature.areas]
    try:
        with open_image(path, folder.pixels) as reader:
            size = reader.height, reader.width
        if system != "pixels":
            place = georeference_of(path)
            if place is None:
                return 0.0
            crs = place.crs if system == "image" else crs_of(system, str(path), path)
            corners = np.concatenate([area[0] for area in areas])
            x, y = place.pixels(corners[:, 0], corners[:, 1], crs, path)
            parts = np.split(np.column_stack([x, y]), np.cumsum([len(area[0]) for area in areas])[:-1])
        else:
            parts = [area[0] for area in areas]
    except UserError:
        return 0.0
    return float(np.mean([_inside(part, size) for part in parts])) if parts else None


def _inside(corners: Area, size: tuple[int, int]) -> bool:
    """Whether a polygon is larger than a pixel, and its middle lies on an image of `size` (height, width)."""
    if not np.isfinite(corners).all():
        return False
    x, y = (corners.min(0) + corners.max(0)) / 2
    return 0 <= x <= size[1] and 0 <= y <= size[0] and bool((np.ptp(corners, axis=0) >= 1).any())


def _fill(polygons: PolygonsByImage, crs: list[OptionChoice]) -> list[OptionChoice]:
    """The choice of `labels.polygon_fill`: whole numbers in pixels are the middles of pixels."""
    areas = [area for own in polygons.features.values() for one in own for area in one.areas]
    whole = all((ring == np.round(ring)).all() for area in areas for ring in area)
    pixels = not crs and polygons.crs in ("", "pixels")
    return choice_if(whole and pixels and areas, _START + "polygon_fill", "fillpoly", "corners are whole pixels")
