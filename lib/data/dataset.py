"""The torch dataset of training tiles: images, targets and weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from lib.data.augment import Augmentation
from lib.data.cutmix import MIXES, NO_MIXING, Mixing, TileSample
from lib.data.targets import Targets, resized_sample
from lib.data.tile_files import made_by, read_image, read_planes
from lib.errors import UserError
from lib.models.inputs import image_tensor


@dataclass(frozen=True)
class TileFile:
    """A stored tile. `soft`: the label holds probabilities (see `Targets`). `weight`: in the loss."""

    image: Path
    label: Path
    soft: bool
    weight: float


class TileDataset(Dataset):
    """Key (tile, epoch, position) → image (C, H, W), target (K, H, W) float32, valid float32, weight.

    The image is as `image_tensor` makes it. `valid` is 0 where the label is ignored: (K, H, W) where classes overlap,
    else (1, H, W). Every sample is seeded from (seed, epoch, position), so the number of workers changes nothing.
    """

    def __init__(
        self, tiles: list[TileFile], targets: Targets, augmentation: Augmentation, seed: int,
        mixing: Mixing = NO_MIXING, scale: float = 1.0,
    ):  # fmt: skip
        """`targets`: what labels become. `scale`: tiles are resized by this factor before the augmentation."""
        self.tiles, self.targets = tiles, targets
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
        weight = np.float32(self.tiles[index].weight)
        return image_tensor(image.transpose(2, 0, 1)), torch.from_numpy(target), torch.from_numpy(valid), weight

    def _sample(self, index: int, seed: int) -> TileSample:
        """A tile that is read, resized and augmented."""
        tile = self.tiles[index]
        image = read_image(tile.image)
        planes = read_planes(tile.label, self.targets.planes(tile.soft))
        if image.shape[:2] != planes[0].shape:
            raise UserError(
                f"{tile.image} is {image.shape[1]} x {image.shape[0]} pixels, and its label {tile.label.name} "
                f"{planes[0].shape[1]} x {planes[0].shape[0]}; run {made_by(tile.label)} again"
            )
        if self.scale != 1:
            image, planes = resized_sample(image, planes, self.scale, tile.soft, self.targets.channels)
        image, planes = self.augmentation(image, planes, seed)
        return image, *self.targets.of(planes, tile.soft)
