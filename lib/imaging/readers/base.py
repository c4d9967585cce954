"""The base class of all image readers: windows as RGB of 8 bits, at full size or shrunk."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.readers.enlarge import a_few_channels_at_once, enlarged

BAND_BYTES = 64e6  # bytes decoded at once when an image is shrunk
AS_THEY_ARE = Pixels()
WHOLE_RANGE = (0, 65535)  # as `pixels.range`: the whole range of each file's own type, so 8 bits stay as they are
ANY_DEPTH = Pixels(range=WHOLE_RANGE)
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
HARMLESS_BYTES = 64e6  # decoded bytes that a header may promise without proof
MOST_EXPANSION = 8 * 1032  # bytes decoded from one: deflate makes up to 1032, and pixels of 1 bit then take 8


class ImageReader(ABC):
    """An image that is read by window, as RGB uint8. A mask is read with the values that the file stores.

    `height` and `width` in pixels; `channels` of the file. Readers raise UserError where a file is damaged. A subclass
    needs `read` and `close`; `open_image` (lib/imaging/reader.py) chooses it by the file's suffix.

    >>> class Grey(ImageReader):
    ...     channels = 1
    ...
    ...     def __init__(self, values):
    ...         self.values, (self.height, self.width) = values, values.shape
    ...
    ...     def read(self, y, x, h, w):
    ...         return np.repeat(self.values[y : y + h, x : x + w, None], 3, axis=2)
    ...
    ...     def close(self):
    ...         pass
    >>> with Grey(np.array([[0, 10, 20], [30, 40, 50]], np.uint8)) as image:
    ...     print(image.read(0, 1, 1, 2).tolist(), image.thumbnail(1).shape)
    [[[10, 10, 10], [20, 20, 20]]] (1, 1, 3)
    """

    path: Path
    height: int
    width: int
    channels: int
    windowed = False
    """Whether reading a window decodes only the pixels of the window."""
    apart = False
    """Set where the next windows hardly overlap those of the row before: fewer decoded pixels are cached then."""
    depth = "uint8"
    """Type of the file's values, as numpy names it, for example uint16."""
    nodata: float | None = None
    """The value of pixels that were not measured; None where the file does not state one."""
    count, dtype = 3, "uint8"
    """Channels and type, as numpy names it, of what `read` gives."""
    slices = 0
    """Slices of a volume, each of which is an image (see `slice`); 0 where the file is one image."""
    orientation = 1
    """The orientation that the file states (EXIF, or tag 274 of a TIFF); 1: not rotated."""
    undividable = False
    """Whether reading a window takes the memory of the whole image; see lib/imaging/readers/tiled_copy.py."""

    @abstractmethod
    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Pixels (h, w, 3) uint8 of a window inside the image; its top left corner is at row `y` and column `x`.

        With `competition.pixels.channels` they are (h, w, `count`) of `dtype`.
        """

    def measured(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Which pixels of a window were measured in any channel, (h, w) bool."""
        return np.ones((h, w), bool)

    def slice(self, number: int) -> ImageReader:
        """The image of a slice of a volume, counted from 0."""
        raise NotImplementedError

    def thumbnail(self, max_side: int) -> np.ndarray:
        """The image, area-averaged to at most `max_side` pixels a side. Memory does not grow with its height."""
        factor = min(1.0, max_side / max(self.height, self.width))
        size = max(1, round(self.height * factor)), max(1, round(self.width * factor))
        overview = self.overview(max(size))
        try:
            return overview.shrunk(*size, 0, 0, overview.height, overview.width)
        finally:
            if overview is not self:
                overview.close()

    def overview(self, side: int) -> ImageReader:
        """The cheapest reader of the same image, at full size or smaller; its longer side has `side` pixels or more."""
        return self

    def shrunk(self, rows: int, columns: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        """A window (y, x, h, w), area-averaged to (rows, columns, C). Memory does not grow with the window's height."""
        if (rows, columns) == (h, w):
            return self.read(y, x, h, w)
        out = np.empty((rows, columns, self.count), self.dtype)
        step = max(1, int(BAND_BYTES / (w * self.count * out.itemsize) * rows / h))
        for top in range(0, rows, step):
            stop = min(rows, top + step)
            y0, y1 = top * h // rows, max(stop * h // rows, top * h // rows + 1)
            band = self.read(y + y0, x, y1 - y0, w)
            out[top:stop] = resized_channels(band, (stop - top, columns), cv2.INTER_AREA)
        return out

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cutout(ImageReader):
    """A box (y, x, height, width) of an image, which is read as an image of its own."""

    def __init__(self, reader: ImageReader, box: tuple[int, int, int, int]):
        self.inner, self.path, self.channels = reader, reader.path, reader.channels
        self.count, self.dtype = reader.count, reader.dtype
        self.y, self.x, self.height, self.width = box

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        return self.inner.read(self.y + y, self.x + x, h, w)

    def measured(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        return self.inner.measured(self.y + y, self.x + x, h, w)

    def shrunk(self, rows: int, columns: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        return self.inner.shrunk(rows, columns, self.y + y, self.x + x, h, w)

    def close(self) -> None:
        self.inner.close()


class Scaled(ImageReader):
    """An image at another size: `scale` 0.5 halves it; `size` (height, width) gives the size instead.

    With a `scale` above 1, windows are interpolated linearly, as if the whole image were enlarged.
    """

    def __init__(self, reader: ImageReader, scale: float = 1.0, size: tuple[int, int] | None = None):
        self.inner, self.path, self._grown = reader, reader.path, scale > 1 and not size
        self.height, self.width = size or (max(1, round(reader.height * scale)), max(1, round(reader.width * scale)))
        self.channels, self.count, self.dtype = reader.channels, reader.count, reader.dtype

    def original(self, y: int, x: int, h: int, w: int) -> tuple[int, int, int, int]:
        """The same box in original pixels, clipped to the image."""
        ry, rx = self.inner.height / self.height, self.inner.width / self.width
        y0, x0 = min(round(y * ry), self.inner.height - 1), min(round(x * rx), self.inner.width - 1)
        y1 = max(y0 + 1, min(round((y + h) * ry), self.inner.height))
        x1 = max(x0 + 1, min(round((x + w) * rx), self.inner.width))
        return y0, x0, y1 - y0, x1 - x0

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        if self._grown:
            down, across = self.inner.height / self.height, self.inner.width / self.width
            return enlarged(self.inner, (h, w), y * down, x * across, h * down, w * across)
        return self.inner.shrunk(h, w, *self.original(y, x, h, w))

    def close(self) -> None:
        self.inner.close()


def resized_channels(values: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """Values (h, w, C) at another size (rows, columns), with an interpolation of cv2, for any number of channels."""
    return a_few_channels_at_once(lambda part: cv2.resize(part, size[::-1], interpolation=interpolation), values, size)


class WrongDepth(UserError):
    """A file has 8 bits a channel, while `pixels.range` is for files with more."""


def check_pixels(path: Path, depth: str, channels: int, pixels: Pixels | None) -> None:
    """Raises UserError when an image does not fit the options `pixels`. `depth`: as of `ImageReader`."""
    if pixels is None:
        return
    if depth != "uint8" and not pixels.range:
        raise UserError(
            f"{path} has {depth} pixels; set competition.pixels.range to the values of black and white, as in [0, 4095]"
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


def check_expansion(path: Path | str, decoded: float, stored: float, most: float = MOST_EXPANSION) -> None:
    """Raises UserError where `stored` bytes of a file cannot hold the `decoded` bytes that its header promises.

    A damaged header, or a decompression bomb, would otherwise take all of the memory. `most`: bytes that the file's
    codec can decode from one byte.
    """
    if decoded > max(HARMLESS_BYTES, most * stored):
        raise UserError(
            f"{path} is damaged: its header promises {decoded / 1e9:.1f} GB of pixels, which {stored:.0f} bytes cannot "
            "hold; replace or remove the file"
        )


def as_rgb(values: np.ndarray, pixels: Pixels | None, nodata: float | None = None) -> np.ndarray:
    """Values (…, C) of any type → RGB (…, 3) uint8. Grey is repeated; alpha and further channels are dropped.

    `pixels`: options of `competition.pixels`; None returns the stored values, for masks. `nodata`: the value of pixels
    that were not measured, of the type of `values`. These become black, and so do NaN and infinite values. With 8 bits,
    a single channel may well measure that value, so all channels of a pixel must have it.
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
    """A mask of the values that were not measured; None where all were."""
    void = None if nodata is None else values == nodata
    if void is not None and values.dtype.itemsize == 1:
        void = void.all(-1, keepdims=True)
    if values.dtype.kind == "f":
        void = ~np.isfinite(values) if void is None else void | ~np.isfinite(values)
    return void if void is not None and void.any() else None


def nodata_of(text: object, dtype: np.dtype) -> float | None:
    """A file's text for "not measured", as a value of its type; None where the type has no such value, and for NaN.

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
    """Import a module that only some formats need. Raises UserError, with the install command, where it is missing."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise UserError(f"{path} needs a package that is missing ({error}): pip install {package}") from None
