"""Answers as polygons: a GeoJSON for each image, with a feature for each region of a class. Needs rasterio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib.competition.codecs.file_form import ROWS_PER_STRIP, FileForm, Part, zeros
from lib.competition.codecs.file_values import FileValues
from lib.competition.polygons.georeference import Georeference, georeference_of
from lib.config.competition import CompetitionSettings
from lib.errors import UserError, reading
from lib.imaging.readers.base import optional
from lib.plugins import register


@register("answer_file", ".geojson")
class GeoJsonFile(FileForm):
    """Polygons run along the edges of pixels; each has the property `class`.

    Coordinates are (x, y) in pixels, from the upper left corner of the image, or, with `submission.georeference`, those
    of the image's map, which the member `crs` names.
    """

    georeferenced = True
    bytes_per_pixel = 400  # a region of one pixel is a whole feature

    def __init__(self, config: CompetitionSettings, samples: int):
        super().__init__(config, samples)
        self._features = optional("rasterio.features", "rasterio", Path(config.submission.id_template))
        self._affine = optional("affine", "affine", Path(config.submission.id_template)).Affine
        stored, first = FileValues(config).table.tolist(), config.first_class
        self.numbers = dict(zip(config.classes, stored[first:], strict=True))
        self.rest = stored[0] if first else 0  # of pixels in no polygon

    def encode(self, file: BinaryIO, size: tuple[int, int], bands: Iterator[np.ndarray], image: Path | None) -> None:
        place = _place_of(image) if image else None
        names, features = {number: name for name, number in self.numbers.items()}, []
        pixels = _whole(bands, size)
        known = np.isin(pixels, list(names))
        transform = place.transform if place else self._affine.identity()
        for geometry, value in self._features.shapes(pixels, known, 4, transform):
            properties = {"class": names[int(value)]}
            features.append({"type": "Feature", "properties": properties, "geometry": geometry})
        content = {"type": "FeatureCollection", "features": features}
        if place:
            content["crs"] = {"type": "name", "properties": {"name": place.crs.to_string()}}
        file.write(json.dumps(content).encode())

    def decode(self, where: str, file: BinaryIO, size: tuple[int, int], image: Path | None) -> Iterator[Part]:
        """Bands of rows: what each polygon covers the middle of."""
        transform = _place_of(image).transform if image else self._affine.identity()
        with reading(where, "not a readable GeoJSON"):
            features = json.loads(file.read())["features"]
            shapes = [(one["geometry"], str(one["properties"]["class"])) for one in features]
        strange = [name for _, name in shapes if name not in self.numbers]
        if strange:
            raise UserError(f"{where} holds the class {strange[0]!r}; expected one of {', '.join(self.numbers)}")
        painted = [(geometry, self.numbers[name]) for geometry, name in shapes]
        for y in range(0, size[0], ROWS_PER_STRIP):
            shape = min(ROWS_PER_STRIP, size[0] - y), size[1]
            band = np.full(shape, self.rest, np.uint8)
            if painted:
                x0, y0 = transform.b * y + transform.c, transform.e * y + transform.f
                moved = self._affine(transform.a, transform.b, x0, transform.d, transform.e, y0)
                with reading(where, "not a readable GeoJSON"):
                    self._features.rasterize(painted, out=band, transform=moved)
            yield y, 0, band


def _whole(bands: Iterator[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """All bands as one array, which lies in a file where it is large."""
    whole, y = zeros(size), 0
    for band in bands:
        whole[y : y + len(band)] = band
        y += len(band)
    return whole


def _place_of(image: Path) -> Georeference:
    place = georeference_of(image)
    if place is None:
        raise UserError(
            f"{image} does not say where on Earth it lies, which competition.submission.georeference needs; set it to "
            "false"
        )
    return place
