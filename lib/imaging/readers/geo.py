"""Georeferenced rasters other than TIFF, read with rasterio."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.readers.base import ImageReader, as_rgb, check_pixels, nodata_of, optional

GEO_SUFFIXES = (".jp2", ".vrt", ".img")
CACHE_BYTES = 64_000_000


class GeoReader(ImageReader):
    """All bands are channels. Coordinates are pixels; the raster's own coordinates are not used."""

    windowed = True

    def __init__(self, path: Path, pixels: Pixels):
        self.path, self.pixels = path, pixels
        self._rasterio = optional("rasterio", "rasterio", path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", self._rasterio.errors.NotGeoreferencedWarning)
                self._raster = self._rasterio.open(path)
        except self._rasterio.errors.RasterioError as error:
            raise UserError(f"{path} is no readable raster ({error}); replace or remove the file") from None
        self.height, self.width, self.channels = self._raster.height, self._raster.width, self._raster.count
        self.depth = self._raster.dtypes[0]
        self.nodata = nodata_of(self._raster.nodata, np.dtype(self.depth))
        check_pixels(path, self.depth, self.channels, pixels)

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        window = self._rasterio.windows.Window(x, y, w, h)
        try:
            with self._rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
                values = self._raster.read(window=window)
        except self._rasterio.errors.RasterioError as error:
            raise UserError(f"{self.path} is damaged ({error}); replace or remove the file") from None
        return as_rgb(np.ascontiguousarray(np.moveaxis(values, 0, -1)), self.pixels, self.nodata)

    def close(self) -> None:
        self._raster.close()
