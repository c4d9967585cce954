"""Tiled, compressed TIFFs with smaller levels, as viewers and GIS programs open them; the place on Earth is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from lib.imaging.readers.tiff import TIFF_SUFFIXES
from lib.imaging.writers.spool import Spool

TIFF_TILE = 512  # side of a tile, pixels; the smallest level fits into one
COMPRESSED_BYTES = 2**24  # of tiles that are compressed together
LARGEST_CLASSIC_TIFF = 2**31  # bytes before compression; a classic TIFF ends at 4 GiB, and levels add a third
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
"""ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory, GeoDoubleParams, GeoAsciiParams."""


def write_pyramid_tiff(path: Path, spool: Spool, geo_tags: list[tuple] = ()) -> None:
    """Write a spool as a TIFF of 8 bits: one band for each plane, deflate-compressed tiles.

    Smaller levels stand in SubIFDs. Level n has every 2**n-th row and column, because a mean of label indices would be
    another label. `geo_tags`: see `geo_tags_of`.
    """
    levels = level_count(spool.height, spool.width)
    size = spool.planes * spool.height * spool.width
    with tifffile.TiffWriter(path, bigtiff=size >= LARGEST_CLASSIC_TIFF) as file:
        for level in range(levels + 1):
            shape = level_size(spool.height, spool.width, level)
            several = spool.planes > 1
            file.write(
                tiles_of(spool, level), shape=(spool.planes, *shape) if several else shape, dtype=np.uint8,
                tile=(TIFF_TILE, TIFF_TILE), planarconfig="separate" if several else None, photometric="minisblack",
                compression="adobe_deflate", buffersize=COMPRESSED_BYTES, metadata=None, software=False,
                subifds=0 if level else levels, subfiletype=int(level > 0), extratags=() if level else geo_tags,
            )  # fmt: skip


def level_count(height: int, width: int) -> int:
    """How many smaller levels a TIFF has.

    >>> level_count(512, 300), level_count(513, 300), level_count(100_000, 80_000)
    (0, 1, 8)
    """
    count = 0
    while max(level_size(height, width, count)) > TIFF_TILE:
        count += 1
    return count


def level_size(height: int, width: int, level: int) -> tuple[int, int]:
    """
    >>> level_size(1025, 600, 1)
    (513, 300)
    """
    return -(-height // 2**level), -(-width // 2**level)


def tiles_of(spool: Spool, level: int) -> Iterator[np.ndarray]:
    """The tiles of a level, plane by plane, row by row; at the right and lower rim they are filled up with 0."""
    side = TIFF_TILE * 2**level  # pixels of the spool that a tile shows
    for plane in range(spool.planes):
        for y in range(0, spool.height, side):
            for x in range(0, spool.width, side):
                rows, columns = (y, min(y + side, spool.height)), (x, min(x + side, spool.width))
                part = spool.read(plane, rows, columns, 2**level)
                tile = np.zeros((TIFF_TILE, TIFF_TILE), np.uint8)
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile


def geo_tags_of(path: Path) -> list[tuple]:
    """The tags that say where on Earth a TIFF lies, as `tifffile` writes them; none for another file."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return []
    with tifffile.TiffFile(path) as file:
        tags = [file.pages.first.tags.get(code) for code in GEO_TAGS]
        return [(tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in tags if tag is not None]
