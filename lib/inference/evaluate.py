"""Stitched whole-image predictions against labels, as counts: no map is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.inference.predictor import USUAL, Limits, Source, Windows, predict
from lib.tables import IGNORE
from lib.workspace import replacing

BINS = 256  # probabilities at 8 bits: bin = round(255 p)


@dataclass
class Evaluation:
    """Counts over N images and S systems.

    One class: `counts` (N, S, 2, BINS), truth x probability bin. Otherwise (N, S, n, n), truth x argmax.
    """

    image_ids: list[str]
    counts: np.ndarray

    @property
    def binary(self) -> bool:
        return self.counts.shape[-1] == BINS

    def confusions(self, system: int, threshold: int = 128) -> np.ndarray:
        """(N, n, n) int64. `threshold` in bins: object where bin >= threshold; unused for many classes."""
        counts = self.counts[:, system]
        if not self.binary:
            return counts
        return np.stack([counts[..., :threshold].sum(-1), counts[..., threshold:].sum(-1)], axis=-1)

    def save(self, path: Path) -> None:
        with replacing(path) as temporary:
            np.savez_compressed(temporary, image_ids=np.array(self.image_ids), counts=self.counts)

    @staticmethod
    def load(path: Path) -> Evaluation:
        with np.load(path) as saved:
            return Evaluation(saved["image_ids"].tolist(), saved["counts"])

    @staticmethod
    def concat(parts: Iterable[Evaluation]) -> Evaluation:
        """Several folds' images together; they must have the same systems."""
        parts = list(parts)
        ids = [i for part in parts for i in part.image_ids]
        return Evaluation(ids, np.concatenate([part.counts for part in parts]))


def evaluate(
    sources: list[Source],
    forward: Callable,
    windows: Windows,
    open_label: Callable,
    n_labels: int,
    channels: int,
    systems: int,
    limits: Limits = USUAL,
    description: str = "",
) -> Evaluation:
    """Predict whole images and count against their labels at original resolution.

    `open_label(image_id, height, width)` gives the label reader; `n_labels` label indices.
    """
    fill = background_fill(channels, n_labels)
    shape = (2, BINS) if channels == 1 else (n_labels, n_labels)
    counts = np.zeros((len(sources), systems, *shape), np.int64)
    position = {source.image_id: i for i, source in enumerate(sources)}
    label = None
    for block in predict(sources, forward, windows, fill, systems, limits, description):
        if block.first:
            label = open_label(block.image_id, block.height, block.width)
        truth = label.read(block.y, block.x, *block.probs.shape[2:])
        for s in range(systems):
            counts[position[block.image_id], s] += count(truth, block.probs[s], n_labels)
    return Evaluation([source.image_id for source in sources], counts)


def count(truth: np.ndarray, probs: np.ndarray, n_labels: int) -> np.ndarray:
    """Counts of one block: truth (h, w), probs (K, h, w) → (2, BINS) or (n, n)."""
    keep = truth != IGNORE
    if len(probs) == 1:
        guess, wide = to_bins(probs[0][keep]), BINS
    else:
        guess, wide = probs.argmax(0)[keep], n_labels
    flat = truth[keep].astype(np.int64) * wide + guess
    return np.bincount(flat, minlength=n_labels * wide).reshape(n_labels, wide)


def to_bins(probs: np.ndarray) -> np.ndarray:
    """Probability to bin 0…255; the decision on test maps goes through the same rounding."""
    return (probs * (BINS - 1) + 0.5).astype(np.uint8)


def background_fill(channels: int, n_labels: int) -> np.ndarray:
    """Probabilities (K,) of pixels where nothing is computed: surely the first label index."""
    return np.zeros(1, np.float32) if channels == 1 else np.eye(n_labels, dtype=np.float32)[0]
