"""Pairs of images that may share ground, out of all pairs, without comparing all pairs.

Every feature becomes a visual word (Sivic & Zisserman 2003), a cell of a product of two codebooks (Jégou et al. 2011),
and images that share rare words are likely pairs. A mirrored feature has the same word: all features are first turned
to one handedness, as F-SIFT does (Zhao & Ngo 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse

from lib.data.leak_features import MIRROR, VALUES, Looks, unit
from lib.system.parallel import parallel

SAMPLE = 20_000  # features that codebooks are made from
MOST_PAIRS = 150_000  # likely pairs of all images at most
PRODUCTS = 1e9  # pairs of equal words that are counted at most; the commonest words are left out first
BLOCK = 4e6  # of them counted at a time
STEP = 512  # images whose words are found at a time


@dataclass(frozen=True)
class Words:
    """`hand` (128,): which side of this plane a feature is turned to; `books`: a codebook (k, 64) for each half."""

    hand: np.ndarray
    books: tuple[np.ndarray, np.ndarray]

    def of(self, descriptors: np.ndarray) -> np.ndarray:
        """The word (n,) int64 of each descriptor (n, 128) uint8, the same for a mirrored one."""
        values = _turned(unit(descriptors), self.hand)
        half = VALUES // 2
        left, right = (_nearest(values[:, i * half : (i + 1) * half], book) for i, book in enumerate(self.books))
        return left * len(self.books[1]) + right


def _turned(values: np.ndarray, hand: np.ndarray) -> np.ndarray:
    """Features, mirrored where they are not on the right side of the plane `hand`."""
    return np.where((values @ hand > 0)[:, None], values, values[:, MIRROR])


def _nearest(values: np.ndarray, book: np.ndarray, step: int = 1024) -> np.ndarray:
    """Index (n,) of the nearest entry of a codebook, for `step` values at a time: their table stays in the cache."""
    lengths, out = (book**2).sum(1) / 2, np.empty(len(values), np.int64)
    for first in range(0, len(values), step):
        table = values[first : first + step] @ book.T
        table -= lengths
        out[first : first + step] = table.argmax(1)
    return out


def learn_words(sample: np.ndarray, features: int) -> Words:
    """Codebooks from a sample of descriptors (n, 128); so large that `features` features have rare words."""
    values = unit(sample)
    values = np.concatenate([values, values[:, MIRROR]])
    # Where a feature and its mirror image differ most: there noise seldom confuses the two.
    odd = values - values[:, MIRROR]
    hand = np.linalg.eigh(odd.T @ odd)[1][:, -1].astype(np.float32)
    values = _turned(values[: len(sample)], hand)
    size = int(np.clip(2 ** round(np.log2(max(1, features)) / 2 + 1), 16, 1024))
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 8, 0)
    half, books = VALUES // 2, []
    for part in (values[:, :half], values[:, half:]):
        cv2.setRNGSeed(0)
        part = np.ascontiguousarray(part)
        books.append(cv2.kmeans(part, min(size, -(-len(part) // 16)), None, stop, 1, cv2.KMEANS_RANDOM_CENTERS)[2])
    return Words(hand, tuple(books))


def _words_of(looks: Looks, words: Words, first: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, words) of the features of `STEP` images."""
    records = looks.read(first, STEP)
    held = np.arange(looks.depth.features) < records["found"][:, None]
    return first + np.nonzero(held)[0], words.of(records["descriptors"][held])


def likely_pairs(looks: Looks, jobs: int) -> np.ndarray:
    """Pairs of positions (n, 2), first < second, the likeliest first."""
    sample = _sampled(looks)
    if not len(sample):
        return np.zeros((0, 2), np.int64)
    words = learn_words(sample, looks.count * looks.depth.features)
    steps = [(looks, words, first) for first in range(0, looks.count, STEP)]
    found = parallel(_words_of, steps, jobs, "02 words of features", "step")
    held, weight = _table(*(np.concatenate(parts) for parts in zip(*found, strict=True)), looks.count)
    return best_pairs(held, weight, looks.depth.neighbours)[:MOST_PAIRS]


def _sampled(looks: Looks) -> np.ndarray:
    """Some descriptors (n, 128) uint8, `SAMPLE` at most, of images spread evenly."""
    images = np.unique(np.linspace(0, looks.count - 1, min(looks.count, 2000)).astype(int))
    each = -(-SAMPLE // len(images))
    rng, kept = np.random.default_rng(0), []
    for image in images:
        record = looks.read(int(image), 1)[0]
        kept.append(record["descriptors"][rng.permutation(int(record["found"]))[:each]])
    return np.concatenate(kept)


def _table(image: np.ndarray, word: np.ndarray, count: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """(which image holds which word (count, words) of ones, each word's weight), for words that several images hold;
    without the commonest, as `PRODUCTS` says."""
    word, image = np.divmod(np.unique(word * count + image), count)
    _, column, images = np.unique(word, return_inverse=True, return_counts=True)
    order = np.argsort(images, kind="stable")
    cheap = np.empty(len(images), bool)
    cheap[order] = np.cumsum(images[order].astype(np.float64) ** 2) <= PRODUCTS
    keep = cheap & (images > 1)
    number, chosen = np.cumsum(keep) - 1, keep[column]
    ones = np.ones(int(chosen.sum()), np.float32)
    held = sparse.csr_matrix((ones, (image[chosen], number[column[chosen]])), (count, int(keep.sum())))
    return held, np.log(count / images[keep]).astype(np.float32)


def best_pairs(held: sparse.csr_matrix, weight: np.ndarray, neighbours: int) -> np.ndarray:
    """The `neighbours` images that share most words with each image, as `likely_pairs`. Common words count little, and
    one word alone is no reason."""
    if not held.nnz:
        return np.zeros((0, 2), np.int64)
    others = held.T.tocsr()
    work = np.cumsum(held @ np.diff(others.indptr).astype(np.float64))
    weighted, one_word = held.multiply(weight[None]).tocsr(), float(weight.max()) * 1.001
    found = []
    for start, stop in _blocks(work):
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


def _blocks(work: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of rows of about `BLOCK` work each; `work` (n,) adds up."""
    edges = np.unique([0, *np.searchsorted(work, np.arange(BLOCK, work[-1], BLOCK)), len(work)])
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
