"""DICOM, read with pydicom: an image of one frame, or, with `pixels.slice_axis: 0`, a volume of several."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lib.config.competition import Pixels
from lib.errors import UserError, reading
from lib.imaging.readers.array import ArrayImage, Axes
from lib.imaging.readers.base import ImageReader, optional

DICOM_SUFFIXES = (".dcm", ".dicom")


def open_dicom(path: Path, pixels: Pixels) -> ImageReader:
    """Values are rescaled as the header says (to Hounsfield units, for example), and low values are dark."""
    pydicom = optional("pydicom", "pydicom", path)
    with reading(path, "not a readable DICOM file"):
        frames = Frames(path, pydicom.dcmread(path, stop_before_pixels=True))
    several = frames.shape[0] > 1
    if several and pixels.slice_axis != 0:
        raise UserError(
            f"{path} holds {frames.shape[0]} frames; set competition.pixels.slice_axis to 0, so that each is an image"
        )
    axes = Axes(1, 2, 3, 0 if pixels.slice_axis == 0 else None)
    reader = ArrayImage(path, frames, axes)
    reader.windowed = False
    return reader


class Frames:
    """The frames of a file, as an array (frames, rows, columns, samples) that is decoded when it is first read."""

    def __init__(self, path: Path, header: Any):
        self._path = path
        samples = int(header.get("SamplesPerPixel", 1))
        self.shape = int(header.get("NumberOfFrames", 1) or 1), int(header.Rows), int(header.Columns), samples
        self.dtype = np.dtype("float32" if _is_rescaled(header) else _stored_type(header))

    def __getitem__(self, index: tuple[int | slice, ...]) -> np.ndarray:
        return _decoded_frames(self._path, self._path.stat().st_mtime_ns)[index]


@lru_cache(maxsize=4)
def _decoded_frames(path: Path, _changed: int) -> np.ndarray:
    import pydicom

    header = pydicom.dcmread(path)
    frames = Frames(path, header)
    values = np.asarray(header.pixel_array).reshape(frames.shape)
    if header.get("PhotometricInterpretation") == "MONOCHROME1":  # low values are white
        top = 2 ** int(header.BitsStored) - 1
        values = (-1 - values) if values.dtype.kind == "i" else values.dtype.type(top) - values
    if _is_rescaled(header):
        values = values.astype(np.float32) * float(header.RescaleSlope) + float(header.RescaleIntercept)
    return values.astype(frames.dtype, copy=False)


def _is_rescaled(header: Any) -> bool:
    if header.get("RescaleSlope") is None or header.get("RescaleIntercept") is None:
        return False
    return (float(header.RescaleSlope), float(header.RescaleIntercept)) != (1.0, 0.0)


def _stored_type(header: Any) -> str:
    bits = 8 if int(header.BitsAllocated) <= 8 else 16 if int(header.BitsAllocated) <= 16 else 32
    return f"{'int' if header.get('PixelRepresentation', 0) else 'uint'}{bits}"
