"""Reading images by window, never whole when it can be helped."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError

from lib.config.competition import Pixels
from lib.errors import UserError

Image.MAX_IMAGE_PIXELS = None  # huge images are what this project is for
BAND_BYTES = 64e6  # decoded at once when an image is shrunk
TIFF_SUFFIXES = {".tif", ".tiff"}
AS_THEY_ARE = Pixels()


def open_image(path: str | Path, pixels: Pixels = AS_THEY_ARE) -> ImageReader:
    """A windowed reader of a TIFF, PNG or JPEG. Raises UserError, naming the file, when it is broken.

    `pixels`: which channels are shown, and which values become black and white.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no image {path}")
    return (TiffReader if path.suffix.lower() in TIFF_SUFFIXES else WholeReader)(path, pixels)


class ImageReader:
    """An image as RGB uint8, read by window. `height`, `width` in pixels; `channels` of the file."""

    path: Path
    height: int
    width: int
    channels: int
    windowed = False
    """Whether a window costs only its own pixels."""

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Pixels (h, w, 3) uint8 of a window that lies inside the image."""
        raise NotImplementedError

    def thumbnail(self, max_side: int) -> np.ndarray:
        """The image area-averaged to at most `max_side`, from bands: memory does not grow with height."""
        factor = min(1.0, max_side / max(self.height, self.width))
        size = max(1, round(self.height * factor)), max(1, round(self.width * factor))
        return self.shrunk(*size, 0, 0, self.height, self.width)

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

    def close(self) -> None:
        """Give the file back."""

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class WholeReader(ImageReader):
    """PNG and JPEG: only decoded whole; the last two decoded ones are kept. EXIF orientation is applied."""

    def __init__(self, path: Path, pixels: Pixels):
        self.path, self.pixels = path, pixels
        try:
            with Image.open(path) as image:
                if image.mode not in DEEP and ";16" in str(image.tile):
                    raise UserError(f"{path} has 16 bits a colour, which would be cut to 8; convert it to TIFF")
                self.width, self.height = image.size
                if image.getexif().get(274, 1) in (5, 6, 7, 8):
                    self.width, self.height = self.height, self.width
                self.channels = len(image.getbands())
                _check(path, "more than 8 bits a channel" if image.mode in DEEP else "", self.channels, pixels)
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"{path} is no readable image ({error}); replace or remove the file") from None

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        return _decoded(self.path, self.pixels)[y : y + h, x : x + w]


DEEP = ("I;16", "I;16B", "I;16L", "I", "F")  # Pillow's modes of more than 8 bits


@lru_cache(maxsize=2)
def _decoded(path: Path, pixels: Pixels) -> np.ndarray:
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            plain = image if image.mode in (*DEEP, "L", "LA", "RGB", "RGBA") else image.convert("RGB")
            values = np.asarray(plain)
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path} is damaged ({error}); replace or remove the file") from None
    return _rgb(values if values.ndim == 3 else values[..., None], pixels)


def _check(path: Path, depth: str, channels: int, pixels: Pixels) -> None:
    """Raises UserError when an image cannot be shown as `pixels` says. `depth`: what its pixels are, if not uint8."""
    if depth and not pixels.range:
        raise UserError(
            f"{path} has {depth}; say in competition.pixels.range which values become black and white: [0, 4095]"
        )
    if pixels.bands and max(pixels.bands) >= channels:
        raise UserError(
            f"competition.pixels.bands names channel {max(pixels.bands)}, but {path} has {channels}, counted from 0"
        )


class TiffReader(ImageReader):
    """TIFF, tiled or striped: only the segments under a window are decoded, the last ones are kept.

    Uncompressed pixels that lie in one piece are mapped, so that not even a single strip that holds the whole image is
    read whole. Colours may be interleaved, in planes, or in a page each.
    """

    CACHE_BYTES = 192e6
    windowed = True

    def __init__(self, path: Path, pixels: Pixels):
        self.path, self.pixels = path, pixels
        try:
            self._file = tifffile.TiffFile(path)
            level = self._file.series[0].levels[0]
            page = level.keyframe
        except (tifffile.TiffFileError, OSError, ValueError, IndexError) as error:
            raise UserError(f"{path} is no readable TIFF ({error}); replace or remove the file") from None
        self._page, self.height, self.width = page, page.imagelength, page.imagewidth
        pages = [level.pages[i] for i in range(_channel_pages(level.axes, level.shape))]
        planar = page.planarconfig == 2 and page.samplesperpixel > 1
        self.channels = page.samplesperpixel * len(pages)
        _check(path, "" if page.dtype == np.uint8 else f"{page.dtype} pixels", self.channels, pixels)
        end = max(o + n for p in pages for o, n in zip(p.dataoffsets, p.databytecounts, strict=True))
        if end > path.stat().st_size:
            raise UserError(f"{path} is truncated: {path.stat().st_size} bytes, its header promises {end}")

        # Planes of (offset, bytes) by segment, each with one sample a pixel, or with all of them.
        segments = [list(zip(p.dataoffsets, p.databytecounts, strict=True)) for p in pages]
        if planar:
            count = len(segments[0]) // page.samplesperpixel
            segments = [segments[0][i * count : (i + 1) * count] for i in range(page.samplesperpixel)]
        self._planes = segments
        self._maps = [self._map(p.dataoffsets[0], planar) for p in pages] if page.is_memmappable else None
        self._segment = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, self.width)
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def _map(self, offset: int, planar: bool) -> np.ndarray:
        """(H, W, samples) of a page whose pixels lie in one piece, mapped."""
        samples = self._page.samplesperpixel
        shape = (samples, self.height, self.width) if planar else (self.height, self.width, samples)
        dtype = np.dtype(self._file.byteorder + self._page.dtype.char)
        values = np.memmap(self.path, dtype, "r", offset, shape)
        return np.moveaxis(values, 0, -1) if planar else values

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        if self._maps is not None:
            values = np.concatenate([plane[y : y + h, x : x + w] for plane in self._maps], axis=-1)
            return np.ascontiguousarray(_rgb(values, self.pixels))
        sh, sw = self._segment
        across = -(-self.width // sw)
        out = np.empty((h, w, 3), np.uint8)
        for row in range(y // sh, (y + h - 1) // sh + 1):
            for column in range(x // sw, (x + w - 1) // sw + 1):
                piece = self._decode(row * across + column)
                top, left = row * sh, column * sw
                y0, y1 = max(y, top), min(y + h, top + sh)
                x0, x1 = max(x, left), min(x + w, left + sw)
                out[y0 - y : y1 - y, x0 - x : x1 - x] = piece[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _decode(self, index: int) -> np.ndarray:
        """Segment `index` as RGB (h, w, 3)."""
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
            planes = [self._decode_plane(p, index) for p in range(len(self._planes))]
            piece = _rgb(np.concatenate(planes, axis=-1), self.pixels)
            self._cache[index] = piece
            while sum(p.nbytes for p in self._cache.values()) > self.CACHE_BYTES and len(self._cache) > 1:
                self._cache.popitem(last=False)
            return piece

    def _decode_plane(self, plane: int, index: int) -> np.ndarray:
        """(h, w, samples) of one plane's segment; black where the file leaves it out."""
        offset, count = self._planes[plane][index]
        page = self._page
        planar = page.planarconfig == 2 and page.samplesperpixel > 1
        self._file.filehandle.seek(offset)
        data = self._file.filehandle.read(count)
        try:
            number = plane * len(self._planes[0]) + index if planar else index
            decoded = page.decode(data, number, jpegtables=page.jpegtables)[0]
        except Exception as error:  # every codec raises its own kind
            raise UserError(f"{self.path} is damaged at segment {index} ({error}); replace it") from None
        samples = 1 if planar else page.samplesperpixel
        return np.zeros((*self._segment, samples), page.dtype) if decoded is None else decoded[0]

    def close(self) -> None:
        self._file.close()


def _channel_pages(axes: str, shape: tuple[int, ...]) -> int:
    """How many pages are an image's channels: 1 where they are other images, of which the first is read.

    >>> _channel_pages("YXS", (9, 9, 3)), _channel_pages("TZCYX", (1, 1, 3, 9, 9)), _channel_pages("QYX", (3, 9, 9))
    (1, 3, 3)
    >>> _channel_pages("IYX", (5, 9, 9)), _channel_pages("SYX", (3, 9, 9))
    (1, 1)
    """
    stack = [(name, size) for name, size in zip(axes, shape, strict=True) if size > 1 and name not in "YXS"]
    if not stack:
        return 1
    name, size = stack[-1]
    return size if name == "C" or (name == "Q" and size in (3, 4)) else 1  # Q: the file does not say


def _rgb(values: np.ndarray, pixels: Pixels) -> np.ndarray:
    """(…, C) of any type → (…, 3) uint8: grey is repeated, alpha and further channels dropped."""
    if pixels.bands:
        values = values[..., list(pixels.bands)]
    elif values.shape[-1] < 3:
        values = np.repeat(values[..., :1], 3, axis=-1)
    else:
        values = values[..., :3]
    if not pixels.range:
        return values
    low, high = pixels.range
    return np.clip((values.astype(np.float32) - low) * (255 / (high - low)) + 0.5, 0, 255).astype(np.uint8)


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
