"""Whether two images share ground: matched features are fitted by one similarity transform, and pixels must agree."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import fft

from lib.data.leaks.features import DETAILS, MIRROR, Detail, ImageFeatures, unit_vectors

MIN_AGREEMENT = 0.75  # correlation of the shared ground, after local contrast is evened out
MIN_CLEARANCE = 0.35  # of the way from the best correlation at another shift to 1, how far the agreement must be
MIN_SPREAD = 0.12  # share of the shared ground that the matched features surround: a logo alone is no shared ground
MIN_SHARED = 1200  # thumbnail pixels; smaller areas agree by chance
EVENED_SIDE = 512  # pixels of a thumbnail whose contrast is evened out over 12 pixels


def compare(a: ImageFeatures, b: ImageFeatures, detail: Detail = DETAILS[0][1]) -> tuple[str, float] | None:
    """(kind, agreement) if two images share ground, as they are or one of them mirrored, else None."""
    if min(len(a.points), len(b.points)) < detail.min_inliers:
        return None
    first, second = unit_vectors(a.descriptors), unit_vectors(b.descriptors)
    return _fit(a, b, match(first, second), detail, "") or _fit(
        a.mirrored(), b, match(first[:, MIRROR], second), detail, "mirrored"
    )


def _fit(a: ImageFeatures, b: ImageFeatures, matched: np.ndarray, detail: Detail, how: str) -> tuple[str, float] | None:
    """As `compare`, by the features that are `matched` (n, 2). `how`: `mirrored` or nothing, for the description."""
    if len(matched) < detail.min_inliers:
        return None
    source, target = a.points[matched[:, 0]], b.points[matched[:, 1]]
    matrix, inliers = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=3.0)
    count = 0 if inliers is None else int(inliers.sum())
    if matrix is None or count < detail.min_inliers:
        return None
    agreement, share, common = agreement_of(a.grey, b.grey, matrix)
    spread = cv2.contourArea(cv2.convexHull(target[inliers.ravel() > 0]))
    if agreement < MIN_AGREEMENT or spread < MIN_SPREAD * common:
        return None
    zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return describe_leak(zoom, float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))), share, how), agreement


def match(a: np.ndarray, b: np.ndarray, ratio: float = 0.8) -> np.ndarray:
    """Pairs (n, 2) of unit vectors that are each other's nearest, and nearer than `ratio` times the second nearest."""
    similarity = a @ b.T  # unit vectors
    nearest, rows = similarity.argmax(1), np.arange(len(a))
    mutual = similarity.argmax(0)[nearest] == rows
    top = similarity[rows, nearest]
    similarity[rows, nearest] = -1
    rest = similarity.max(1)
    clear = np.sqrt(np.maximum(0, 2 - 2 * top)) < ratio * np.sqrt(np.maximum(0, 2 - 2 * rest))
    keep = np.flatnonzero(clear & mutual)
    return np.column_stack([keep, nearest[keep]])


def agreement_of(a: np.ndarray, b: np.ndarray, matrix: np.ndarray) -> tuple[float, float, int]:
    """(correlation of the shared ground, its share of the smaller image, its pixels).

    `matrix` (2, 3) maps image `a` to image `b`, both (h, w) uint8. The correlation is 0 if the ground is too small, or
    if it agrees as well at another shift, as repeated patterns do.
    """
    size = (b.shape[1], b.shape[0])
    shared = cv2.warpAffine(np.ones(a.shape, np.uint8), matrix, size, flags=cv2.INTER_NEAREST) > 0
    zoom, common = float(np.hypot(matrix[0, 0], matrix[1, 0])), int(shared.sum())
    share = common / max(1.0, min(a.size * zoom**2, b.size))
    if common < MIN_SHARED or not 0.15 < zoom < 6:
        return 0.0, share, common
    first = _normalized(cv2.warpAffine(_evened(a), matrix, size, flags=cv2.INTER_AREA), shared)
    second = _normalized(_evened(b), shared)
    agreement = float((first * second).sum() / common)
    if agreement >= MIN_AGREEMENT:
        elsewhere = best_shifted_correlation(first, second, shared)
        if agreement - elsewhere < MIN_CLEARANCE * (1 - elsewhere):
            return 0.0, share, common
    return agreement, share, common


def _normalized(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Values with mean 0 and deviation 1 over the mask `where`, and 0 outside."""
    inside = values[where]
    return np.where(where, (values - inside.mean()) / max(1e-9, inside.std()), 0)


def best_shifted_correlation(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> float:
    """The best correlation of two `_normalized` maps when one is shifted against the other.

    Small shifts do not count, nor those after which less than half of `where` overlaps itself. Roof tiles, wells of a
    plate and woven fabric agree at many shifts.
    """
    shape = [fft.next_fast_len(2 * n, real=True) for n in where.shape]
    one, other, held = (fft.rfft2(part.astype(np.float32), shape) for part in (first, second, where))
    pixels = fft.irfft2(held.conj() * held, shape)
    products = fft.irfft2(one.conj() * other, shape)
    near = max(4, max(where.shape) // 64)
    for rows in (slice(None, near + 1), slice(-near, None)):
        for columns in (slice(None, near + 1), slice(-near, None)):
            pixels[rows, columns] = 0
    enough = pixels >= where.sum() / 2
    return float((products[enough] / pixels[enough]).max(initial=-1))


def _evened(grey: np.ndarray) -> np.ndarray:
    """Local brightness and contrast evened out, so that stain and exposure do not decide."""
    wide = max(5.0, 12 * max(grey.shape) / EVENED_SIDE)
    values = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.5)
    mean = cv2.GaussianBlur(values, (0, 0), wide)
    deviation = np.sqrt(cv2.GaussianBlur((values - mean) ** 2, (0, 0), wide))
    return (values - mean) / (deviation + 4)


def describe_leak(zoom: float, angle: float, share: float, how: str = "") -> str:
    """A transform in words. `zoom`: b to a; `angle`: degrees; `share`: of the smaller image that is shared.

    >>> describe_leak(1.0, 90.0, 0.99)
    'copy, rotated by 90 degrees'
    >>> describe_leak(1.0, 0.0, 0.5, "mirrored")
    'shared ground, mirrored, 50% of the smaller image'
    """
    words = ["copy" if share > 0.9 else "shared ground", *([how] if how else [])]
    if abs(zoom - 1) > 0.05:
        words.append(f"{zoom:.2f} times the size")
    if abs(angle) > 3:
        words.append(f"rotated by {abs(angle):.0f} degrees")
    if share <= 0.9:
        words.append(f"{share:.0%} of the smaller image")
    return ", ".join(words)
