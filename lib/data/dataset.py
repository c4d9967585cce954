"""The torch dataset of training tiles: images, targets and weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from lib.data.augment import Augmentation
from lib.data.cutmix import MIXES, NO_MIXING, Mixing, TileSample
from lib.data.tile_files import read_planes, read_rgb
from lib.tables import FULL, IGNORE


@dataclass(frozen=True)
class TileFile:
    """A stored tile. `soft`: the label holds K planes of probabilities, one below the other. `weight`: in the loss."""

    image: Path
    label: Path
    soft: bool
    weight: float


class TileDataset(Dataset):
    """Key (tile, epoch, position) → image (3, H, W) uint8, target (K, H, W) float32, valid (1, H, W) float32, weight.

    `valid` is 0 where the label is ignored. Every sample is seeded from (seed, epoch, position), so the number of
    workers changes nothing.
    """

    def __init__(
        self, tiles: list[TileFile], channels: int, augmentation: Augmentation, seed: int,
        mixing: Mixing = NO_MIXING, scale: float = 1.0,
    ):  # fmt: skip
        """`channels`: outputs K of the network. `scale`: tiles are shrunk by this factor before the augmentation."""
        self.tiles, self.channels = tiles, channels
        self.augmentation, self.seed, self.scale = augmentation, seed, scale
        self.mix, self.mix_share = MIXES.get(mixing.method), mixing.share
        # A mixed sample has one weight, so a tile is mixed with tiles of the same weight and kind of label only.
        partners: dict[tuple[bool, float], list[int]] = {}
        for position, tile in enumerate(tiles):
            partners.setdefault((tile.soft, tile.weight), []).append(position)
        self.partners = {kind: np.array(positions) for kind, positions in partners.items()}

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, np.float32]:
        index, *epoch_and_position = key
        seed = (self.seed, *epoch_and_position)
        image, target, valid = self._sample(index, int(np.random.SeedSequence(seed).generate_state(1)[0]))
        rng = np.random.default_rng((*seed, 1))  # a generator of its own, so that mixing changes no other sample
        if self.mix and rng.random() < self.mix_share:
            tile = self.tiles[index]
            second = self._sample(rng.choice(self.partners[tile.soft, tile.weight]), int(rng.integers(2**32)))
            image, target, valid = self.mix((image, target, valid), second, rng)
        image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return image, torch.from_numpy(target), torch.from_numpy(valid), np.float32(self.tiles[index].weight)

    def _sample(self, index: int, seed: int) -> TileSample:
        """A tile that is read, shrunk and augmented."""
        tile = self.tiles[index]
        image = read_rgb(tile.image)
        planes = read_planes(tile.label, self.channels if tile.soft else 1)
        if self.scale < 1:
            image, planes = shrunk(image, planes, self.scale, tile.soft, self.channels)
        image, planes = self.augmentation(image, planes, seed)
        return image, *(soft_target(planes) if tile.soft else true_target(planes[0], self.channels))


def shrunk(
    image: np.ndarray, planes: list[np.ndarray], scale: float, soft: bool, channels: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A tile (H, W, 3) and its label planes (H, W), both uint8, resized by `scale` < 1.

    Class shares and probabilities (`soft`) are averaged by area; class indices and ignored pixels take the nearest
    value.
    """
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))

    def by_area(plane: np.ndarray) -> np.ndarray:
        return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)

    if soft:
        return by_area(image), [by_area(plane) for plane in planes]
    near = cv2.resize(planes[0], size, interpolation=cv2.INTER_NEAREST_EXACT)
    if channels == 1:
        near = np.where(near == IGNORE, near, shares_by_area(planes[0], by_area))
    return by_area(image), [near]


def shares_by_area(plane: np.ndarray, by_area: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A plane (H, W) uint8 of class shares (0 to FULL, or IGNORE), resized by the function `by_area`.

    Each result is the mean of the values that are not ignored, or IGNORE where all are.
    """
    known = plane != IGNORE
    if known.all():
        return by_area(plane)
    share = by_area(known.astype(np.float32))
    mean = by_area(np.where(known, plane, 0).astype(np.float32)) / np.maximum(share, 1e-6)
    return np.where(share > 1e-6, np.minimum(mean.round(), FULL), IGNORE).astype(np.uint8)


def true_target(mask: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Target (K, H, W) and valid (1, H, W), float32, of a tile's label (H, W) uint8 as stage 1 stores it.

    >>> true_target(np.array([[0, 254, 255]], np.uint8), 1)[0].tolist()
    [[[0.0, 1.0, 0.0]]]
    """
    valid = mask != IGNORE
    if channels == 1:
        target = (mask.astype(np.float32) / FULL * valid)[None]
    else:
        target = np.stack([(mask == c).astype(np.float32) for c in range(channels)])
    return target, valid[None].astype(np.float32)


def soft_target(planes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Target (K, H, W) and valid (1, H, W), float32, of K planes of probabilities uint8 (p = value / 255).

    The target sums to 1 for K > 1. All pixels are valid.
    """
    target = np.stack(planes).astype(np.float32) / 255
    if len(planes) > 1:
        target /= np.maximum(target.sum(0), 1e-3)
    return target, np.ones((1, *planes[0].shape), np.float32)
