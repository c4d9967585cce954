"""Stitched whole-image predictions against labels, as counts; of maps, only what is to be shown is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.competition.metrics import counts_of
from lib.inference.multi_scale import ScaleGroup, predict_multi_scale
from lib.inference.sliding_window import USUAL, Limits, Source
from lib.oof.map_files import MapWriter, Points, Sampler
from lib.oof.previews import Album, Glimpse, Glimpser
from lib.tables import IGNORE
from lib.workspace import replacing

HALF = 128  # bin of one half
BINS = 256  # probabilities at 8 bits: bin = round(255 p)
COUNTED = 2**20  # pixels counted together: counting takes 24 bytes for each


@dataclass
class Evaluation:
    """Counts over N images and S systems.

    One class: `counts` (N, S, 2, BINS), truth x probability bin. Otherwise (N, S, n, 3), of each label index what
    metrics take: intersection, truth and prediction by argmax; a matrix for each image would take n² numbers.
    `confusion` (n, n): truth x argmax of the last system over all images; None for one class, whose `counts` tell it.
    `beside` (N, n): of the pixels whose truth is label 0, how many the last system gives each label; as `confusion`.
    `shown`: every image's glimpse of the last system, or of what was decided. `groups` (N,): names of what images have
    in common; None where each stands alone.
    """

    image_ids: list[str]
    counts: np.ndarray
    points: Points | None = None
    shown: Album | None = None
    groups: np.ndarray | None = None
    confusion: np.ndarray | None = None
    beside: np.ndarray | None = None

    @property
    def binary(self) -> bool:
        return self.counts.shape[-1] == BINS

    def class_counts(self, system: int, threshold: int = HALF) -> np.ndarray:
        """(N, n, 3) int64. `threshold` in bins: object where bin >= threshold; unused for several classes."""
        counts = self.counts[:, system]
        return counts_of(_split(counts, threshold)) if self.binary else counts

    def pooled(self, threshold: int = HALF) -> np.ndarray:
        """(n, n) int64: truth x decision by the last system, over all images."""
        return _split(self.counts[:, -1].sum(0), threshold) if self.binary else self.confusion

    def leaving_out(self, labels: tuple[int, ...]) -> Evaluation:
        """Of several classes, the last system alone, where the pixels of some labels become background (label 0)."""
        counts, left = self.counts[:, -1:].copy(), list(labels)
        counts[:, 0, 0, 2] += counts[:, 0, left, 2].sum(1)
        counts[:, 0, 0, 0] += self.beside[:, left].sum(1)
        counts[:, 0, left, 0] = counts[:, 0, left, 2] = 0
        confusion, beside = self.confusion.copy(), self.beside.copy()
        for values in (confusion, beside):
            values[:, 0] += values[:, left].sum(1)
            values[:, left] = 0
        return replace(self, counts=counts, confusion=confusion, beside=beside)

    def save(self, path: Path) -> None:
        with replacing(path) as temporary:
            points = {f"points {name}": values for name, values in vars(self.points).items()} if self.points else {}
            more = {} if self.confusion is None else {"confusion": self.confusion, "beside": self.beside}
            np.savez_compressed(temporary, image_ids=np.array(self.image_ids), counts=self.counts, **more, **points)

    @staticmethod
    def load(path: Path) -> Evaluation:
        with np.load(path) as saved:
            points = {name[7:]: saved[name] for name in saved.files if name.startswith("points ")}
            sample = Points(**points) if points else None
            more = {name: saved.get(name, None) for name in ("confusion", "beside")}
            return Evaluation(saved["image_ids"].tolist(), saved["counts"], sample, **more)

    @staticmethod
    def concat(parts: Iterable[Evaluation]) -> Evaluation:
        """Several folds' images together; they must have the same systems."""
        parts = list(parts)
        ids = [i for part in parts for i in part.image_ids]
        sampled = all(part.points is not None for part in parts)
        points = Points.concat([p.points for p in parts], [len(p.image_ids) for p in parts]) if sampled else None
        several = all(part.confusion is not None for part in parts)
        matrix = sum(part.confusion for part in parts) if several else None
        beside = np.concatenate([part.beside for part in parts]) if several else None
        counts = np.concatenate([part.counts for part in parts])
        return Evaluation(ids, counts, points, confusion=matrix, beside=beside)


def _split(counts: np.ndarray, threshold: int) -> np.ndarray:
    """Counts (..., 2, BINS) → matrices (..., 2, 2), truth x decision."""
    return np.stack([counts[..., :threshold].sum(-1), counts[..., threshold:].sum(-1)], axis=-1)


def evaluate(
    sources: list[Source],
    groups: list[ScaleGroup],
    open_label: Callable,
    n_labels: int,
    channels: int,
    limits: Limits = USUAL,
    description: str = "",
    keep: Callable[[str, Glimpse, np.ndarray], object] | None = None,
    sample: bool = False,
    writer: MapWriter | None = None,
    presence: bool = False,
) -> Evaluation:
    """Predict whole images and count every system of `predict_multi_scale` against their labels at original resolution.

    `open_label(image_id, height, width)` gives the label reader; `n_labels` label indices. `keep(image_id, glimpse,
    counts)` is given each image as it is finished: the glimpse of the last system, and the counts of all. `sample`:
    pixels of all systems but the last, their mean, are kept as points. `writer` is given all maps. `presence`: the
    networks tell it, behind their masks; what is counted are masks.
    """
    fill = background_fill(channels, n_labels, presence)
    shape = (2, BINS) if channels == 1 else (n_labels, n_labels)
    systems = sum(group.forward.systems for group in groups) - len(groups) + 1
    counts = np.zeros((len(sources), systems, *((2, BINS) if channels == 1 else (n_labels, 3))), np.int64)
    confusion = None if channels == 1 else np.zeros(shape, np.int64)
    beside = None if channels == 1 else np.zeros((len(sources), n_labels), np.int64)
    position = {source.image_id: i for i, source in enumerate(sources)}
    sampler = Sampler(len(sources), systems - 1, channels, presence) if sample else None
    label = glimpser = None
    for block in predict_multi_scale(sources, groups, fill, limits, description):
        if block.first:
            label = open_label(block.image_id, block.height, block.width)
            glimpser = Glimpser(block.height, block.width)
        truth = label.read(block.y, block.x, *block.probs.shape[2:])
        for s in range(systems):
            guess = to_label_codes(block.probs[s, :channels])
            here = count(truth, guess, shape)
            counts[position[block.image_id], s] += here if channels == 1 else counts_of(here)
        if channels > 1:
            confusion += here
            beside[position[block.image_id]] += here[0]
        if sampler:
            sampler.add(position[block.image_id], replace(block, probs=block.probs[:-1]), to_bins, truth)
        if writer:
            writer.add(block, to_bins(block.probs), truth)
        if keep:
            labels = guess >= HALF if channels == 1 else guess
            glimpser.add(block.y, block.x, guess, (truth != IGNORE) & (truth != labels))
            if block.last:
                keep(block.image_id, glimpser.glimpse(), counts[position[block.image_id]])
    points = sampler.points() if sampler else None
    return Evaluation([source.image_id for source in sources], counts, points, confusion=confusion, beside=beside)


def count(truth: np.ndarray, guess: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Counts of one block: truth and guess (h, w) → `shape`, one row for each truth."""
    counts = np.zeros(shape[0] * shape[1], np.int64)
    rows = max(1, COUNTED // truth.shape[1])
    for top in range(0, len(truth), rows):
        known = truth[top : top + rows] != IGNORE
        flat = truth[top : top + rows][known].astype(np.int64) * shape[1] + guess[top : top + rows][known]
        counts += np.bincount(flat, minlength=len(counts))
    return counts.reshape(shape)


def to_bins(probs: np.ndarray) -> np.ndarray:
    """Probability to bin 0…255."""
    return (probs * (BINS - 1) + 0.5).astype(np.uint8)


def to_label_codes(probs: np.ndarray) -> np.ndarray:
    """(K, h, w) → (h, w) uint8: the bin of one class, the argmax of several; decisions are made on these."""
    return to_bins(probs[0]) if len(probs) == 1 else probs.argmax(0).astype(np.uint8)


def background_fill(channels: int, n_labels: int, presence: bool = False, label: int = 0) -> np.ndarray:
    """Probabilities (K,) of pixels where nothing is computed: surely the label index `label`. `presence`: (2K,), with
    that of each class, which no gate keeps out."""
    fill = np.zeros(1, np.float32) if channels == 1 else np.eye(n_labels, dtype=np.float32)[label]
    return np.concatenate([fill, np.ones_like(fill)]) if presence else fill
