"""The sampler: which tiles an epoch trains on, and in which order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.config.training import Sampling
from lib.plugins import register

MIN_DIFFICULTY = 0.05  # added to every image's difficulty, so that images without errors are still sampled


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
        self.weights = tiles["difficulty"].to_numpy() + MIN_DIFFICULTY if config.difficulty else None
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
