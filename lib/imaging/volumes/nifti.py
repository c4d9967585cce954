"""NIfTI volumes, read with nibabel: slices along the third axis, as nibabel orders them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lib.config.competition import Pixels
from lib.errors import reading
from lib.imaging.readers.array import ArrayImage, axes_of
from lib.imaging.readers.base import ImageReader, optional

NIFTI_SUFFIXES = (".nii", ".nii.gz")
KEPT_BYTES = 512e6  # of a compressed volume that stays decoded: each slice of a larger one is decoded from the start


def open_nifti(path: Path, pixels: Pixels) -> ImageReader:
    """(X, Y), (X, Y, Z) or (X, Y, Z, channels). Values are scaled as the header says."""
    nibabel = optional("nibabel", "nibabel", path)
    with reading(path, "not a readable NIfTI file"):
        volume = Volume(path, nibabel.load(path))
    return ArrayImage(path, volume, axes_of(path, volume, pixels, 2 if len(volume.shape) > 2 else None))


class Volume:
    """The values of a NIfTI file, as an array; float32 where the header scales them."""

    def __init__(self, path: Path, image: Any):
        self._path, self._proxy = path, image.dataobj
        self.shape = tuple(self._proxy.shape)
        scaled = (self._proxy.slope, self._proxy.inter) != (1, 0)
        self.dtype = np.dtype("float32") if scaled else np.dtype(image.get_data_dtype()).newbyteorder("=")

    def __getitem__(self, index: tuple[int | slice, ...]) -> np.ndarray:
        size = self.dtype.itemsize * int(np.prod(self.shape))
        if self._path.name.lower().endswith(".gz") and size <= KEPT_BYTES:
            return _decoded_volume(self._path, self._path.stat().st_mtime_ns, self.dtype.str)[index]
        return np.asarray(self._proxy[index], self.dtype)


@lru_cache(maxsize=1)
def _decoded_volume(path: Path, _changed: int, dtype: str) -> np.ndarray:
    import nibabel

    return np.asarray(nibabel.load(path).dataobj, np.dtype(dtype))
