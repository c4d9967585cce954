"""Previews for the report: a down-sampled map of every image, and its worst region at full resolution.

Made from blocks as they are finished. Memory: some `WORST_CROP` rows of an image, and one preview.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib.imaging.grid import map_step
from lib.inference.windows import Block
from lib.oof.codes import HALF, to_label_codes
from lib.tables import IGNORE

WORST_CROP = 512  # longest side of the worst region, pixels
STRIP = 128  # it starts at a multiple of so many pixels
MIDDLE = np.array([0.8, 1, 1, 0.8])  # how errors count, by strips down and across: they shall lie in its middle


@dataclass(frozen=True)
class Preview:
    """`map` (h, w) uint8: every `map_step`th pixel down and across, as 8-bit probability of one class or label index.

    `worst_crop` (h, w) uint8: the same of the region with most errors, at full resolution. Its first pixel is at
    `corner` (y, x). It is empty where `map` is not down-sampled.
    """

    map: np.ndarray
    worst_crop: np.ndarray
    corner: tuple[int, int] = (0, 0)


class PreviewMaker:
    """Makes the preview of one image from its blocks, which come from the top down, each row from left to right."""

    def __init__(self, height: int, width: int):
        self.height, self.width, self.step = height, width, map_step(height, width)
        self.map = np.zeros((-(-height // self.step), -(-width // self.step)), np.uint8)
        self._worst_crop, self._corner, self._most = np.zeros((0, 0), np.uint8), (0, 0), -1.0
        self._strips: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # of y // STRIP: rows, wrong pixels by x // STRIP

    def add(self, y: int, x: int, values: np.ndarray, wrong: np.ndarray) -> None:
        """A block of label codes (h, w) at (y, x), and which of them are wrong (h, w)."""
        step = self.step
        part = values[-y % step :: step, -x % step :: step]
        top, left = -(-y // step), -(-x // step)
        self.map[top : top + part.shape[0], left : left + part.shape[1]] = part
        if step == 1:
            return
        height, width = values.shape
        cells = (x + np.arange(width)) // STRIP
        for number in range(y // STRIP, -(-(y + height) // STRIP)):
            start, end = max(y, number * STRIP), min(y + height, (number + 1) * STRIP)
            rows, counts = self._strip(number)
            rows[start - number * STRIP : end - number * STRIP, x : x + width] = values[start - y : end - y]
            counts += np.bincount(cells, wrong[start - y : end - y].sum(0), len(counts)).astype(np.int64)
            if x + width == self.width and end == min((number + 1) * STRIP, self.height):
                self._compare(number)

    def _strip(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        if number not in self._strips:
            height = min(STRIP, self.height - number * STRIP)
            self._strips[number] = np.zeros((height, self.width), np.uint8), np.zeros(-(-self.width // STRIP), np.int64)
        return self._strips[number]

    def _compare(self, last: int) -> None:
        """Take the region that ends with this strip, if it has more wrong pixels than any before."""
        numbers = range(max(0, last + 1 - len(MIDDLE)), last + 1)
        if len(numbers) < len(MIDDLE) and (last + 1) * STRIP < self.height:
            return
        wrong = np.stack([self._strips[number][1] for number in numbers])
        wrong = wrong.sum(0) if len(wrong) < len(MIDDLE) else MIDDLE @ wrong
        found = wrong.sum(keepdims=True) if len(wrong) < len(MIDDLE) else np.convolve(wrong, MIDDLE, "valid")
        best = int(found.argmax())
        if found[best] > self._most:
            x = max(0, min(best * STRIP, self.width - WORST_CROP))
            self._most, self._corner = found[best], (numbers[0] * STRIP, x)
            self._worst_crop = np.concatenate([self._strips[number][0][:, x : x + WORST_CROP] for number in numbers])
        del self._strips[numbers[0]]

    def preview(self) -> Preview:
        """The preview, once all blocks were added."""
        return Preview(self.map, self._worst_crop, self._corner)


class PreviewCollector:
    """Makes a preview of every image's last map and hands it to `keep(image_id, preview)`."""

    def __init__(self, channels: int, keep: Callable[[str, Preview], object]):
        self._channels, self._keep, self._maker = channels, keep, None

    def add(self, block: Block, truth: np.ndarray) -> None:
        if block.first:
            self._maker = PreviewMaker(block.height, block.width)
        codes = to_label_codes(block.probs[-1, : self._channels])
        labels = codes >= HALF if self._channels == 1 else codes
        self._maker.add(block.y, block.x, codes, (truth != IGNORE) & (truth != labels))

    def end_image(self, image_id: str) -> None:
        self._keep(image_id, self._maker.preview())


class PreviewWriter:
    """Adds previews to a new file. A context manager."""

    def __init__(self, file: Path | BinaryIO):
        self._file = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def __enter__(self) -> PreviewWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, image_id: str, preview: Preview) -> None:
        with self._file.open(image_id, "w") as entry:
            np.savez(entry, map=preview.map, spot=preview.worst_crop, place=preview.corner)


class PreviewFile:
    """The images' previews in files that `PreviewWriter` wrote. Each is read when it is asked for."""

    def __init__(self, files: list[Path | BinaryIO]):
        self._files = {name: file for file in map(zipfile.ZipFile, files) for name in file.namelist()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __getitem__(self, image_id: str) -> Preview:
        with np.load(io.BytesIO(self._files[image_id].read(image_id))) as saved:
            y, x = saved["place"].tolist()
            return Preview(saved["map"], saved["spot"], (y, x))
