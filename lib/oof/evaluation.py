"""Counts of out-of-fold maps against their truth: every fit and every score starts from these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from lib.artifacts.read import damaged, read_arrays
from lib.competition.metrics import counts_of
from lib.oof.codes import BINS, HALF
from lib.oof.pixel_sample import PixelSample
from lib.oof.previews import PreviewFile
from lib.tables import IGNORE
from lib.workspace import replacing

PIXELS_AT_ONCE = 2**20  # pixels counted together: counting takes 24 bytes for each
COUNT_BYTES = 2**29  # of all images' counts of classes that overlap
COUNT_TYPE = np.dtype(np.uint32)  # of these counts; images with more pixels are counted in 64 bits


@dataclass
class Evaluation:
    """Counts over N images and S systems.

    One class, or K classes that overlap: `counts` (N, S, K, 2, B), truth x probability bin of each class. B is `BINS`,
    or less where the counts of very many images and classes would take more than `COUNT_BYTES`.
    Otherwise (N, S, n, 3), of each label index what metrics take: intersection, truth and prediction by argmax; a
    matrix for each image would take n² numbers. `confusion` (n, n): truth x argmax of the last system over all images.
    `beside` (N, n): of the pixels whose truth is label 0, how many the last system gives each label. Both are None for
    one class, and for classes that overlap.

    `overlap`: whether the classes overlap. `previews`: every image's preview of the last system, or of what was
    decided. `groups` (N,): names of what images have in common; None where each stands alone.
    """

    image_ids: list[str]
    counts: np.ndarray
    points: PixelSample | None = None
    previews: PreviewFile | None = None
    groups: np.ndarray | None = None
    confusion: np.ndarray | None = None
    beside: np.ndarray | None = None
    overlap: bool = False

    @property
    def binary(self) -> bool:
        """Whether thresholds decide, each about one class."""
        return self.counts.ndim == 5

    @property
    def halves(self) -> tuple[int, ...] | None:
        """The threshold of one half for each class; None for argmax."""
        return (HALF,) * self.counts.shape[2] if self.binary else None

    def class_counts(self, system: int, thresholds: tuple[int, ...] | None = None) -> np.ndarray:
        """(N, n, 3) int64: of background and one class, of n classes that overlap, or of n label indices.

        `thresholds`, one for each class, in 1/255: an object is where the probability reaches them. None is one half.
        """
        counts = self.counts[:, system]
        return self.rows(split_counts(counts, thresholds or self.halves)) if self.binary else counts

    def tables(self, thresholds: tuple[int, ...] | None = None) -> np.ndarray:
        """Truth x decision by the last system, over all images: one matrix (1, n, n) of the label indices, or a table
        (K, 2, 2) for each class that overlaps."""
        if not self.binary:
            return self.confusion[None]
        return split_counts(self.counts[:, -1].sum(0, dtype=np.int64), thresholds or self.halves)

    def rows(self, tables: np.ndarray) -> np.ndarray:
        """Tables (..., T, n, n), as `tables` gives them, → what metrics take, (..., n, 3)."""
        counts = counts_of(tables)
        return np.ascontiguousarray(counts[..., 1, :]) if self.overlap else counts[..., 0, :, :]

    def known(self) -> np.ndarray:
        """(N, n): how many pixels of each image have a known truth; of classes that overlap, for each class."""
        if self.overlap:
            return self.counts[:, -1].sum((-2, -1), dtype=np.int64)
        truth = self.class_counts(-1)[..., 1]
        return np.broadcast_to(truth.sum(1, keepdims=True), truth.shape)

    def of_class(self, k: int) -> Evaluation:
        """The k-th class alone, as a competition of one class would be evaluated."""
        return replace(self, counts=self.counts[:, :, k : k + 1], points=None, overlap=False) if self.overlap else self

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

    def with_bins(self, bins: int) -> Evaluation:
        """The same with at most so many bins, a power of 2."""
        if not self.binary or self.counts.shape[-1] <= bins:
            return self
        coarse = self.counts.reshape(*self.counts.shape[:-1], bins, -1).sum(-1, dtype=self.counts.dtype)
        return replace(self, counts=coarse)

    def save(self, path: Path) -> None:
        with replacing(path) as temporary:
            points = {f"points {name}": values for name, values in vars(self.points).items()} if self.points else {}
            more = {} if self.confusion is None else {"confusion": self.confusion, "beside": self.beside}
            more |= {"overlap": True} if self.overlap else {}
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
        counts = saved["counts"]
        if counts.shape[-2:] == (2, BINS) and counts.ndim == 4:  # of one class, by an earlier version
            counts = counts[:, :, None]
        return Evaluation(saved["image_ids"].tolist(), counts, sample, **more, overlap="overlap" in saved)

    @staticmethod
    def concat(parts: Iterable[Evaluation]) -> Evaluation:
        """Several folds' images together; they must have the same systems."""
        parts = list(parts)
        if parts[0].overlap:
            images = sum(len(part.image_ids) for part in parts)
            bins = min(bins_for(images, *parts[0].counts.shape[1:3]), *(part.counts.shape[-1] for part in parts))
            parts = [part.with_bins(bins) for part in parts]
        ids = [i for part in parts for i in part.image_ids]
        sampled = all(part.points is not None for part in parts)
        points = PixelSample.concat([p.points for p in parts], [len(p.image_ids) for p in parts]) if sampled else None
        several = all(part.confusion is not None for part in parts)
        matrix = sum(part.confusion for part in parts) if several else None
        beside = np.concatenate([part.beside for part in parts]) if several else None
        counts = np.concatenate([part.counts for part in parts])
        return Evaluation(ids, counts, points, confusion=matrix, beside=beside, overlap=parts[0].overlap)


def bins_for(images: int, systems: int, classes: int) -> int:
    """How many bins of probabilities fit into `COUNT_BYTES`, for classes that overlap: a power of 2.

    >>> bins_for(800, 2, 29), bins_for(20_000, 2, 100)
    (256, 16)
    """
    bins = BINS
    while bins > 2 and images * systems * classes * 2 * bins * COUNT_TYPE.itemsize > COUNT_BYTES:
        bins //= 2
    return bins


def split_counts(counts: np.ndarray, thresholds: tuple[int, ...]) -> np.ndarray:
    """Counts (..., K, 2, B) → tables (..., K, 2, 2) int64, truth x decision; `thresholds` (K,) in 1/255.

    A threshold between two bins is raised to the next one.

    >>> split_counts(np.arange(8).reshape(1, 2, 4), (128,)).tolist()  # four bins, of which two reach one half
    [[[1, 5], [9, 13]]]
    >>> split_counts(np.arange(8).reshape(1, 2, 4), (65,)).tolist()
    [[[1, 5], [9, 13]]]
    """
    tables = np.empty((*counts.shape[:-1], 2), np.int64)
    for k, threshold in enumerate(thresholds):
        first = -(-threshold * counts.shape[-1] // BINS)
        tables[..., k, :, 0] = counts[..., k, :, :first].sum(-1)
        tables[..., k, :, 1] = counts[..., k, :, first:].sum(-1)
    return tables


def count(truth: np.ndarray, guess: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Counts of one block: truth and guess (h, w) → `shape`, one row for each truth."""
    counts = np.zeros(shape[0] * shape[1], np.int64)
    rows = max(1, PIXELS_AT_ONCE // truth.shape[1])
    for top in range(0, len(truth), rows):
        known = truth[top : top + rows] != IGNORE
        flat = truth[top : top + rows][known].astype(np.int64) * shape[1] + guess[top : top + rows][known]
        counts += np.bincount(flat, minlength=len(counts))
    return counts.reshape(shape)


def count_planes(truth: np.ndarray, guess: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Counts of one block: truth and guess, planes (T, h, w) → (T, *shape), plane by plane."""
    return np.stack([count(*planes, shape) for planes in zip(truth, guess, strict=True)])


def count_codes(truth: np.ndarray, codes: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Counts of one block: truth and codes of probabilities, planes (K, h, w) → (K, 2, bins)."""
    return count_planes(truth, codes, (2, BINS)).reshape(len(codes), 2, bins, -1).sum(-1)
