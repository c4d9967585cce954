"""Previews for the report: a down-sampled map of every image, and its worst region at full resolution.

Made from blocks as they are finished. Memory: some `WORST_CROP` rows of an image, which wait in a file beyond
`STRIP_BYTES`, and one preview.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib.config.competition import CompetitionSettings
from lib.imaging.geometry import Box
from lib.imaging.grid import map_step
from lib.inference.windows import Block
from lib.oof.codes import HALF, to_codes, to_planes
from lib.system.disk_cache import DiskCache
from lib.tables import IGNORE

WORST_CROP = 512  # longest side of the worst region, pixels
STRIP = 128  # it starts at a multiple of so many pixels
STRIP_BYTES = 2**26  # of rows that are held in memory
MIDDLE = np.array([0.8, 1, 1, 0.8])  # how errors count, by strips down and across: they shall lie in its middle


@dataclass(frozen=True)
class Preview:
    """`map` (C, h, w) uint8: every `map_step`th pixel down and across, as codes (lib/oof/codes.py).

    `worst_crop` (C, h, w) uint8: the same of the region with most errors, at full resolution. Its first pixel is at
    `corner` (y, x). It is empty where `map` is not down-sampled.
    """

    map: np.ndarray
    worst_crop: np.ndarray
    corner: tuple[int, int] = (0, 0)


class PreviewMaker:
    """Makes the preview of one image from its blocks, which come from the top down, each row from left to right."""

    def __init__(self, height: int, width: int, planes: int = 1, folder: Path | None = None):
        """`planes`: how many codes a pixel has. `folder`: for the file."""
        self.height, self.width, self.step = height, width, map_step(height, width)
        self.map = np.zeros((planes, -(-height // self.step), -(-width // self.step)), np.uint8)
        self._worst_crop, self._corner, self._most = np.zeros((planes, 0, 0), np.uint8), (0, 0), -1.0
        self._parts = DiskCache(STRIP_BYTES, folder)
        self._strips: dict[int, tuple[list[Box], np.ndarray]] = {}  # of y // STRIP: parts, wrong pixels by x // STRIP

    def add(self, y: int, x: int, values: np.ndarray, wrong: np.ndarray) -> None:
        """A block of codes (C, h, w) at (y, x), and which of its pixels are wrong (h, w)."""
        step = self.step
        part = values[:, -y % step :: step, -x % step :: step]
        top, left = -(-y // step), -(-x // step)
        self.map[:, top : top + part.shape[1], left : left + part.shape[2]] = part
        if step == 1:
            return
        height, width = values.shape[1:]
        cells = (x + np.arange(width)) // STRIP
        for number in range(y // STRIP, -(-(y + height) // STRIP)):
            start, end = max(y, number * STRIP), min(y + height, (number + 1) * STRIP)
            parts, counts = self._strips.setdefault(number, ([], np.zeros(-(-self.width // STRIP), np.int64)))
            parts.append((start, x, end - start, width))
            self._parts.put(parts[-1], values[:, start - y : end - y].copy())
            counts += np.bincount(cells, wrong[start - y : end - y].sum(0), len(counts)).astype(np.int64)
            if x + width == self.width and end == min((number + 1) * STRIP, self.height):
                self._compare(number)

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
            self._worst_crop = self._cut(numbers, x)
        for part in self._strips.pop(numbers[0])[0]:
            self._parts.forget(part)

    def _cut(self, numbers: range, x: int) -> np.ndarray:
        """The codes (C, h, w) of some strips, from column `x` on."""
        top, bottom = numbers[0] * STRIP, min((numbers[-1] + 1) * STRIP, self.height)
        out = np.zeros((len(self.map), bottom - top, min(WORST_CROP, self.width - x)), np.uint8)
        for part in (part for number in numbers for part in self._strips[number][0]):
            y, left, height, width = part
            first, stop = max(x, left), min(x + out.shape[2], left + width)
            if first < stop:
                values = self._parts.get(part)[:, :, first - left : stop - left]
                out[:, y - top : y - top + height, first - x : stop - x] = values
        return out

    def preview(self) -> Preview:
        """The preview, once all blocks were added."""
        return Preview(self.map, self._worst_crop, self._corner)


class PreviewCollector:
    """Makes a preview of every image's last map and hands it to `keep(image_id, preview)`."""

    def __init__(
        self, settings: CompetitionSettings, keep: Callable[[str, Preview], object], folder: Path | None = None
    ):
        """`folder`: for files of what does not fit into memory."""
        self._settings, self._keep, self._folder, self._maker = settings, keep, folder, None

    def add(self, block: Block, truth: np.ndarray) -> None:
        channels, binary = self._settings.channels, self._settings.binary
        codes = to_codes(block.probs[-1, :channels], binary)
        if block.first:
            self._maker = PreviewMaker(block.height, block.width, len(codes), self._folder)
        self._maker.add(block.y, block.x, codes, wrong_pixels(to_planes(truth), codes >= HALF if binary else codes))

    def end_image(self, image_id: str) -> None:
        self._keep(image_id, self._maker.preview())


def wrong_pixels(truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Pixels (h, w) bool of which some plane of the labels (T, h, w) is known not to be the truth."""
    return ((truth != IGNORE) & (truth != labels)).any(0)


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
            return Preview(to_planes(saved["map"]), to_planes(saved["spot"]), (y, x))  # earlier versions had no planes
