"""The place of an image on Earth: from coordinates of a map to pixels, and back. Needs rasterio."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib.errors import UserError, reading
from lib.imaging.readers.base import optional


@dataclass(frozen=True)
class Georeference:
    """`crs`: of rasterio. `transform`: from (column, row) of an image, its upper left corner at (0, 0), to the map."""

    crs: object
    transform: object

    def pixels(self, x: np.ndarray, y: np.ndarray, crs: object, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """(columns, rows) in pixels of places (x, y) in another `crs`. `path`: of their file, for messages."""
        warp = optional("rasterio.warp", "rasterio", path)
        if crs != self.crs:
            with reading(path, "of a place that cannot be projected", "correct competition.labels.crs"):
                x, y = (np.array(values) for values in warp.transform(crs, self.crs, x.tolist(), y.tolist()))
        inverse = ~self.transform
        return inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f


@lru_cache(maxsize=64)
def georeference_of(path: Path) -> Georeference | None:
    """Where an image lies; None where its file does not say so. Raises UserError where rasterio is missing."""
    rasterio = optional("rasterio", "rasterio", path)
    with reading(path, "not a readable raster"), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as raster:
            crs, transform = raster.crs, raster.transform
    return Georeference(crs, transform) if crs and not transform.is_identity else None


def crs_of(text: str, where: str, path: Path) -> object:
    """The coordinate reference system that a text names, such as EPSG:4326. Raises UserError naming `where`."""
    crs = optional("rasterio.crs", "rasterio", path)
    try:
        return crs.CRS.from_user_input(text)
    except Exception as error:  # rasterio and GDAL raise several kinds
        raise UserError(
            f"{where} names the coordinate system {text[:80]!r}, which is not known ({error}); expected one such as "
            "EPSG:4326"
        ) from None
