"""TIFF through tifffile: only the segments (tiles or strips) under a window are read."""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
import tifffile

from lib.config.competition import Pixels
from lib.errors import UserError, reading
from lib.imaging.readers.base import WHOLE_RANGE, ImageReader, as_rgb, check_pixels, nodata_of
from lib.imaging.readers.tiff_colours import PALETTE, RGB, WHITE_IS_ZERO, conversion_of, grey_stretch
from lib.imaging.readers.tiff_layout import checked_layout

TIFF_SUFFIXES = (".tif", ".tiff")
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # our own sentences say what is wrong with a file
NODATA = 42113  # a tag of GDAL
JPEG = 7  # TIFF's number of the compression
REDUCED = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
PASSED_OVER = 16384  # so many bytes beside a window's row are read faster than skipped
NOT_YCBCR = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # a marker of JPEG


class SegmentReader(ImageReader):
    """An image of segments (tiles or strips) of one size, from left to right and down."""

    _segment: tuple[int, int]
    _wanted = 1
    """How many decoded segments the next windows may need again."""

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        sh, sw = self._segment
        across = -(-self.width // sw)
        out = None
        rows, columns = (h - 2) // sh + 2, (w - 2) // sw + 2  # under a window of this size, wherever it is
        self._wanted = rows * (min(across, 2 * columns) if self.apart else across)
        for row in range(y // sh, (y + h - 1) // sh + 1):
            for column in range(x // sw, (x + w - 1) // sw + 1):
                top, left = row * sh, column * sw
                y0, y1 = max(y, top), min(y + h, top + sh)
                x0, x1 = max(x, left), min(x + w, left + sw)
                box = y0 - top, y1 - top, x0 - left, x1 - left
                piece = self._piece(row * across + column, *box)
                out = np.empty((h, w, piece.shape[2]), piece.dtype) if out is None else out
                out[y0 - y : y1 - y, x0 - x : x1 - x] = piece
        return out

    @abstractmethod
    def _piece(self, index: int, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Rows and columns of segment `index` as RGB (h, w, 3)."""


class TiffReader(SegmentReader):
    """TIFF, tiled or striped; colours may be interleaved, in planes, or in a page each. `level` 0 is the finest.

    Of uncompressed segments just the rows under a window are read, so that not even a single strip that holds the
    whole image is read whole; of others those decoded last are kept.
    """

    CACHE_BYTES = 192e6
    windowed = True

    def __init__(self, path: Path, pixels: Pixels | None, level: int = 0, pages: range | None = None):
        """`pixels` None: the values as they are stored, and a palette's indices, not its colours. `pages`: those that
        hold the image's channels, where the file does not say it, or holds a stack of images."""
        self.path, self.pixels, self._level, self._pages = path, pixels, level, pages
        with reading(path, "not a readable TIFF"):
            self._file = tifffile.TiffFile(path)
        try:
            with reading(path, "not a readable TIFF"):
                self._levels = self._file.series[0].levels
                self._read_header(self._levels[level])
            check_pixels(path, self.depth, self.channels, pixels)
        except BaseException:
            self._file.close()
            raise
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def _read_header(self, series: tifffile.TiffPageSeries) -> None:
        """All that is known of the image before a pixel is read. Raises errors of many kinds on a damaged file."""
        self._page = page = series.keyframe
        chosen = range(channel_pages(series.axes, series.shape)) if self._pages is None else self._pages
        stack = series.pages if self._pages is None or self._level else self._alike(page)
        pages = [stack[i] for i in chosen]
        self._layout = layout = checked_layout(self.path, pages, page)
        self.height, self.width = layout.height, layout.width
        self._segment, self._planes = layout.segment, layout.planes
        stated = page.tags.valueof("Orientation", 1)
        self.orientation = stated if stated in range(1, 9) else 1
        self._conversion = conversion_of(self.path, page, self.pixels is not None)
        converted = self._conversion is not None and page.photometric != WHITE_IS_ZERO
        self.channels = 3 if converted else page.samplesperpixel * len(pages)
        ranged = self.pixels is None or (self.pixels.range and self.pixels.range != WHOLE_RANGE)
        self._stretch = None if ranged else grey_stretch(page)
        palette = converted and page.photometric == PALETTE
        self.depth = "uint8" if palette or self._stretch is not None else page.dtype.name
        first = self._levels[0].keyframe.tags
        as_stored = not converted and self._stretch is None
        self.nodata = nodata_of(first.valueof(NODATA, ""), page.dtype) if as_stored else None
        self.undividable = not layout.plain and self._segment[0] * self._segment[1] * 3 > self.CACHE_BYTES
        if self.undividable and converted and not palette:
            raise UserError(
                f"{self.path} holds colours other than RGB in one compressed piece; convert it to RGB tiles"
            )
        blocks = self._segment[0] % 8 == 0 and (self._segment[1] % 8 == 0 or not page.is_tiled)
        rgb = len(layout.planes) == 1 and layout.samples == 3 and page.dtype == np.uint8 and not converted
        self.is_plain_jpeg = page.compression == JPEG and rgb and blocks

    def overview(self, side: int) -> ImageReader:
        """The coarsest level that is large enough; of JPEG, as few of its frequencies as will do."""
        sides = [max(level.keyframe.imagelength, level.keyframe.imagewidth) for level in self._levels]
        level = max((i for i in range(len(sides)) if sides[i] >= side), default=self._level)
        factor = next((factor for factor in REDUCED if sides[level] >= factor * side), 0)
        if level == self._level and not (factor and self.is_plain_jpeg):
            return self
        reader = TiffReader(self.path, self.pixels, level, self._pages)
        return ReducedReader(reader, factor) if factor and reader.is_plain_jpeg else reader

    def _piece(self, index: int, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Rows and columns of segment `index` as RGB (h, w, 3)."""
        if not self._layout.plain:
            return self._decode(index)[y0:y1, x0:x1]
        planes = [self._stored(int(plane[index, 0]), y0, y1, x0, x1) for plane in self._planes]
        return self._shown(planes)

    def _shown(self, planes: list[np.ndarray]) -> np.ndarray:
        """Planes (h, w, samples) as RGB."""
        values = np.concatenate(planes, axis=-1) if len(planes) > 1 else planes[0]
        values = values if self._conversion is None else self._conversion(values)
        values = values if self._stretch is None else self._stretch[values.astype(np.uint8)]
        return as_rgb(values, self.pixels, self.nodata)

    def _stored(self, offset: int, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """(h, w, samples) of an uncompressed segment at a file's offset; black where the file leaves it out."""
        if not offset:
            return self._left_out(y1 - y0, x1 - x0)
        dtype = np.dtype(self._file.byteorder + self._page.dtype.char)
        pixel = dtype.itemsize * self._layout.samples
        line = self._segment[1] * pixel
        with self._lock:
            handle = self._file.filehandle
            if line - (x1 - x0) * pixel <= PASSED_OVER:
                handle.seek(offset + y0 * line)
                rows = np.frombuffer(handle.read((y1 - y0) * line), dtype)
                return rows.reshape(y1 - y0, self._segment[1], self._layout.samples)[:, x0:x1]
            parts = []
            for y in range(y0, y1):
                handle.seek(offset + y * line + x0 * pixel)
                parts.append(handle.read((x1 - x0) * pixel))
        return np.frombuffer(b"".join(parts), dtype).reshape(y1 - y0, x1 - x0, self._layout.samples)

    def _decode(self, index: int) -> np.ndarray:
        """Segment `index` as RGB (h, w, 3)."""
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
            planes = [self._decode_plane(p, index) for p in range(len(self._planes))]
            piece = self._shown(planes)
            self._cache[index] = piece
            while len(self._cache) > max(1, min(self._wanted, int(self.CACHE_BYTES / piece.nbytes))):
                self._cache.popitem(last=False)
            return piece

    def _decode_plane(self, plane: int, index: int) -> np.ndarray:
        """(h, w, samples) of one plane's segment; black where the file leaves it out."""
        offset, count = map(int, self._planes[plane][index])
        number = plane * len(self._planes[0]) + index if self._page.planarconfig == 2 else index
        handle, page = self._file.filehandle, self._page
        with reading(self.path, f"damaged at segment {index}"):
            decode, tables = page.decode, page.jpegtables  # which may read elsewhere in the file
            handle.seek(offset)
            decoded = decode(handle.read(count) if count else None, number, jpegtables=tables)[0]
        if decoded is None:
            return self._left_out(*self._segment)
        across = -(-self.width // self._segment[1])
        top, left = index // across * self._segment[0], index % across * self._segment[1]
        needed = min(self._segment[0], self.height - top), min(self._segment[1], self.width - left)
        if decoded.shape[1] < needed[0] or decoded.shape[2] < needed[1] or decoded.dtype.kind != page.dtype.kind:
            raise UserError(
                f"{self.path} is damaged at segment {index}: it holds {decoded.shape[1]} x {decoded.shape[2]} pixels "
                f"of {decoded.dtype}, expected {needed[0]} x {needed[1]} of {page.dtype}; replace or remove the file"
            )
        return decoded[0]

    def _left_out(self, h: int, w: int) -> np.ndarray:
        """The value of pixels that the file leaves out: its value for "not measured", else 0."""
        return np.full((h, w, self._layout.samples), self.nodata or 0, self._page.dtype)

    def jpeg_stream(self, index: int) -> bytes:
        """Segment `index` as a JPEG of its own, with the tables that the file keeps once; empty if left out."""
        offset, count = map(int, self._planes[0][index])
        with self._lock:
            self._file.filehandle.seek(offset)
            data = self._file.filehandle.read(count)
        tables = (self._page.jpegtables or b"")[2:-2]  # without its start and end markers
        colours = NOT_YCBCR if self._page.photometric == RGB else b""
        return data and data[:2] + colours + tables + data[2:]

    def _alike(self, page: tifffile.TiffPage) -> list[tifffile.TiffPage]:
        """The file's pages of the same size, type and compression, in any series."""
        return [one for one in self._file.pages if one.hash == page.hash]

    @property
    def page_count(self) -> int:
        """Pages of one size and type, the image's own included."""
        return len(self._alike(self._levels[0].keyframe)) if len(self._file.pages) > 1 else 1

    @property
    def channel_page_count(self) -> int:
        """Pages on which the image's channels lie, as the file says."""
        return channel_pages(self._levels[0].axes, self._levels[0].shape)

    def close(self) -> None:
        self._file.close()


class ReducedReader(SegmentReader):
    """A JPEG-compressed TIFF at 1/2, 1/4 or 1/8: of each block of 8 x 8 only that share of frequencies is decoded."""

    windowed = True

    def __init__(self, reader: TiffReader, factor: int):
        self.path, self.channels, self._full, self._flag = reader.path, reader.channels, reader, REDUCED[factor]
        self.height, self.width = -(-reader.height // factor), -(-reader.width // factor)
        self._segment = reader._segment[0] // factor, -(-reader._segment[1] // factor)

    def _piece(self, index: int, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        stream = self._full.jpeg_stream(index)
        if not stream:
            return np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
        decoded = cv2.imdecode(np.frombuffer(stream, np.uint8), self._flag)
        if decoded is None:
            raise UserError(f"{self.path} is damaged at segment {index}; replace it")
        return as_rgb(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)[y0:y1, x0:x1], self._full.pixels)

    def close(self) -> None:
        self._full.close()


def channel_pages(axes: str, shape: tuple[int, ...]) -> int:
    """How many pages are an image's channels: 1 where they are other images, of which the first is read.

    >>> channel_pages("YXS", (9, 9, 3)), channel_pages("TZCYX", (1, 1, 3, 9, 9)), channel_pages("QYX", (3, 9, 9))
    (1, 3, 3)
    >>> channel_pages("IYX", (5, 9, 9)), channel_pages("SYX", (3, 9, 9))
    (1, 1)
    """
    stack = [(name, size) for name, size in zip(axes, shape, strict=True) if size > 1 and name not in "YXS"]
    if not stack:
        return 1
    name, size = stack[-1]
    return size if name == "C" or (name == "Q" and size in (3, 4)) else 1  # Q: the file does not say
