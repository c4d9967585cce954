"""Answers as PNGs of 8 bits, grey or in colours. Written and read by bands: no image is held whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from lib.competition.codecs.file_form import FILE_BYTES_IN_MEMORY, ROWS_PER_STRIP, FileForm, Part, copy_on_disk
from lib.errors import UserError, reading
from lib.imaging.readers.base import AS_THEY_ARE
from lib.imaging.readers.plain import StreamReader, decoded
from lib.plugins import register

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MODES = {1: ("L", "one grey channel of 8 bits is"), 3: ("RGB", "red, green and blue of 8 bits are")}
"""Samples of a pixel -> Pillow's mode, and what is expected, in words."""


@register("answer_file", ".png")
class PngFile(FileForm):
    """One grey channel, or red, green and blue."""

    colours = True

    def encode(self, file: BinaryIO, size: tuple[int, int], bands: Iterator[np.ndarray], image: Path | None) -> None:
        kind = 0 if self.samples == 1 else 2  # PNG's number of grey and of RGB
        file.write(SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8, kind, 0, 0, 0)))
        packer = zlib.compressobj()
        for band in bands:
            rows = np.zeros((band.shape[0], size[1] * self.samples + 1), np.uint8)  # a row's first byte: no filter
            rows[:, 1:] = band.reshape(len(band), -1)
            if data := packer.compress(rows.tobytes()):
                file.write(_chunk(b"IDAT", data))
        file.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))

    def decode(self, where: str, file: BinaryIO, size: tuple[int, int], image: Path | None) -> Iterator[Part]:
        """Bands of rows."""
        with copy_on_disk(file, ".png") as copy:
            with reading(where, "not a readable PNG"), Image.open(copy, formats=["PNG"]) as picture:
                mode, found = picture.mode, picture.size[::-1]
                picture.verify()
            wanted, words = MODES[self.samples]
            if mode != wanted:
                raise UserError(f"{where} has pixels of Pillow's mode {mode}; {words} expected")
            if found != size:
                raise UserError(f"{where} is {found[0]} x {found[1]}, expected {size[0]} x {size[1]}")
            reader = None
            if size[0] * size[1] * self.samples > FILE_BYTES_IN_MEMORY:
                reader = StreamReader(copy, AS_THEY_ARE, size, self.samples)
                reader.HELD_BYTES = 1  # no row is read again
            else:
                whole = decoded(copy, exif=False)
            for y in range(0, size[0], ROWS_PER_STRIP):
                rows = min(ROWS_PER_STRIP, size[0] - y)
                band = whole[y : y + rows] if reader is None else reader.read(y, 0, rows, size[1])
                yield y, 0, band[..., 0] if self.samples == 1 else band


def _chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG: its length, name, content and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
