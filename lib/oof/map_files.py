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

from lib.inference.windows import Block
from lib.oof.codes import to_probs_u8

BAND_PIXELS = 2**21  # pixels of a band


class MapWriter:
    """Adds finished blocks to a new file; used as a context."""

    def __init__(self, path: Path):
        self._file = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def __enter__(self) -> MapWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, block: Block, truth: np.ndarray) -> None:
        """A block of maps, which are kept at 8 bits, and its true labels (h, w) uint8."""
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
        """(y, x, bins (S, K, h, w), truth (h, w)): rows of blocks from the top down, each from left to right."""
        for file, name in self._entries[image_id]:
            y, x, systems, channels, h, w = _numbers(name)
            data = np.frombuffer(file.read(name), np.uint8)
            yield y, x, data[h * w :].reshape(systems, channels, h, w), data[: h * w].reshape(h, w)

    def size(self, image_id: str) -> tuple[int, int]:
        """(height, width)"""
        y, x, _, _, h, w = _numbers(self._entries[image_id][-1][1])
        return y + h, x + w


def _numbers(name: str) -> list[int]:
    """What an entry's name says: y, x, systems, channels, h, w."""
    return [int(word) for word in re.split("[_x]", name.rpartition("/")[2])]


def in_rows(blocks: Iterable[tuple[int, int, np.ndarray]], width: int) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks (y, x, values (…, h, w)) in the order of `Maps.blocks` → (y, values (…, h, width)) from the top down."""
    pieces: dict[int, list[np.ndarray]] = {}
    for y, x, values in blocks:
        pieces.setdefault(y, []).append(values)
        if x + values.shape[-1] == width:
            yield y, np.concatenate(pieces.pop(y), axis=-1)


class Bands:
    """Rows (…, h, W) uint8 of an image in a nameless file of `folder`, to be gone through again and again.

    They come back in bands of some `BAND_PIXELS` pixels at most: whoever looks at them takes a few bytes for each.
    """

    def __init__(self, rows: Iterable[np.ndarray], folder: Path | None = None):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (for the maps' life)
        self._shapes = []
        for tall in rows:
            height = max(1, BAND_PIXELS // tall.shape[-1])
            for top in range(0, tall.shape[-2], height):
                band = np.ascontiguousarray(tall[..., top : top + height, :])
                self._file.write(band.data)
                self._shapes.append(band.shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        offset = 0
        for shape in self._shapes:
            band = np.empty(shape, np.uint8)
            self._file.seek(offset)
            self._file.readinto(band.data)
            offset += band.nbytes
            yield band

    def channel(self, c: int | slice) -> Channel:
        """Rows (h, W) of one of C, or (…, h, W) of several, as often as wanted."""
        return Channel(self, c)


@dataclass(frozen=True)
class Channel:
    """One channel of bands, or several."""

    bands: Bands
    channel: int | slice

    def __iter__(self) -> Iterator[np.ndarray]:
        return (band[self.channel] for band in self.bands)
