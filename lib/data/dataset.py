"""Torch dataset of tiles, and the sampler that decides which tiles an epoch sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from lib.config.training import Sampling
from lib.data.augment import Augmentation
from lib.data.cutmix import MIXES, Sample
from lib.errors import UserError
from lib.plugins import register
from lib.tables import FULL, IGNORE

EASIEST = 0.05  # difficulty that an image without a mistake still has, so that it is not forgotten


@dataclass(frozen=True)
class TileFile:
    """A stored tile. `soft`: the label holds K planes of probabilities, one under another."""

    image: Path
    label: Path
    soft: bool
    weight: float


class TileDataset(Dataset):
    """Item (position, epoch) → image (3, H, W) uint8, target (K, H, W) float32, valid (1, H, W), weight.

    Every sample is seeded from (seed, epoch, position), never per worker. `mix` and `mix_share`: as in `augment`.
    """

    def __init__(
        self,
        tiles: list[TileFile],
        channels: int,
        augmentation: Augmentation,
        seed: int,
        mix: str = "none",
        mix_share: float = 0.5,
        scale: float = 1.0,
    ):
        """`scale`: tiles are shrunk by it first."""
        self.tiles, self.channels = tiles, channels
        self.augmentation, self.seed, self.scale = augmentation, seed, scale
        self.mix, self.mix_share = MIXES.get(mix), mix_share
        # A tile is mixed with its like alone: a sample has one weight.
        alike: dict[tuple[bool, float], list[int]] = {}
        for position, tile in enumerate(tiles):
            alike.setdefault((tile.soft, tile.weight), []).append(position)
        self.alike = {kind: np.array(positions) for kind, positions in alike.items()}

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, key: tuple[int, int, int]):
        """`key` = (tile, epoch, position in the epoch)."""
        index, *words = key
        image, target, valid = self._sample(
            index, int(np.random.SeedSequence((self.seed, *words)).generate_state(1)[0])
        )
        rng = np.random.default_rng((self.seed, *words, 1))  # its own: mixing changes no other sample
        if self.mix and rng.random() < self.mix_share:
            tile = self.tiles[index]
            second = self._sample(rng.choice(self.alike[tile.soft, tile.weight]), int(rng.integers(2**32)))
            image, target, valid = self.mix((image, target, valid), second, rng)
        image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return image, torch.from_numpy(target), torch.from_numpy(valid), np.float32(self.tiles[index].weight)

    def _sample(self, index: int, seed: int) -> Sample:
        """A tile, augmented."""
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
    """A tile and its label planes at another size: shares and probabilities by area, class indices by the nearest.

    What is ignored stays ignored where it is the nearest.
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
    """A class's shares (H, W) uint8, 0 to FULL or IGNORE, as `by_area` shrinks them: the mean of what is not ignored.

    Where everything is ignored, the result is IGNORE.
    """
    known = plane != IGNORE
    if known.all():
        return by_area(plane)
    share = by_area(known.astype(np.float32))
    mean = by_area(np.where(known, plane, 0).astype(np.float32)) / np.maximum(share, 1e-6)
    return np.where(share > 1e-6, np.minimum(mean.round(), FULL), IGNORE).astype(np.uint8)


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path} cannot be read as an image; run 01_preprocess.py again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_planes(path: Path, count: int) -> list[np.ndarray]:
    """The `count` label planes (H, W) uint8 stored one under another."""
    stack = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if stack is None:
        raise UserError(f"{path} cannot be read as a label; run the stage that made it again")
    return np.split(stack, count)


def true_target(mask: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """A tile's label (H, W) as 01 stores it → target (K, H, W) float32 and valid (1, H, W) float32.

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
    """Probabilities at 8 bits → target (K, H, W) float32 that sums to 1 for K > 1; all pixels valid."""
    target = np.stack(planes).astype(np.float32) / 255
    if len(planes) > 1:
        target /= np.maximum(target.sum(0), 1e-3)
    return target, np.ones((1, *planes[0].shape), np.float32)


@register("sampler", "balanced")
class BalancedSampler:
    """Which tiles an epoch sees: object and background by `foreground_share`, pseudo-labels by their own share.

    Within each of them every tile, image, group or class comes equally often, as `balance` says, or images by their
    difficulty.

    A sampler is `Sampler(tiles, config, pseudo_share, seed)`; `size` is the length of an epoch and
    `keys(epoch, progress)` gives its samples as (tile, epoch, position). `progress`: the share of the training that is
    done, 0 to 1. The same seed, epoch and progress give the same keys.
    """

    def __init__(self, tiles: pd.DataFrame, config: Sampling, pseudo_share: float, seed: int):
        """`tiles`: rows of tiles.csv with `group`, and bools `object`, `pseudo`; a sample's tile is its position.

        With `config.difficulty` also a column of that name, 0 to 1, the same in all tiles of an image.
        """
        is_object, is_pseudo = tiles["object"].to_numpy(bool), tiles["pseudo"].to_numpy(bool)
        self.pools = {
            "pseudo": np.flatnonzero(is_pseudo),
            "object": np.flatnonzero(~is_pseudo & is_object),
            "rest": np.flatnonzero(~is_pseudo & ~is_object),
            "any": np.flatnonzero(~is_pseudo),
        }
        self.config, self.seed = config, seed
        owner = {"images": "image_id", "groups": "group"}.get("images" if config.difficulty else config.balance)
        self.owners = tiles[owner].to_numpy() if owner else np.zeros(len(tiles))
        self.weights = tiles["difficulty"].to_numpy() + EASIEST if config.difficulty else None
        self.classes = _classes_held(tiles) if config.balance == "classes" else None
        self.pseudo_share = pseudo_share if is_pseudo.any() else 0.0
        self.size = config.samples_per_epoch or len(self.pools["any"])

    def keys(self, epoch: int, progress: float = 0.0) -> list[tuple[int, int, int]]:
        rng = np.random.default_rng((self.seed, epoch))
        n_pseudo = round(self.size * self.pseudo_share)
        n_true = self.size - n_pseudo
        share = self.foreground_share(progress)
        if share and len(self.pools["object"]) and len(self.pools["rest"]):
            n_object = round(n_true * share)
            drawn = [self._draw("object", n_object, rng), self._draw("rest", n_true - n_object, rng)]
        else:
            drawn = [self._draw("any", n_true, rng)]
        order = np.empty(self.size, np.int64)
        pseudo = np.zeros(self.size, bool)
        pseudo[((np.arange(n_pseudo) + 0.5) * self.size / max(1, n_pseudo)).astype(int)] = True  # every batch its share
        order[~pseudo] = rng.permutation(np.concatenate(drawn))
        order[pseudo] = self._draw("pseudo", n_pseudo, rng)
        return [(int(tile), epoch, i) for i, tile in enumerate(order)]

    def foreground_share(self, progress: float) -> float:
        """Share of the true samples to draw from tiles with object; 0 for every tile alike."""
        start, end = self.config.foreground_share, self.config.foreground_share_end
        if end is None:
            return start
        own = len(self.pools["object"]) / max(1, len(self.pools["any"]))
        return (start or own) * (1 - progress) + (end or own) * progress

    def _draw(self, pool: str, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` tiles of a pool: owner after owner, and of each no tile twice before all came once."""
        tiles = self.pools[pool]
        if not count:
            return tiles[:0]
        decks = self._decks(tiles)
        if self.weights is not None:
            weights = np.array([self.weights[deck[0]] for deck in decks])
            counts = rng.multinomial(count, weights / weights.sum())
            return np.concatenate([_deal(deck, n, rng) for deck, n in zip(decks, counts, strict=True) if n])
        each = -(-count // len(decks))
        dealt = [_deal(deck, each, rng) for deck in decks]
        rounds = np.stack(dealt, axis=1)  # (each, owners)
        return np.concatenate([rng.permutation(round_) for round_ in rounds])[:count]

    def _decks(self, tiles: np.ndarray) -> list[np.ndarray]:
        """The tiles of every owner; with `balance: classes`, a tile is owned by all classes that it holds."""
        if self.classes is None:
            owners, _ = pd.factorize(self.owners[tiles])  # numbered as they first appear
            return np.split(tiles[np.argsort(owners, kind="stable")], np.cumsum(np.bincount(owners))[:-1])
        decks = [tiles[held[tiles]] for held in self.classes]
        return [deck for deck in decks if len(deck)]


def _deal(deck: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of a deck's tiles, shuffled anew whenever all came."""
    return np.concatenate([rng.permutation(deck) for _ in range(-(-count // len(deck)))])[:count]


def _classes_held(tiles: pd.DataFrame) -> np.ndarray:
    """(classes + 1, tiles) bool: where each class but background has a pixel, and last, where none has."""
    names = [name for name in tiles if name.startswith("px_") and name not in ("px_background", "px_ignore")]
    held = (tiles[names] > 0).to_numpy().T
    return np.vstack([held, ~held.any(0)])


def keep_fraction(tiles: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """A seeded share of every image's tiles (cheap experiments), of those with and without `object` alike.

    At least one tile of each image stays, with object where it has one.
    """
    if fraction >= 1:
        return tiles
    # Steps of equal width through a sorted row take the share of each run in it, to within one tile.
    row = tiles.sample(frac=1, random_state=seed).sort_values(["image_id", "object"])
    places = ((np.arange(len(row)) + np.random.default_rng(seed).random()) / fraction).astype(int)
    kept = row.iloc[places[places < len(row)]]
    missed = row[~row["image_id"].isin(kept["image_id"])].groupby("image_id").tail(1)
    return pd.concat([kept, missed]).sort_index()
