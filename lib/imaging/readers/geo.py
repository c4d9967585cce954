"""Georeferenced rasters other than TIFF, read with rasterio."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from lib.config.competition import Pixels
from lib.errors import UserError, reading
from lib.imaging.readers.base import ImageReader, nodata_of, optional

GEO_SUFFIXES = (".jp2", ".vrt", ".img")
CACHE_BYTES = 64_000_000


class GeoReader(ImageReader):
    """All bands are channels. Coordinates are pixels; the raster's own coordinates are not used."""

    windowed = True

    def __init__(self, path: Path, pixels: Pixels):
        self.path = path
        self._rasterio = optional("rasterio", "rasterio", path)
        with reading(path, "not a readable raster"), warnings.catch_warnings():
            warnings.simplefilter("ignore", self._rasterio.errors.NotGeoreferencedWarning)
            self._raster = self._rasterio.open(path)
        self.height, self.width, self.channels = self._raster.height, self._raster.width, self._raster.count
        depths = sorted({*self._raster.dtypes})
        if len(depths) != 1 or depths[0].startswith("complex"):
            raise UserError(f"{path} has bands of {', '.join(depths) or 'no type'}; one type of real numbers is needed")
        self.depth = depths[0]
        self.nodata = nodata_of(self._raster.nodata, np.dtype(self.depth))

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        window = self._rasterio.windows.Window(x, y, w, h)
        with reading(self.path, "damaged"), self._rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
            values = self._raster.read(window=window)
        return np.ascontiguousarray(np.moveaxis(values, 0, -1))

    def close(self) -> None:
        self._raster.close()
