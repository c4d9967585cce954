"""Out-of-fold maps at 8 bits: whole ones of every system in a compressed file, and a sample of their pixels in memory.

Neither is ever held whole: blocks are written as they are finished, and read again one at a time.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.inference.sliding_window import Block
from lib.tables import IGNORE

POINTS = 2**16  # pixels of an image's sample at most
BAND = 2**21  # pixels of a band
SAMPLED = 2**25  # bytes of all images' samples together


class MapWriter:
    """Adds finished blocks to a new file; used as a context."""

    def __init__(self, path: Path):
        self._file = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def __enter__(self) -> MapWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, block: Block, bins: np.ndarray, truth: np.ndarray) -> None:
        """A block's `bins` (S, K, h, w) and `truth` (h, w), both uint8."""
        systems, channels, h, w = bins.shape
        name = f"{block.image_id}/{block.y}_{block.x}_{systems}x{channels}x{h}x{w}"
        with self._file.open(name, "w", force_zip64=True) as entry:
            entry.write(np.ascontiguousarray(truth).data)
            entry.write(np.ascontiguousarray(bins).data)


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

    They come back in bands of some `BAND` pixels at most: whoever looks at them takes a few bytes for each.
    """

    def __init__(self, rows: Iterable[np.ndarray], folder: Path | None = None):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (for the maps' life)
        self._shapes = []
        for tall in rows:
            height = max(1, BAND // tall.shape[-1])
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


@dataclass
class Points:
    """A sample of P pixels of N images: `image` (P,) their places among the images, `bins` and `presence` (P, S, K)
    uint8 (K is 0 of presence that is not told), `truth` (P,) uint8, and `pixels` (P,), how many pixels each stands for.
    Ignored pixels are not among them."""

    image: np.ndarray
    bins: np.ndarray
    presence: np.ndarray
    truth: np.ndarray
    pixels: np.ndarray

    def of(self, chosen: np.ndarray) -> Points:
        """The points of the images where `chosen` (N,) is true, counted anew from 0."""
        here = chosen[self.image]
        place = np.cumsum(chosen) - 1
        rest = (getattr(self, name)[here] for name in ("bins", "presence", "truth", "pixels"))
        return Points(place[self.image[here]], *rest)

    @staticmethod
    def concat(parts: list[Points], images: list[int]) -> Points:
        """Several sets of images after one another; `images`: how many each has."""
        starts = np.cumsum([0, *images[:-1]])
        return Points(
            np.concatenate([part.image + start for part, start in zip(parts, starts, strict=True)]),
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("bins", "presence", "truth", "pixels")
            ),
        )


class Sampler:
    """Takes one seeded pixel of every so many pixels down and across, whatever the blocks are."""

    def __init__(self, images: int, systems: int, channels: int, presence: bool = False):
        """`presence`: blocks hold as many channels again, of presence."""
        self._most = max(16, min(POINTS, SAMPLED // max(1, images * systems * channels * (1 + presence))))
        self._masks = channels
        self._empty = [np.zeros((0, systems, count), np.uint8) for count in (channels, channels * presence)]
        self._taken: list[tuple[np.ndarray, ...]] = []
        self._at: tuple[np.ndarray, np.ndarray, int] | None = None

    def add(self, image: int, block: Block, to_bins, truth: np.ndarray) -> None:
        """The sampled pixels of a block; `image`: its image's place; `to_bins`: probabilities to uint8."""
        if block.first:
            self._at = self._places(block)
        ys, xs, each = self._at
        h, w = truth.shape
        inside = (ys >= block.y) & (ys < block.y + h) & (xs >= block.x) & (xs < block.x + w)
        ys, xs = ys[inside] - block.y, xs[inside] - block.x
        known = truth[ys, xs] != IGNORE
        ys, xs = ys[known], xs[known]
        bins = to_bins(block.probs[:, :, ys, xs]).transpose(2, 0, 1)
        bins, presence = bins[:, :, : self._masks], bins[:, :, self._masks :]
        self._taken.append((np.full(len(ys), image), bins, presence, truth[ys, xs], np.full(len(ys), each)))

    def _places(self, block: Block) -> tuple[np.ndarray, np.ndarray, int]:
        """Rows and columns of an image's sample, and how many pixels each stands for."""
        step = 1
        while -(-block.height // step) * -(-block.width // step) > self._most:
            step += 1
        rng = np.random.default_rng(zlib.crc32(block.image_id.encode()))
        ys, xs = np.mgrid[0 : block.height : step, 0 : block.width : step].reshape(2, -1)
        ys, xs = ys + rng.integers(step, size=ys.shape), xs + rng.integers(step, size=xs.shape)
        inside = (ys < block.height) & (xs < block.width)
        return ys[inside], xs[inside], step * step

    def points(self) -> Points:
        """Everything taken, in a fixed order."""
        nothing = (np.zeros(0, np.int64), *self._empty, np.zeros(0, np.uint8), np.zeros(0, np.int64))
        return Points(*(np.concatenate(columns) for columns in zip(nothing, *self._taken, strict=True)))
