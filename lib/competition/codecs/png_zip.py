"""A ZIP of 8-bit grey PNGs, one per image, with the value of the object's pixels, or with label indices."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

import numpy as np
from PIL import Image

from lib.competition.codecs.tif_zip import FILE_BYTES_IN_MEMORY, ROWS_PER_STRIP, TifZip
from lib.errors import UserError, reading
from lib.imaging.readers.base import AS_THEY_ARE
from lib.imaging.readers.plain import StreamReader, decoded
from lib.plugins import register

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@register("codec", "png")
class PngZip(TifZip):
    """`<id_template>` files, as of codec `tif`. Written and read by bands: no image is held whole."""

    def encode(self, file: BinaryIO, size: tuple[int, int], bands: Iterator[np.ndarray]) -> None:
        """Write a grey PNG of `size` (height, width) from bands (h, width) uint8."""
        file.write(SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8, 0, 0, 0, 0)))
        packer = zlib.compressobj()
        for band in bands:
            rows = np.zeros((band.shape[0], band.shape[1] + 1), np.uint8)  # each row starts with its filter: none
            rows[:, 1:] = band
            if data := packer.compress(rows.tobytes()):
                file.write(_chunk(b"IDAT", data))
        file.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))

    def decode(self, where: str, file: BinaryIO, size: tuple[int, int]) -> Iterator[tuple[int, int, np.ndarray]]:
        """(y, 0, pixels (h, width)) of bands. Raises UserError unless the file is a grey PNG of 8 bits and `size`."""
        with NamedTemporaryFile(suffix=".png") as copy:
            shutil.copyfileobj(file, copy)
            copy.flush()
            with reading(where, "no readable PNG"), Image.open(copy.name, formats=["PNG"]) as image:
                mode, found = image.mode, image.size[::-1]
                image.verify()
            if mode != "L":
                raise UserError(f"{where} has pixels of Pillow's mode {mode}; one grey channel of 8 bits is expected")
            if found != size:
                raise UserError(f"{where} is {found[0]} x {found[1]}, expected {size[0]} x {size[1]}")
            reader = None
            if size[0] * size[1] > FILE_BYTES_IN_MEMORY:
                reader = StreamReader(Path(copy.name), AS_THEY_ARE, size, 1)
                reader.HELD_BYTES = 1  # no row is read again
            else:
                whole = decoded(Path(copy.name), exif=False)[..., 0]
            for y in range(0, size[0], ROWS_PER_STRIP):
                rows = min(ROWS_PER_STRIP, size[0] - y)
                yield y, 0, whole[y : y + rows] if reader is None else reader.read(y, 0, rows, size[1])[..., 0]


def _chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG: its length, name, content and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
