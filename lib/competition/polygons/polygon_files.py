"""Reads polygons from GeoJSON (https://www.rfc-editor.org/rfc/rfc7946), from JSONs like it, and from texts (WKT)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.competition.polygons.areas import Area
from lib.errors import UserError, reading
from lib.imaging.readers.base import optional

KIND = "GeoJSON, or another JSON of polygons"
DEEPEST = 8  # of collections in collections


@dataclass(frozen=True)
class Feature:
    """A shape, and what its file says of it. `areas`: its polygons; none where it has no area."""

    properties: dict
    areas: list[Area]

    def property(self, name: str) -> object:
        """A property; dots lead into objects: `classification.name`. None where there is none."""
        value: object = self.properties
        for part in [name] if name in self.properties else name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value


def read_features(path: Path) -> tuple[list[Feature], str]:
    """(the shapes of a file, the coordinate system that it names; empty where it names none).

    The file holds a FeatureCollection, a list of features, one feature, one geometry, a list of outlines, or a list
    `images` of `file_name` and `annotations`, each with a `segmentation`. Raises UserError on any other content.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; check competition.root and the option that names the file")
    with reading(path, f"not a {KIND}", "export or download it again"):
        content = json.loads(path.read_bytes())
        crs = content.get("crs") if isinstance(content, dict) else None
        named = crs["properties"]["name"] if isinstance(crs, dict) else ""
        if not isinstance(named, str):
            raise ValueError(f"its crs is called {named}")
        return [Feature(properties, areas) for properties, areas in _shapes(content)], named


def _shapes(content: object) -> Iterator[tuple[dict, list[Area]]]:
    """Properties and polygons. Raises ValueError, KeyError or TypeError where the content is something else."""
    if isinstance(content, list) and not all(isinstance(one, dict) for one in content):  # outlines
        yield from (({}, [_area([ring])]) for ring in content)
    elif isinstance(content, list):
        for one in content:
            yield from _shapes(one)
    elif "features" in content:
        yield from _shapes(content["features"])
    elif content.get("type") == "Feature":
        properties = content.get("properties") or {}
        if not isinstance(properties, dict):
            raise ValueError(f"the properties of a feature are a {type(properties).__name__}, not an object")
        yield {"id": content.get("id"), **properties}, areas_of(content["geometry"])
    elif "images" in content:
        for image in content["images"]:
            for note in image["annotations"]:
                rings = note["segmentation"]
                flat = [rings] if rings and not isinstance(rings[0], list) else rings
                own = {key: value for key, value in note.items() if key != "segmentation"}
                areas = [_area([np.reshape(ring, (-1, 2))]) for ring in flat]
                yield {"file_name": image["file_name"], **own}, areas
    else:
        yield {}, areas_of(content)


def areas_of(geometry: dict | None, depth: int = 0) -> list[Area]:
    """The polygons of a geometry; [] for points and lines. Raises ValueError, KeyError or TypeError."""
    if geometry is None:
        return []
    kind = geometry["type"]
    if kind == "GeometryCollection" and depth < DEEPEST:
        return sum((areas_of(one, depth + 1) for one in geometry["geometries"]), [])
    if kind == "Polygon":
        return [_area(geometry["coordinates"])] if geometry["coordinates"] else []
    if kind == "MultiPolygon":
        return [_area(rings) for rings in geometry["coordinates"] if rings]
    if kind in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        return []
    raise ValueError(f"a geometry is of the type {str(kind)[:40]!r}")


def _area(rings: list) -> Area:
    """Outlines (N, 2); heights are left out. Raises ValueError where a corner is not a list of numbers."""
    out = []
    for ring in rings:
        corners = np.asarray(ring)
        if corners.ndim != 2 or corners.shape[1] < 2 or corners.dtype.kind not in "iuf":
            raise ValueError("the corners of a polygon are not pairs of numbers")
        out.append(corners[:, :2].astype(np.float64))
    return out


def areas_of_text(text: str, where: str, path: Path) -> list[Area]:
    """The polygons of a text in WKT: `POLYGON ((0 0, 4 0, 4 4, 0 0))`; [] for an empty one. Needs shapely.

    `where`: names the text in messages.
    """
    if not text.strip():
        return []
    shapely = optional("shapely", "shapely", path)
    with reading(where, "not a WKT such as POLYGON ((0 0, 4 0, 4 4, 0 0))", "correct the cell"):
        return areas_of(shapely.geometry.mapping(shapely.from_wkt(text)))
