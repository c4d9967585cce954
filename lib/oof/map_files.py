"""Out-of-fold maps at 8 bits: whole ones of every system in a compressed file, and a sample of their pixels in memory.

Neither is ever held whole: blocks are written as they are finished, and read again one at a time.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.imaging.geometry import band_height, joined_rows
from lib.inference.windows import Block
from lib.oof.codes import to_probs_u8


class MapWriter:
    """Adds finished blocks to a new file; used as a context."""

    def __init__(self, path: Path):
        self._file = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def __enter__(self) -> MapWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, block: Block, truth: np.ndarray) -> None:
        """A block of maps, which are kept at 8 bits, and its true labels uint8."""
        bins = to_probs_u8(block.probs)
        systems, channels, h, w = bins.shape
        name = f"{block.image_id}/{block.y}_{block.x}_{systems}x{channels}x{h}x{w}"
        with self._file.open(name, "w", force_zip64=True) as entry:
            entry.write(np.ascontiguousarray(truth).data)
            entry.write(np.ascontiguousarray(bins).data)

    def end_image(self, image_id: str) -> None:
        pass


def image_ids_in(path: Path) -> set[str]:
    """The images whose maps, or previews, a file holds."""
    with zipfile.ZipFile(path) as file:
        return {name if path.suffix == ".shown" else name.rpartition("/")[0] for name in file.namelist()}


class Maps:
    """Reads what `MapWriter` wrote, of several files (folds)."""

    def __init__(self, paths: Iterable[Path]):
        self._entries: dict[str, list[tuple[zipfile.ZipFile, str]]] = {}
        for path in paths:
            file = zipfile.ZipFile(path)
            for name in file.namelist():
                self._entries.setdefault(name.rpartition("/")[0], []).append((file, name))

    def blocks(self, image_id: str) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """(y, x, codes of probabilities (S, K, h, w), truth planes (T, h, w)): rows of blocks from the top down, each
        from left to right."""
        for file, name in self._entries[image_id]:
            y, x, systems, channels, h, w = _numbers(name)
            planes = np.frombuffer(file.read(name), np.uint8).reshape(-1, h, w)
            truth, probs = np.split(planes, [len(planes) - systems * channels])
            yield y, x, probs.reshape(systems, channels, h, w), truth

    def size(self, image_id: str) -> tuple[int, int]:
        """(height, width)"""
        y, x, _, _, h, w = _numbers(self._entries[image_id][-1][1])
        return y + h, x + w


def _numbers(name: str) -> list[int]:
    """What an entry's name says: y, x, systems, channels, h, w."""
    return [int(word) for word in re.split("[_x]", name.rpartition("/")[2])]


def in_rows(blocks: Iterable[tuple[int, int, np.ndarray]], width: int) -> Iterator[np.ndarray]:
    """Blocks (y, x, values (C, h, w)) in the order of `Maps.blocks` → rows (C, h, width) from the top down."""
    pieces: dict[int, list[np.ndarray]] = {}
    for y, x, values in blocks:
        pieces.setdefault(y, []).append(values)
        if x + values.shape[-1] == width:
            yield from (rows for _, rows in joined_rows(pieces.pop(y)))


class Bands:
    """Rows (C, h, W) uint8 of an image in a nameless file of `folder`, to be gone through again and again.

    They come back in bands of some `BAND_PIXELS` pixels at most: whoever looks at them takes a few bytes for each.
    """

    def __init__(self, rows: Iterable[np.ndarray], folder: Path | None = None):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (for the maps' life)
        self._shapes = []
        for tall in rows:
            height = band_height(len(tall), tall.shape[-1])
            for top in range(0, tall.shape[-2], height):
                band = np.ascontiguousarray(tall[:, top : top + height])
                self._file.write(band.data)
                self._shapes.append(band.shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.planes(None))

    def planes(self, first: int | None, stop: int | None = None) -> PlaneReader:
        """Bands (C, h, W) of the planes from `first` to `stop`, as in a slice, as often as wanted."""
        return PlaneReader(self, slice(first, stop))

    def plane(self, number: int) -> PlaneReader:
        """Bands (h, W) of one plane, as often as wanted; a negative number counts from the last one."""
        return PlaneReader(self, number)

    def read(self, chosen: slice | int) -> Iterator[np.ndarray]:
        """The bands of some planes; others are not read."""
        offset = 0
        for planes, height, width in self._shapes:
            numbers = range(planes)[chosen] if isinstance(chosen, slice) else [range(planes)[chosen]]
            band = np.empty((len(numbers), height, width), np.uint8)
            self._file.seek(offset + numbers[0] * height * width)
            self._file.readinto(band.data)
            offset += planes * height * width
            yield band if isinstance(chosen, slice) else band[0]


@dataclass(frozen=True)
class PlaneReader:
    """Some planes of bands, or one."""

    bands: Bands
    chosen: slice | int

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.bands.read(self.chosen)
