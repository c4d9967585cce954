"""TIFF through tifffile: only the segments (tiles or strips) under a window are read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import tifffile

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.readers.base import ImageReader, check, shown

TIFF_SUFFIXES = (".tif", ".tiff")


class TiffReader(ImageReader):
    """TIFF, tiled or striped; colours may be interleaved, in planes, or in a page each. The finest level is read.

    Of uncompressed segments just the rows under a window are read, so that not even a single strip that holds the
    whole image is read whole; of others the last decoded ones are kept.
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
        self._planar = page.planarconfig == 2 and page.samplesperpixel > 1
        self._samples = 1 if self._planar else page.samplesperpixel  # of a segment's pixel
        self.channels = page.samplesperpixel * len(pages)
        check(path, "" if page.dtype == np.uint8 else f"{page.dtype} pixels", self.channels, pixels)
        end = max(o + n for p in pages for o, n in zip(p.dataoffsets, p.databytecounts, strict=True))
        if end > path.stat().st_size:
            raise UserError(f"{path} is truncated: {path.stat().st_size} bytes, its header promises {end}")

        # Planes of (offset, bytes) by segment, each with one sample a pixel, or with all of them.
        segments = [list(zip(p.dataoffsets, p.databytecounts, strict=True)) for p in pages]
        if self._planar:
            count = len(segments[0]) // page.samplesperpixel
            segments = [segments[0][i * count : (i + 1) * count] for i in range(page.samplesperpixel)]
        self._planes = segments
        strip = min(page.rowsperstrip, self.height), self.width  # "all rows" may be written as 2**32 - 1
        self._segment = (page.tilelength, page.tilewidth) if page.is_tiled else strip
        plain_bits = page.bitspersample == page.dtype.itemsize * 8
        self._plain = page.compression == 1 and page.predictor == 1 and page.fillorder == 1 and plain_bits
        self.undividable = not self._plain and self._segment[0] * self._segment[1] * 3 > self.CACHE_BYTES
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        sh, sw = self._segment
        across = -(-self.width // sw)
        out = np.empty((h, w, 3), np.uint8)
        for row in range(y // sh, (y + h - 1) // sh + 1):
            for column in range(x // sw, (x + w - 1) // sw + 1):
                top, left = row * sh, column * sw
                y0, y1 = max(y, top), min(y + h, top + sh)
                x0, x1 = max(x, left), min(x + w, left + sw)
                box = y0 - top, y1 - top, x0 - left, x1 - left
                out[y0 - y : y1 - y, x0 - x : x1 - x] = self._piece(row * across + column, *box)
        return out

    def _piece(self, index: int, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Rows and columns of segment `index` as RGB (h, w, 3)."""
        if not self._plain:
            return self._decode(index)[y0:y1, x0:x1]
        planes = [self._stored(plane[index][0], y0, y1, x0, x1) for plane in self._planes]
        return shown(np.concatenate(planes, axis=-1) if len(planes) > 1 else planes[0], self.pixels)

    def _stored(self, offset: int, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """(h, w, samples) of an uncompressed segment at a file's offset; black where the file leaves it out."""
        if not offset:
            return np.zeros((y1 - y0, x1 - x0, self._samples), self._page.dtype)
        dtype = np.dtype(self._file.byteorder + self._page.dtype.char)
        pixel = dtype.itemsize * self._samples
        line = self._segment[1] * pixel
        with self._lock:
            handle = self._file.filehandle
            if 2 * (x1 - x0) > self._segment[1]:
                handle.seek(offset + y0 * line)
                rows = np.frombuffer(handle.read((y1 - y0) * line), dtype)
                return rows.reshape(y1 - y0, self._segment[1], self._samples)[:, x0:x1]
            parts = []
            for y in range(y0, y1):
                handle.seek(offset + y * line + x0 * pixel)
                parts.append(handle.read((x1 - x0) * pixel))
        return np.frombuffer(b"".join(parts), dtype).reshape(y1 - y0, x1 - x0, self._samples)

    def _decode(self, index: int) -> np.ndarray:
        """Segment `index` as RGB (h, w, 3)."""
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
            planes = [self._decode_plane(p, index) for p in range(len(self._planes))]
            piece = shown(np.concatenate(planes, axis=-1) if len(planes) > 1 else planes[0], self.pixels)
            self._cache[index] = piece
            while sum(p.nbytes for p in self._cache.values()) > self.CACHE_BYTES and len(self._cache) > 1:
                self._cache.popitem(last=False)
            return piece

    def _decode_plane(self, plane: int, index: int) -> np.ndarray:
        """(h, w, samples) of one plane's segment; black where the file leaves it out."""
        offset, count = self._planes[plane][index]
        page = self._page
        self._file.filehandle.seek(offset)
        data = self._file.filehandle.read(count)
        try:
            number = plane * len(self._planes[0]) + index if self._planar else index
            decoded = page.decode(data, number, jpegtables=page.jpegtables)[0]
        except Exception as error:  # every codec raises its own kind
            raise UserError(f"{self.path} is damaged at segment {index} ({error}); replace it") from None
        return np.zeros((*self._segment, self._samples), page.dtype) if decoded is None else decoded[0]

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
