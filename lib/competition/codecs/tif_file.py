"""Answers as TIFFs of 8 bits, compressed in strips. They may keep the place on Earth of their image."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

from lib.competition.codecs.file_form import ROWS_PER_STRIP, FileForm, Part
from lib.errors import UserError, reading
from lib.imaging.readers.tiff_layout import checked_layout
from lib.imaging.writers.pyramid_tiff import geo_tags_of
from lib.plugins import register


@register("answer_file", ".tif")
@register("answer_file", ".tiff")
class TifFile(FileForm):
    """One band of numbers, or red, green and blue."""

    colours = georeferenced = True

    def encode(self, file: BinaryIO, size: tuple[int, int], bands: Iterator[np.ndarray], image: Path | None) -> None:
        shape = size if self.samples == 1 else (*size, self.samples)
        tifffile.imwrite(
            file, _strips(bands), shape=shape, dtype=np.uint8, rowsperstrip=ROWS_PER_STRIP, compression="adobe_deflate",
            photometric="minisblack" if self.samples == 1 else "rgb", bigtiff=int(np.prod(shape)) >= 2**32,
            metadata=None, software=False, extratags=_place_of(image) if image else (),
        )  # fmt: skip

    def decode(self, where: str, file: BinaryIO, size: tuple[int, int], image: Path | None) -> Iterator[Part]:
        """The strips or tiles."""
        with reading(where, "not a readable TIFF"), tifffile.TiffFile(file) as tif:
            page = tif.pages.first
            if len(tif.pages) > 1 or page.samplesperpixel != self.samples or page.dtype != np.uint8:
                wanted = "one of uint8 is" if self.samples == 1 else f"{self.samples} of uint8 are"
                bands = f"{len(tif.pages)} x {page.samplesperpixel} bands of {page.dtype}"
                raise UserError(f"{where} has {bands}; {wanted} expected")
            if (page.imagelength, page.imagewidth) != size or page.planarconfig == 2:
                raise UserError(f"{where} is {' x '.join(map(str, page.shape))}, expected {size[0]} x {size[1]}")
            checked_layout(where, [page], page)  # checks the header
            # One worker: several read ahead, and hold what they decoded.
            for segment, (*_, y, x, _), (_, h, w, _) in page.segments(maxworkers=1):
                if segment is None:  # not stored: zeros
                    segment = np.zeros((1, h, w, self.samples), np.uint8)
                part = segment[0, :h, :w]
                yield y, x, np.ascontiguousarray(part[..., 0] if self.samples == 1 else part)


def _place_of(image: Path) -> list[tuple]:
    """The tags that say where on Earth an image lies. Raises UserError where it has none."""
    tags = geo_tags_of(image)
    if not tags:
        raise UserError(
            f"{image} is not a TIFF with a georeference, which competition.submission.georeference would copy into its "
            "answer; set it to false"
        )
    return tags


def _strips(bands: Iterator[np.ndarray]) -> Iterator[bytes]:
    """Bands (h, w, …) of any height as compressed strips of `ROWS_PER_STRIP` rows. The last strip may be shorter."""
    rows: list[np.ndarray] = []
    for band in bands:
        while sum(map(len, rows)) + len(band) >= ROWS_PER_STRIP:
            cut = ROWS_PER_STRIP - sum(map(len, rows))
            yield zlib.compress(np.concatenate([*rows, band[:cut]]))
            rows, band = [], band[cut:]
        if len(band):
            rows.append(band)
    if rows:
        yield zlib.compress(np.concatenate(rows))
