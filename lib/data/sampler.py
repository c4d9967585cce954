"""The sampler: which tiles an epoch trains on, and in which order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.config.training import Sampling
from lib.plugins import register

MIN_DIFFICULTY = 0.05  # added to every image's difficulty, so that images without errors are still sampled


@register("sampler", "balanced")
class BalancedSampler:
    """Samples tiles with and without objects by `foreground_share`, and pseudo-labeled tiles by their own share.

    Within each of these pools every tile, image, group or class (`train.sampling.balance`) is sampled equally often,
    or images are sampled in proportion to their difficulty.

    Every sampler is built as `Sampler(tiles, config, pseudo_share, seed)`. It has `size`, the length of an epoch, and
    `keys(epoch, progress)`, the samples of an epoch as (tile, epoch, position), where `progress` is the share of the
    training that is done, 0 to 1. The same seed, epoch and progress give the same keys.

    >>> tiles = pd.DataFrame({"object": [True, False, False, False], "pseudo": False, "group": list("aabb")})
    >>> sampler = BalancedSampler(tiles, Sampling(foreground_share=0.5), pseudo_share=0.0, seed=1)
    >>> [tile for tile, epoch, position in sampler.keys(0)].count(0)
    2
    """

    def __init__(self, tiles: pd.DataFrame, config: Sampling, pseudo_share: float, seed: int):
        """`tiles`: rows of tiles.csv with `group` and the bools `object` and `pseudo`. A key names a tile by position.

        With `config.difficulty` they also have a column of that name, 0 to 1, equal in all tiles of an image.
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
        self.weights = tiles["difficulty"].to_numpy() + MIN_DIFFICULTY if config.difficulty else None
        self.classes = _classes_in_tiles(tiles) if config.balance == "classes" else None
        self.pseudo_share = pseudo_share if is_pseudo.any() else 0.0
        self.size = config.samples_per_epoch or len(self.pools["any"])

    def keys(self, epoch: int, progress: float = 0.0) -> list[tuple[int, int, int]]:
        """The samples (tile, epoch, position) of an epoch, in order."""
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
        places = (np.arange(n_pseudo) + 0.5) * self.size / max(1, n_pseudo)  # evenly spread over the batches
        pseudo[places.astype(int)] = True
        order[~pseudo] = rng.permutation(np.concatenate(drawn))
        order[pseudo] = self._draw("pseudo", n_pseudo, rng)
        return [(int(tile), epoch, i) for i, tile in enumerate(order)]

    def foreground_share(self, progress: float) -> float:
        """Share of the samples with true labels that have objects. 0 means: all tiles are sampled equally."""
        start, end = self.config.foreground_share, self.config.foreground_share_end
        if end is None:
            return start
        natural = len(self.pools["object"]) / max(1, len(self.pools["any"]))
        return (start or natural) * (1 - progress) + (end or natural) * progress

    def _draw(self, pool: str, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` tiles of a pool, owner after owner. An owner's tiles repeat only after all were drawn."""
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
        """The tiles of every owner. With `balance: classes`, all classes in a tile own it."""
        if self.classes is None:
            owners, _ = pd.factorize(self.owners[tiles])  # numbered as they first appear
            return np.split(tiles[np.argsort(owners, kind="stable")], np.cumsum(np.bincount(owners))[:-1])
        decks = [tiles[has_class[tiles]] for has_class in self.classes]
        return [deck for deck in decks if len(deck)]


def _deal(deck: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` tiles of a deck, which is shuffled again whenever all its tiles were dealt."""
    return np.concatenate([rng.permutation(deck) for _ in range(-(-count // len(deck)))])[:count]


def _classes_in_tiles(tiles: pd.DataFrame) -> np.ndarray:
    """(classes + 1, tiles) bool: which tiles have a pixel of each class but background; last, which have none."""
    names = [name for name in tiles if name.startswith("px_") and name not in ("px_background", "px_ignore")]
    has_class = (tiles[names] > 0).to_numpy().T
    return np.vstack([has_class, ~has_class.any(0)])


def keep_fraction(tiles: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """A seeded share of every image's tiles, for fast experiments; the same share of tiles with and without `object`.

    At least one tile of each image remains, with an object if it has one.
    """
    if fraction >= 1:
        return tiles
    # Steps of equal width through a sorted row take the share of each run in it, to within one tile.
    row = tiles.sample(frac=1, random_state=seed).sort_values(["image_id", "object"])
    places = ((np.arange(len(row)) + np.random.default_rng(seed).random()) / fraction).astype(int)
    kept = row.iloc[places[places < len(row)]]
    missed = row[~row["image_id"].isin(kept["image_id"])].groupby("image_id").tail(1)
    return pd.concat([kept, missed]).sort_index()
