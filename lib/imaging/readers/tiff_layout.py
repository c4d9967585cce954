"""Where a TIFF keeps the pixels of a page. What the header says is checked against the size of the file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tifffile

from lib.errors import UserError
from lib.imaging.readers.base import MOST_EXPANSION, check_expansion

DENSE_CODECS = (1, 5, 6, 7, 8, 32773, 32946)  # none, LZW, JPEG, deflate, PackBits: up to 2,700 bytes from one
FAX_CODECS = (2, 3, 4)  # a line of any length may take a single bit
ZSTD_EXPANSION = 40_000  # bytes from one: a block of 128 KiB takes four


@dataclass(frozen=True)
class Layout:
    """The segments (tiles or strips) of a page, from left to right and down."""

    height: int
    width: int
    segment: tuple[int, int]
    """Height and width of a segment; those at the border may be smaller."""
    samples: int
    """Values of each pixel in a segment."""
    planes: list[np.ndarray]
    """By plane, (offset, bytes) of each of its segments; a plane holds one sample of each pixel, or all of them."""
    plain: bool
    """Whether the values are stored as they are, so that rows can be read from the middle of a segment."""

    def segment_bytes(self, itemsize: int) -> int:
        """Bytes of a decoded segment."""
        return self.segment[0] * self.segment[1] * self.samples * itemsize


def checked_layout(path: str, pages: list[tifffile.TiffPage], page: tifffile.TiffPage) -> Layout:
    """The layout of an image whose channels lie on `pages`; `page` has the tags that they share.

    Raises UserError where the file is shorter than its header says, or holds pixels that cannot be read.
    """
    height, width, samples = int(page.imagelength), int(page.imagewidth), int(page.samplesperpixel)
    _check_type(path, page)
    planar = page.planarconfig == 2 and samples > 1
    # "All rows" may be written as 2**32 - 1.
    strip = min(int(page.rowsperstrip), height), width
    segment = (int(page.tilelength), int(page.tilewidth)) if page.is_tiled else strip
    if min(height, width, samples, *segment) < 1:
        raise UserError(f"{path} is damaged: it has {height} x {width} pixels in pieces of {segment}; replace the file")
    planes = [np.array([one.dataoffsets, one.databytecounts], np.int64).reshape(2, -1).T for one in pages]
    if planar:
        each = len(planes[0]) // samples
        planes = [planes[0][i * each : (i + 1) * each] for i in range(samples)]
    whole_bits = page.bitspersample == page.dtype.itemsize * 8
    stored = page.compression == 1 and page.predictor == 1 and page.fillorder == 1
    plain = stored and whole_bits and not page.is_subsampled
    layout = Layout(height, width, segment, 1 if planar else samples, planes, plain)
    _check_size(path, layout, page)
    return layout


def _check_type(path: str, page: tifffile.TiffPage) -> None:
    if isinstance(page.bitspersample, tuple):
        bits = ", ".join(map(str, page.bitspersample))
        raise UserError(f"{path} has channels of different depth ({bits} bits); convert them to one depth")
    if page.dtype is None or page.dtype.kind not in "buif":
        kind = page.dtype or f"{page.bitspersample} bits in sample format {page.sampleformat}"
        raise UserError(f"{path} has pixels of a type that is not read ({kind}); convert them to whole or real numbers")


def _check_size(path: str, layout: Layout, page: tifffile.TiffPage) -> None:
    """Raises UserError where segments are missing, lie behind the file's end, or are too small for their pixels."""
    (rows, columns), size = layout.segment, page.parent.filehandle.size
    across, down = -(-layout.width // columns), -(-layout.height // rows)
    for plane in layout.planes:
        if len(plane) < across * down:
            raise UserError(
                f"{path} is damaged: its header promises {across * down} pieces of {rows} x {columns} pixels and lists "
                f"{len(plane)}; replace the file"
            )
        offsets, counts = plane[: across * down].T
        if layout.plain:  # some writers give no byte counts
            line = columns * layout.samples * page.dtype.itemsize
            counts = np.full(len(offsets), rows * line)
            if not page.is_tiled:  # the last strip may be shorter
                counts[-across:] = (layout.height - (down - 1) * rows) * line
        end = int((offsets.clip(max=size) + counts.clip(max=size + 1))[offsets != 0].max(initial=0))
        if max(end, offsets.max()) > size or min(offsets.min(), counts.min()) < 0:
            raise UserError(f"{path} is truncated: {size} bytes, its header promises {end}; copy it anew")
        decoded, most = layout.segment_bytes(page.dtype.itemsize), MOST_EXPANSION
        if page.compression not in DENSE_CODECS:
            most = 8 * layout.width if page.compression in FAX_CODECS else ZSTD_EXPANSION
        check_expansion(path, decoded, int(counts.max()), most)
