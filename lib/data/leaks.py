"""Copies and overlaps between images, found by content: they would let validation see training.

Local features (SIFT, Lowe 2004) on thumbnails, matched and fitted with one similarity transform; a pair
counts only when the pixels agree after warping one image onto the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from lib.config.competition import Pixels
from lib.imaging.reader import open_image
from lib.imaging.save import save_image
from lib.parallel import parallel

SIDE = 512  # thumbnails' longest side
FEATURES = 500
MIN_INLIERS = 14
MIN_AGREEMENT = 0.75  # correlation of the shared ground, local contrast evened out
ALL_PAIRS = 150  # up to so many images every pair is compared
NEIGHBOURS = 20  # beyond that, each image's nearest by a global descriptor


@dataclass(frozen=True)
class Leak:
    """Two images that share ground. `kind`: what it looks like; `agreement`: correlation there."""

    a: int
    b: int
    kind: str
    agreement: float
    inliers: int


@dataclass(frozen=True)
class Look:
    """What is remembered of an image: grey thumbnail, key points (n, 2), descriptors (n, 128)."""

    grey: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray


def look_at(path: Path, pixels: Pixels) -> Look:
    """Thumbnail and features of one image."""
    with open_image(path, pixels) as reader:
        return features(reader.thumbnail(SIDE))


def features(thumbnail: np.ndarray) -> Look:
    """`thumbnail` (h, w, 3) uint8."""
    grey = cv2.cvtColor(np.ascontiguousarray(thumbnail), cv2.COLOR_RGB2GRAY)
    key_points, descriptors = cv2.SIFT_create(FEATURES).detectAndCompute(grey, None)
    if descriptors is None:
        return Look(grey, np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    # RootSIFT (Arandjelović & Zisserman 2012): better matches for one square root.
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    return Look(grey, np.float32([p.pt for p in key_points]), descriptors.astype(np.float32))


def find_leaks(paths: list[Path], pixels: Pixels, jobs: int = 0) -> list[Leak]:
    """All pairs of images (positions in `paths`, a < b) that are copies or share ground."""
    sizes = [path.stat().st_size for path in paths]
    looks = parallel(look_at, [(path, pixels) for path in paths], jobs, "02 features", "image", work=sizes)
    pairs = candidates(looks)
    found = parallel(compare, [(looks[a], looks[b]) for a, b in pairs], jobs, "02 leak check", "pair", batch_size=64)
    return [Leak(a, b, *result) for (a, b), result in zip(pairs, found, strict=True) if result is not None]


def candidates(looks: list[Look]) -> list[tuple[int, int]]:
    """Pairs worth comparing."""
    if len(looks) <= ALL_PAIRS:
        return list(combinations(range(len(looks)), 2))
    mean = np.stack([look.descriptors.mean(0) if len(look.descriptors) else np.zeros(128) for look in looks])
    mean -= mean.mean(0)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    nearest = np.argsort(-(mean @ mean.T), axis=1)[:, 1 : NEIGHBOURS + 1]
    return sorted({tuple(sorted((i, int(j)))) for i, row in enumerate(nearest) for j in row if i != j})


def compare(a: Look, b: Look) -> tuple[str, float, int] | None:
    """(kind, agreement, inliers) when two images share ground, else None."""
    if min(len(a.points), len(b.points)) < MIN_INLIERS:
        return None
    matched = match(a.descriptors, b.descriptors)
    if len(matched) < MIN_INLIERS:
        return None
    source, target = a.points[matched[:, 0]], b.points[matched[:, 1]]
    matrix, inliers = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=3.0)
    count = 0 if inliers is None else int(inliers.sum())
    if matrix is None or count < MIN_INLIERS:
        return None
    agreement, share = agree(a.grey, b.grey, matrix)
    if agreement < MIN_AGREEMENT:
        return None
    zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return describe(zoom, float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))), share), agreement, count


def match(a: np.ndarray, b: np.ndarray, ratio: float = 0.8) -> np.ndarray:
    """Pairs of descriptors (n, 2) that are each other's nearest and clearly nearer than the next."""
    similarity = a @ b.T  # unit vectors
    nearest = similarity.argmax(1)
    top = similarity[np.arange(len(a)), nearest]
    rest = similarity.copy()
    rest[np.arange(len(a)), nearest] = -1
    clear = np.sqrt(np.maximum(0, 2 - 2 * top)) < ratio * np.sqrt(np.maximum(0, 2 - 2 * rest.max(1)))
    mutual = similarity.argmax(0)[nearest] == np.arange(len(a))
    keep = np.flatnonzero(clear & mutual)
    return np.column_stack([keep, nearest[keep]])


def agree(a: np.ndarray, b: np.ndarray, matrix: np.ndarray) -> tuple[float, float]:
    """(correlation of the shared ground, its share of the smaller image); (0, 0) when it is too small."""
    size = (b.shape[1], b.shape[0])
    warped = cv2.warpAffine(_even(a), matrix, size, flags=cv2.INTER_AREA)
    shared = cv2.warpAffine(np.ones(a.shape, np.uint8), matrix, size, flags=cv2.INTER_NEAREST) > 0
    zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    share = shared.sum() / max(1.0, min(a.size * zoom**2, b.size))
    if shared.sum() < 1500 or not 0.15 < zoom < 6:
        return 0.0, 0.0
    first, second = warped[shared], _even(b)[shared]
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).mean() / max(1e-9, first.std() * second.std())), float(share)


def _even(grey: np.ndarray) -> np.ndarray:
    """Brightness and contrast evened out locally: stain and exposure must not decide."""
    values = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.5)
    mean = cv2.GaussianBlur(values, (0, 0), 12)
    deviation = np.sqrt(cv2.GaussianBlur((values - mean) ** 2, (0, 0), 12))
    return (values - mean) / (deviation + 4)


def describe(zoom: float, angle: float, share: float) -> str:
    """What a transform means, in words.

    >>> describe(1.0, 90.0, 0.99)
    'copy, rotated by 90 degrees'
    """
    words = ["copy" if share > 0.9 else "shared ground"]
    if abs(zoom - 1) > 0.05:
        words.append(f"{zoom:.2f} times the size")
    if abs(angle) > 3:
        words.append(f"rotated by {abs(angle):.0f} degrees")
    if share <= 0.9:
        words.append(f"{share:.0%} of the smaller image")
    return ", ".join(words)


def save_pair(a: Path, b: Path, path: Path, pixels: Pixels) -> None:
    """Both images side by side, as evidence."""
    pictures = []
    for file in (a, b):
        with open_image(file, pixels) as reader:
            small = reader.thumbnail(SIDE)
        pictures.append(np.pad(small, ((0, SIDE - small.shape[0]), (0, SIDE - small.shape[1]), (0, 0))))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(path, np.concatenate(pictures, axis=1)[:, :, ::-1])
