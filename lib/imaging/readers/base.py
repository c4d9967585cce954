"""What all readers share: windows as RGB of 8 bits, shrunken or not."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from lib.config.competition import Pixels
from lib.errors import UserError

BAND_BYTES = 64e6  # decoded at once when an image is shrunk
AS_THEY_ARE = Pixels()
WHOLE_RANGE = (0, 65535)  # as `pixels.range`: each file is shown from its own type's whole range, so 8 bits as they are
ANY_DEPTH = Pixels(range=WHOLE_RANGE)
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width


class ImageReader(ABC):
    """An image as RGB uint8, or, of masks, as it is stored, read by window.

    `height`, `width` in pixels; `channels` of the file.
    """

    path: Path
    height: int
    width: int
    channels: int
    windowed = False
    """Whether a window costs only its own pixels."""
    apart = False
    """Set where windows to come hardly overlap those of the row before: less of what was decoded is kept."""
    depth = "uint8"
    """Type of the file's values, as numpy names it."""
    nodata: float | None = None
    """The value of pixels that were not measured, where the file says one."""
    orientation = 1
    """How the file says (EXIF, or tag 274 of a TIFF) that its pixels must be turned; 1: not at all."""
    undividable = False
    """Whether a window costs the memory of the whole image; see lib/imaging/readers/tiled_copy.py."""

    @abstractmethod
    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Pixels (h, w, 3) uint8 of a window that lies inside the image."""

    def thumbnail(self, max_side: int) -> np.ndarray:
        """The image area-averaged to at most `max_side`, from bands: memory does not grow with height."""
        factor = min(1.0, max_side / max(self.height, self.width))
        size = max(1, round(self.height * factor)), max(1, round(self.width * factor))
        overview = self.overview(max(size))
        try:
            return overview.shrunk(*size, 0, 0, overview.height, overview.width)
        finally:
            if overview is not self:
                overview.close()

    def overview(self, side: int) -> ImageReader:
        """The same image at its own or a smaller size, but no smaller than `side`: the cheapest there is."""
        return self

    def shrunk(self, rows: int, columns: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        """A window (y, x, h, w), area-averaged to (rows, columns, 3) in bands: its height costs no memory."""
        if (rows, columns) == (h, w):
            return self.read(y, x, h, w)
        out = np.empty((rows, columns, 3), np.uint8)
        step = max(1, int(BAND_BYTES / (w * 3) * rows / h))
        for top in range(0, rows, step):
            stop = min(rows, top + step)
            y0, y1 = top * h // rows, max(stop * h // rows, top * h // rows + 1)
            band = self.read(y + y0, x, y1 - y0, w)
            out[top:stop] = cv2.resize(band, (columns, stop - top), interpolation=cv2.INTER_AREA)
        return out

    @abstractmethod
    def close(self) -> None:
        """Give the file back."""

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cutout(ImageReader):
    """A box (y, x, height, width) of an image as if it were all of it."""

    def __init__(self, reader: ImageReader, box: tuple[int, int, int, int]):
        self.inner, self.path, self.channels = reader, reader.path, reader.channels
        self.y, self.x, self.height, self.width = box

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        return self.inner.read(self.y + y, self.x + x, h, w)

    def shrunk(self, rows: int, columns: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        return self.inner.shrunk(rows, columns, self.y + y, self.x + x, h, w)

    def close(self) -> None:
        self.inner.close()


class Scaled(ImageReader):
    """A reader in other coordinates: `scale` 0.5 shows the image at half its size; `size` (h, w) names the size."""

    def __init__(self, reader: ImageReader, scale: float = 1.0, size: tuple[int, int] | None = None):
        self.inner, self.path = reader, reader.path
        self.height, self.width = size or (max(1, round(reader.height * scale)), max(1, round(reader.width * scale)))
        self.channels = reader.channels

    def original(self, y: int, x: int, h: int, w: int) -> tuple[int, int, int, int]:
        """The same box in original pixels, clipped to the image."""
        ry, rx = self.inner.height / self.height, self.inner.width / self.width
        y0, x0 = min(round(y * ry), self.inner.height - 1), min(round(x * rx), self.inner.width - 1)
        y1 = max(y0 + 1, min(round((y + h) * ry), self.inner.height))
        x1 = max(x0 + 1, min(round((x + w) * rx), self.inner.width))
        return y0, x0, y1 - y0, x1 - x0

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        return self.inner.shrunk(h, w, *self.original(y, x, h, w))

    def close(self) -> None:
        self.inner.close()


class WrongDepth(UserError):
    """A file has fewer bits than those that `pixels.range` was made for."""


def check_pixels(path: Path, depth: str, channels: int, pixels: Pixels | None) -> None:
    """Raises UserError when an image cannot be shown as `pixels` says. `depth`: as of `ImageReader`."""
    if pixels is None:
        return
    if depth != "uint8" and not pixels.range:
        raise UserError(
            f"{path} has {depth} pixels; say in competition.pixels.range which values become black and white: [0, 4095]"
        )
    if depth == "uint8" and pixels.range and pixels.range[1] > 255 and pixels.range != WHOLE_RANGE:
        raise WrongDepth(
            f"{path} has 8 bits a channel, but competition.pixels.range {list(pixels.range)} is of deeper files; "
            f"convert them to one depth, or set it to {list(WHOLE_RANGE)}, the whole range of each file's own type"
        )
    if pixels.bands and max(pixels.bands) >= channels:
        raise UserError(
            f"competition.pixels.bands names channel {max(pixels.bands)}, but {path} has {channels}, counted from 0"
        )


def as_rgb(values: np.ndarray, pixels: Pixels | None, nodata: float | None = None) -> np.ndarray:
    """(…, C) of any type → (…, 3) uint8: grey is repeated, alpha and further channels dropped.

    `pixels` None: the values as they are stored, for masks.
    `nodata`: the value of pixels that were not measured, of the type of `values`; these become black, as do NaN and
    infinite ones. (Of 8 bits a value may well be measured in one channel alone, so all of a pixel's must be `nodata`.)
    """
    if pixels is None:
        return values
    if pixels.bands:
        values = values[..., list(pixels.bands)]
    elif values.shape[-1] < 3:
        values = np.repeat(values[..., :1], 3, axis=-1)
    else:
        values = values[..., :3]
    void = _unmeasured(values, nodata)
    if pixels.range and not (values.dtype == np.uint8 and pixels.range == WHOLE_RANGE):
        low, high = pixels.range
        measured = values.astype(np.float32) if void is None else np.where(void, np.float32(low), values)
        values = ((measured - low) * (255 / (high - low)) + 0.5).clip(0, 255).astype(np.uint8)
    return values if void is None else np.where(void, np.uint8(0), values)


def _unmeasured(values: np.ndarray, nodata: float | None) -> np.ndarray | None:
    """Which values were not measured; None for none."""
    void = None if nodata is None else values == nodata
    if void is not None and values.dtype.itemsize == 1:
        void = void.all(-1, keepdims=True)
    if values.dtype.kind == "f":
        void = ~np.isfinite(values) if void is None else void | ~np.isfinite(values)
    return void if void is not None and void.any() else None


def nodata_of(text: object, dtype: np.dtype) -> float | None:
    """A file's word for "not measured" as one of its values; None where that is no value of its type, or is NaN.

    >>> nodata_of("-32768", np.dtype("int16")), nodata_of("-9999", np.dtype("uint16")), nodata_of("nan", np.dtype("f4"))
    (-32768, None, None)
    """
    try:
        number = float(str(text).strip("\0 "))
        value = dtype.type(number)
    except (ValueError, OverflowError):
        return None
    if dtype.kind == "f":  # the text may have fewer digits than the value
        return value.item() if np.isfinite(value) else None
    return value.item() if value == number else None


def optional(module: str, package: str, path: Path) -> ModuleType:
    """A module that only some formats need. Raises UserError, with the command, where it is missing."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise UserError(f"{path} needs a package that is missing ({error}): pip install {package}") from None
