"""Out-of-fold evaluation: maps of whole images are compared with labels, and collectors keep what is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from lib.artifacts.read import damaged, read_arrays
from lib.competition.dataset import Competition
from lib.competition.labels.common import Label
from lib.competition.metrics import counts_of
from lib.inference.multi_scale import predict_multi_scale
from lib.inference.networks import ScaleGroup
from lib.inference.windows import Block, Limits, Source
from lib.oof.codes import BINS, HALF, to_label_codes
from lib.oof.pixel_sample import PixelSample
from lib.oof.previews import PreviewFile
from lib.tables import IGNORE
from lib.workspace import replacing

COUNTED = 2**20  # pixels counted together: counting takes 24 bytes for each


@dataclass
class Evaluation:
    """Counts over N images and S systems.

    One class: `counts` (N, S, 2, BINS), truth x probability bin. Otherwise (N, S, n, 3), of each label index what
    metrics take: intersection, truth and prediction by argmax; a matrix for each image would take n² numbers.
    `confusion` (n, n): truth x argmax of the last system over all images; None for one class, whose `counts` tell it.
    `beside` (N, n): of the pixels whose truth is label 0, how many the last system gives each label; as `confusion`.
    `previews`: every image's preview of the last system, or of what was decided. `groups` (N,): names of what images
    have in common; None where each stands alone.
    """

    image_ids: list[str]
    counts: np.ndarray
    points: PixelSample | None = None
    previews: PreviewFile | None = None
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
        """What `save` wrote. Raises UserError on a damaged file."""
        saved = read_arrays(path, ("image_ids", "counts"))
        points = {name[7:]: values for name, values in saved.items() if name.startswith("points ")}
        if points and points.keys() != {field.name for field in fields(PixelSample)}:
            raise damaged(path, f"it holds {', '.join(points)} of a sample", "delete it")
        sample = PixelSample(**points) if points else None
        more = {name: saved.get(name) for name in ("confusion", "beside")}
        return Evaluation(saved["image_ids"].tolist(), saved["counts"], sample, **more)

    @staticmethod
    def concat(parts: Iterable[Evaluation]) -> Evaluation:
        """Several folds' images together; they must have the same systems."""
        parts = list(parts)
        ids = [i for part in parts for i in part.image_ids]
        sampled = all(part.points is not None for part in parts)
        points = PixelSample.concat([p.points for p in parts], [len(p.image_ids) for p in parts]) if sampled else None
        several = all(part.confusion is not None for part in parts)
        matrix = sum(part.confusion for part in parts) if several else None
        beside = np.concatenate([part.beside for part in parts]) if several else None
        counts = np.concatenate([part.counts for part in parts])
        return Evaluation(ids, counts, points, confusion=matrix, beside=beside)


def _split(counts: np.ndarray, threshold: int) -> np.ndarray:
    """Counts (..., 2, BINS) → matrices (..., 2, 2), truth x decision."""
    return np.stack([counts[..., :threshold].sum(-1), counts[..., threshold:].sum(-1)], axis=-1)


@dataclass(frozen=True)
class TrueLabels:
    """The truth that maps are compared with.

    `open(image_id, height, width)` gives an image's label reader. There are `count` label indices, and maps have
    `channels` channels. `presence`: maps have as many channels again, which say where each class is present.
    """

    open: Callable[[str, int, int], Label]
    count: int
    channels: int
    presence: bool = False

    @staticmethod
    def of(competition: Competition, presence: bool = False) -> TrueLabels:
        names = competition.label_names
        return TrueLabels(competition.labels.open, len(names), competition.channels, presence)


class Collector(Protocol):
    """Takes what it needs of the maps of whole images, block by block, so that no map is ever held whole."""

    def add(self, block: Block, truth: np.ndarray) -> None:
        """A block of predicted maps and its true label indices (h, w) uint8, `IGNORE` where nothing is known."""

    def end_image(self, image_id: str) -> None:
        """All blocks of an image were added."""


def evaluate(
    sources: list[Source], groups: list[ScaleGroup], labels: TrueLabels, limits: Limits,
    collectors: Sequence[Collector], description: str = "",
) -> None:  # fmt: skip
    """Predict whole images and hand their maps, beside the truth, to every collector.

    `description` stands before the progress bar.
    """
    outside = outside_values(labels.channels, labels.count, labels.presence)
    reader = None
    for block in predict_multi_scale(sources, groups, outside, limits, description):
        if block.first:
            reader = labels.open(block.image_id, block.height, block.width)
        truth = reader.read(block.y, block.x, *block.probs.shape[2:])
        for collector in collectors:
            collector.add(block, truth)
        if block.last:
            for collector in collectors:
                collector.end_image(block.image_id)


class CountCollector:
    """Counts every map of `predict_multi_scale` against the truth at full resolution; see `Evaluation`."""

    def __init__(self, image_ids: list[str], labels: TrueLabels, maps: int):
        """`maps`: how many there are of each image."""
        self.labels, self._place = labels, {image_id: place for place, image_id in enumerate(image_ids)}
        n, images, self._confusion, self._beside = labels.count, len(image_ids), None, None
        if labels.channels == 1:
            self._shape, self._counts = (2, BINS), np.zeros((images, maps, 2, BINS), np.int64)
        else:
            self._shape, self._counts = (n, n), np.zeros((images, maps, n, 3), np.int64)
            self._confusion, self._beside = np.zeros((n, n), np.int64), np.zeros((images, n), np.int64)

    def add(self, block: Block, truth: np.ndarray) -> None:
        place, channels = self._place[block.image_id], self.labels.channels
        for number, probs in enumerate(block.probs):
            matrix = count(truth, to_label_codes(probs[:channels]), self._shape)
            self._counts[place, number] += matrix if channels == 1 else counts_of(matrix)
        if channels > 1:  # of the last map
            self._confusion += matrix
            self._beside[place] += matrix[0]

    def end_image(self, image_id: str) -> None:
        pass

    def evaluation(self, points: PixelSample | None = None) -> Evaluation:
        """The counts of all images. `points`: a sample of their pixels, to stand beside."""
        return Evaluation(list(self._place), self._counts, points, confusion=self._confusion, beside=self._beside)

    def evaluation_of(self, image_id: str) -> Evaluation:
        """The counts of one image."""
        return Evaluation([image_id], self._counts[self._place[image_id]][None])


def count(truth: np.ndarray, guess: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Counts of one block: truth and guess (h, w) → `shape`, one row for each truth."""
    counts = np.zeros(shape[0] * shape[1], np.int64)
    rows = max(1, COUNTED // truth.shape[1])
    for top in range(0, len(truth), rows):
        known = truth[top : top + rows] != IGNORE
        flat = truth[top : top + rows][known].astype(np.int64) * shape[1] + guess[top : top + rows][known]
        counts += np.bincount(flat, minlength=len(counts))
    return counts.reshape(shape)


def outside_values(channels: int, n_labels: int, presence: bool = False, label: int = 0) -> np.ndarray:
    """Probabilities (K,) of pixels where nothing is computed: surely the label index `label`. `presence`: (2K,), with
    that of each class, which no gate keeps out."""
    fill = np.zeros(1, np.float32) if channels == 1 else np.eye(n_labels, dtype=np.float32)[label]
    return np.concatenate([fill, np.ones_like(fill)]) if presence else fill
