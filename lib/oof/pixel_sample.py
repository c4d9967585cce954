"""A sample of the pixels of out-of-fold maps in memory, on which ensemble weights and class factors are searched."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from lib.inference.windows import Block
from lib.oof.codes import to_planes, to_probs_u8
from lib.tables import IGNORE

POINTS = 2**16  # pixels of an image's sample at most
SAMPLED = 2**25  # bytes of all images' samples together


@dataclass
class PixelSample:
    """A sample of P pixels of N images; pixels of which nothing is known are not among them.

    `image` (P,): their images' places. `bins` and `presence` (P, S, K) uint8: what S models predict, at 8 bits; K is 0
    where no presence is predicted. `truth` (P,) uint8; of classes that overlap (P, K), where `IGNORE` may stand for
    some of them. `pixels` (P,): how many pixels each stands for.
    """

    image: np.ndarray
    bins: np.ndarray
    presence: np.ndarray
    truth: np.ndarray
    pixels: np.ndarray

    def of(self, chosen: np.ndarray) -> PixelSample:
        """The pixels of the images where `chosen` (N,) is true. Places are counted anew from 0."""
        inside = chosen[self.image]
        place = np.cumsum(chosen) - 1
        rest = (getattr(self, name)[inside] for name in ("bins", "presence", "truth", "pixels"))
        return PixelSample(place[self.image[inside]], *rest)

    @staticmethod
    def concat(parts: list[PixelSample], images: list[int]) -> PixelSample:
        """Several sets of images after one another; `images`: how many each has."""
        starts = np.cumsum([0, *images[:-1]])
        return PixelSample(
            np.concatenate([part.image + start for part, start in zip(parts, starts, strict=True)]),
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("bins", "presence", "truth", "pixels")
            ),
        )


class PixelSampler:
    """A collector that takes one seeded pixel of every so many pixels down and across, whatever the blocks are."""

    def __init__(
        self, image_ids: list[str], maps: int, channels: int, presence: bool = False, multilabel: bool = False
    ):
        """The first `maps` maps of each image are sampled. `presence`: as many channels again tell presence.
        `multilabel`: every channel has a truth of its own."""
        self._place = {image_id: place for place, image_id in enumerate(image_ids)}
        each = maps * channels * (1 + presence) + channels * multilabel  # bytes
        self._most = max(16, min(POINTS, SAMPLED // max(1, len(image_ids) * each)))
        self._maps, self._masks = maps, channels
        self._empty = [np.zeros((0, maps, count), np.uint8) for count in (channels, channels * presence)]
        self._no_truth = np.zeros((0, channels) if multilabel else 0, np.uint8)
        self._taken: list[tuple[np.ndarray, ...]] = []
        self._at: tuple[np.ndarray, np.ndarray, int] | None = None

    def add(self, block: Block, truth: np.ndarray) -> None:
        """Takes the sampled pixels of a block; `truth` (h, w) or (K, h, w) uint8."""
        if block.first:
            self._at = self._places(block)
        ys, xs, each = self._at
        h, w = truth.shape[-2:]
        inside = (ys >= block.y) & (ys < block.y + h) & (xs >= block.x) & (xs < block.x + w)
        ys, xs = ys[inside] - block.y, xs[inside] - block.x
        known = (to_planes(truth)[:, ys, xs] != IGNORE).any(0)
        ys, xs = ys[known], xs[known]
        bins = to_probs_u8(block.probs[: self._maps, :, ys, xs]).transpose(2, 0, 1)
        bins, presence = bins[:, :, : self._masks], bins[:, :, self._masks :]
        image = np.full(len(ys), self._place[block.image_id])
        self._taken.append((image, bins, presence, truth[..., ys, xs].T, np.full(len(ys), each)))

    def end_image(self, image_id: str) -> None:
        pass

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

    def sample(self) -> PixelSample:
        """All sampled pixels, in a fixed order."""
        nothing = (np.zeros(0, np.int64), *self._empty, self._no_truth, np.zeros(0, np.int64))
        return PixelSample(*(np.concatenate(columns) for columns in zip(nothing, *self._taken, strict=True)))
