"""Pairs of images that are likely to share ground, found without comparing all pairs.

Every feature becomes a visual word (Sivic & Zisserman 2003): a cell of a product of two codebooks (Jégou et al. 2011).
Images that share rare words are likely pairs. A mirrored feature has the same word, because all features are first
turned to one handedness, as F-SIFT does (Zhao & Ngo 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse

from lib.data.leaks.features import DESCRIPTOR_VALUES, MIRROR, FeatureFile, unit_vectors
from lib.system.parallel import parallel

CODEBOOK_SAMPLE = 20_000  # features that codebooks are learned from
MAX_LIKELY_PAIRS = 150_000
MAX_WORD_PAIRS = 1e9  # pairs of equal words that are counted; the most frequent words are left out first
WORD_PAIRS_PER_BLOCK = 4e6  # pairs of equal words that are counted at a time
IMAGES_PER_STEP = 512  # images whose words one process finds at a time


@dataclass(frozen=True)
class Words:
    """Visual words. `hand` (128,): features are mirrored to the positive side of this plane.

    `books`: a codebook (k, 64) for each half of a descriptor.
    """

    hand: np.ndarray
    books: tuple[np.ndarray, np.ndarray]

    def of(self, descriptors: np.ndarray) -> np.ndarray:
        """The word (n,) int64 of each descriptor (n, 128) uint8, the same for a mirrored one."""
        values = _turned(unit_vectors(descriptors), self.hand)
        half = DESCRIPTOR_VALUES // 2
        left, right = (_nearest_entry(values[:, i * half : (i + 1) * half], book) for i, book in enumerate(self.books))
        return left * len(self.books[1]) + right


def _turned(values: np.ndarray, hand: np.ndarray) -> np.ndarray:
    """Descriptors (n, 128), mirrored where they are not on the positive side of the plane `hand`."""
    return np.where((values @ hand > 0)[:, None], values, values[:, MIRROR])


def _nearest_entry(values: np.ndarray, book: np.ndarray, step: int = 1024) -> np.ndarray:
    """Index (n,) of the nearest entry of a codebook. `step` values at a time keep the table in the CPU's cache."""
    lengths, out = (book**2).sum(1) / 2, np.empty(len(values), np.int64)
    for first in range(0, len(values), step):
        table = values[first : first + step] @ book.T
        table -= lengths
        out[first : first + step] = table.argmax(1)
    return out


def learn_words(sample: np.ndarray, features: int) -> Words:
    """Codebooks learned from descriptors (n, 128) uint8, large enough that words of `features` features are rare."""
    values = unit_vectors(sample)
    values = np.concatenate([values, values[:, MIRROR]])
    # The direction in which features and their mirror images differ most: there noise seldom confuses the two.
    odd = values - values[:, MIRROR]
    hand = np.linalg.eigh(odd.T @ odd)[1][:, -1].astype(np.float32)
    values = _turned(values[: len(sample)], hand)
    size = int(np.clip(2 ** round(np.log2(max(1, features)) / 2 + 1), 16, 1024))
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 8, 0)
    half, books = DESCRIPTOR_VALUES // 2, []
    for part in (values[:, :half], values[:, half:]):
        cv2.setRNGSeed(0)
        part = np.ascontiguousarray(part)
        books.append(cv2.kmeans(part, min(size, -(-len(part) // 16)), None, stop, 1, cv2.KMEANS_RANDOM_CENTERS)[2])
    return Words(hand, tuple(books))


def _words_of(features: FeatureFile, words: Words, first: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, words) of the features of `IMAGES_PER_STEP` images."""
    records = features.records(first, IMAGES_PER_STEP)
    held = np.arange(features.detail.features) < records["found"][:, None]
    return first + np.nonzero(held)[0], words.of(records["descriptors"][held])


def likely_pairs(features: FeatureFile, jobs: int) -> np.ndarray:
    """Pairs of positions (n, 2) int64, first < second, that share most words, the likeliest first."""
    sample = _descriptor_sample(features)
    if not len(sample):
        return np.zeros((0, 2), np.int64)
    words = learn_words(sample, features.count * features.detail.features)
    steps = [(features, words, first) for first in range(0, features.count, IMAGES_PER_STEP)]
    found = parallel(_words_of, steps, jobs, "02 words of features", "step")
    has_word, weight = _word_table(*(np.concatenate(parts) for parts in zip(*found, strict=True)), features.count)
    return best_pairs(has_word, weight, features.detail.neighbours)[:MAX_LIKELY_PAIRS]


def _descriptor_sample(features: FeatureFile) -> np.ndarray:
    """At most `CODEBOOK_SAMPLE` descriptors (n, 128) uint8, of images spread evenly."""
    images = np.unique(np.linspace(0, features.count - 1, min(features.count, 2000)).astype(int))
    each = -(-CODEBOOK_SAMPLE // len(images))
    rng, sample = np.random.default_rng(0), []
    for image in images:
        record = features.records(int(image), 1)[0]
        sample.append(record["descriptors"][rng.permutation(int(record["found"]))[:each]])
    return np.concatenate(sample)


def _word_table(image: np.ndarray, word: np.ndarray, count: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """(matrix (count, words) of ones where an image has a word, weight of each word).

    Words of a single image are left out, and the most frequent words, as `MAX_WORD_PAIRS` says.
    """
    word, image = np.divmod(np.unique(word * count + image), count)
    _, column, images = np.unique(word, return_inverse=True, return_counts=True)
    order = np.argsort(images, kind="stable")
    cheap = np.empty(len(images), bool)
    cheap[order] = np.cumsum(images[order].astype(np.float64) ** 2) <= MAX_WORD_PAIRS
    keep = cheap & (images > 1)
    number, chosen = np.cumsum(keep) - 1, keep[column]
    ones = np.ones(int(chosen.sum()), np.float32)
    held = sparse.csr_matrix((ones, (image[chosen], number[column[chosen]])), (count, int(keep.sum())))
    return held, np.log(count / images[keep]).astype(np.float32)


def best_pairs(held: sparse.csr_matrix, weight: np.ndarray, neighbours: int) -> np.ndarray:
    """For each image, pairs with the `neighbours` images that share most words; returned as by `likely_pairs`.

    Frequent words count little. One common word is not enough for a pair.
    """
    if not held.nnz:
        return np.zeros((0, 2), np.int64)
    others = held.T.tocsr()
    work = np.cumsum(held @ np.diff(others.indptr).astype(np.float64))
    weighted, one_word = held.multiply(weight[None]).tocsr(), float(weight.max()) * 1.001
    found = []
    for start, stop in _row_ranges(work):
        score = (weighted[start:stop] @ others).tocoo()
        chosen = (score.data > one_word) & (score.col != score.row + start)
        row, column, value = score.row[chosen], score.col[chosen], score.data[chosen]
        order = np.lexsort((column, -value, row))
        row, column, value = row[order], column[order], value[order]
        best = np.arange(len(row)) - np.searchsorted(row, row) < neighbours
        found.append((row[best].astype(np.int64) + start, column[best].astype(np.int64), value[best]))
    first, second, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
    pairs, places = np.unique(np.sort(np.column_stack([first, second]), axis=1), axis=0, return_index=True)
    return pairs[np.argsort(-scores[places], kind="stable")]


def _row_ranges(work: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of rows with about `WORD_PAIRS_PER_BLOCK` work each, from the cumulative `work` (n,) of all rows."""
    edges = np.unique(
        [0, *np.searchsorted(work, np.arange(WORD_PAIRS_PER_BLOCK, work[-1], WORD_PAIRS_PER_BLOCK)), len(work)]
    )
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
