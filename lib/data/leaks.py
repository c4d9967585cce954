"""Copies and overlaps between images, found by content: they would let validation see training.

Likely pairs (lib/data/leak_candidates.py) are matched feature by feature and fitted with one similarity transform,
plain and mirrored. A pair counts only when the pixels agree after warping one image onto the other.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from scipy import fft, sparse

from lib.config.competition import Pixels
from lib.data.leak_candidates import likely_pairs
from lib.data.leak_features import DEPTHS, MIRROR, Depth, Look, Looks, depth_for, features, unit
from lib.imaging.reader import open_image
from lib.imaging.save import save_image
from lib.system.parallel import parallel

__all__ = ["Leak", "compare", "describe", "features", "find_leaks", "save_pair"]
SIDE = 512  # of pictures, pixels
MIN_AGREEMENT = 0.75  # correlation of the shared ground, local contrast evened out
CLEARER = 0.35  # how far it must be from the best at another place towards 1
MIN_SPREAD = 0.12  # share of the shared ground that the matched features surround: a logo alone is no ground
MIN_SHARED = 1200  # pixels of the thumbnails, below which ground agrees by chance
ALL_PAIRS = 60  # up to so many images every pair is compared
EVERY_LIKELY = 100_000  # likely pairs beyond which those of one group are not compared again
PAIRS, STEP = 64, 32  # pairs, images that a process takes at a time
ROUND = 20_000  # pairs after which groups are looked up


@dataclass(frozen=True)
class Leak:
    """Two images that share ground. `kind`: what it looks like; `agreement`: correlation there."""

    a: int
    b: int
    kind: str
    agreement: float
    inliers: int


def find_leaks(
    paths: list[Path], pixels: Pixels, jobs: int = 0, folder: Path | None = None,
    alone: frozenset[int] = frozenset(), depth: Depth | None = None,
) -> list[Leak]:  # fmt: skip
    """Pairs of images (positions in `paths`, a < b) that are copies or share ground.

    Says how many pairs were looked at where not all were. `folder`: for the file of looks, which is removed; `alone`:
    images that join no group, so that a pair with one of them tells nothing about other pairs; `depth`: left out, as
    the number of images asks for.
    """
    if len(paths) < 2:
        return []
    depth = depth or depth_for(len(paths))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        looks = Looks(Path(temporary) / "looks", depth, len(paths))
        looks.path.touch()
        parts = [(first, paths[first : first + STEP], pixels) for first in range(0, len(paths), STEP)]
        work = [sum(path.stat().st_size for path in some) for _, some, _ in parts]
        parallel(looks.write, parts, jobs, "02 features", "part", work=work)
        if len(paths) <= ALL_PAIRS:
            pairs = np.array(list(combinations(range(len(paths)), 2)))
        else:
            pairs = likely_pairs(looks, jobs)
        leaks, compared = _compare_all(looks, pairs, jobs, alone)
    if len(paths) > ALL_PAIRS:
        every = len(paths) * (len(paths) - 1) // 2
        print(
            f"02: the leak check looked at {len(paths)} images ({depth.side} pixels a side, {depth.features} features "
            f"each) and compared {compared} of {every} pairs: those that share most features, for each image "
            f"{depth.neighbours} at most; {len(pairs) - compared} more were in one group already"
        )
    return sorted(leaks, key=lambda leak: (leak.a, leak.b))


def _compare_all(looks: Looks, pairs: np.ndarray, jobs: int, alone: frozenset[int]) -> tuple[list[Leak], int]:
    """(leaks, number of pairs compared). The likeliest come first; beyond `EVERY_LIKELY` pairs, those whose images are
    connected already are left out."""
    leaks, compared = [], 0
    group = np.arange(looks.count)
    for first in range(0, len(pairs), ROUND):
        some = pairs[first : first + ROUND]
        if first >= EVERY_LIKELY:
            some = some[group[some[:, 0]] != group[some[:, 1]]]
        parts = [(looks, some[i : i + PAIRS]) for i in range(0, len(some), PAIRS)]
        for part in parallel(_compare_some, parts, jobs, "02 leak check", "part"):
            leaks += part
        compared += len(some)
        if first + ROUND >= EVERY_LIKELY:
            group = _groups(leaks, looks.count, alone)
    return leaks, compared


def _groups(leaks: list[Leak], count: int, alone: frozenset[int]) -> np.ndarray:
    """A number (count,) for each image, the same for those that leaks connect."""
    joining = [(leak.a, leak.b) for leak in leaks if not {leak.a, leak.b} & alone]
    a, b = np.array(joining, np.int64).reshape(-1, 2).T
    return sparse.csgraph.connected_components(
        sparse.coo_matrix((np.ones(len(a)), (a, b)), (count, count)), directed=False
    )[1]


def _compare_some(looks: Looks, pairs: np.ndarray) -> list[Leak]:
    """The leaks among some pairs of positions."""
    found = []
    look = lru_cache(maxsize=64)(looks.look)
    for a, b in pairs.tolist():
        result = compare(look(a), look(b), looks.depth)
        if result is not None:
            found.append(Leak(a, b, *result))
    return found


def compare(a: Look, b: Look, depth: Depth = DEPTHS[0][1]) -> tuple[str, float, int] | None:
    """(kind, agreement, inliers) when two images share ground, as they are or one of them mirrored, else None."""
    if min(len(a.points), len(b.points)) < depth.inliers:
        return None
    first, second = unit(a.descriptors), unit(b.descriptors)
    return _fit(a, b, match(first, second), depth, "") or _fit(
        a.mirrored(), b, match(first[:, MIRROR], second), depth, "mirrored"
    )


def _fit(a: Look, b: Look, matched: np.ndarray, depth: Depth, how: str) -> tuple[str, float, int] | None:
    """As `compare`, by the features that are `matched` (n, 2)."""
    if len(matched) < depth.inliers:
        return None
    source, target = a.points[matched[:, 0]], b.points[matched[:, 1]]
    matrix, inliers = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=3.0)
    count = 0 if inliers is None else int(inliers.sum())
    if matrix is None or count < depth.inliers:
        return None
    agreement, share, common = agree(a.grey, b.grey, matrix)
    spread = cv2.contourArea(cv2.convexHull(target[inliers.ravel() > 0]))
    if agreement < MIN_AGREEMENT or spread < MIN_SPREAD * common:
        return None
    zoom = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return describe(zoom, float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))), share, how), agreement, count


def match(a: np.ndarray, b: np.ndarray, ratio: float = 0.8) -> np.ndarray:
    """Pairs of descriptors (n, 2) that are each other's nearest and clearly nearer than the next."""
    similarity = a @ b.T  # unit vectors
    nearest, rows = similarity.argmax(1), np.arange(len(a))
    mutual = similarity.argmax(0)[nearest] == rows
    top = similarity[rows, nearest]
    similarity[rows, nearest] = -1
    rest = similarity.max(1)
    clear = np.sqrt(np.maximum(0, 2 - 2 * top)) < ratio * np.sqrt(np.maximum(0, 2 - 2 * rest))
    keep = np.flatnonzero(clear & mutual)
    return np.column_stack([keep, nearest[keep]])


def agree(a: np.ndarray, b: np.ndarray, matrix: np.ndarray) -> tuple[float, float, int]:
    """(correlation of the shared ground, its share of the smaller image, its pixels); no correlation (0) when it is too
    small, or agrees as well elsewhere, as repeated patterns do."""
    size = (b.shape[1], b.shape[0])
    shared = cv2.warpAffine(np.ones(a.shape, np.uint8), matrix, size, flags=cv2.INTER_NEAREST) > 0
    zoom, common = float(np.hypot(matrix[0, 0], matrix[1, 0])), int(shared.sum())
    share = common / max(1.0, min(a.size * zoom**2, b.size))
    if common < MIN_SHARED or not 0.15 < zoom < 6:
        return 0.0, share, common
    first = _normal(cv2.warpAffine(_even(a), matrix, size, flags=cv2.INTER_AREA), shared)
    second = _normal(_even(b), shared)
    agreement = float((first * second).sum() / common)
    if agreement >= MIN_AGREEMENT:
        elsewhere = best_elsewhere(first, second, shared)
        if agreement - elsewhere < CLEARER * (1 - elsewhere):
            return 0.0, share, common
    return agreement, share, common


def _normal(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Values of mean 0 and deviation 1 over `where`, and 0 elsewhere."""
    own = values[where]
    return np.where(where, (values - own.mean()) / max(1e-9, own.std()), 0)


def best_elsewhere(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> float:
    """The best correlation of two `_normal` maps when one is shifted against the other, but not by a little, and half
    of `where` still lies on itself. Tiles of a roof, wells of a plate and weaves agree at many shifts.
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


def _even(grey: np.ndarray) -> np.ndarray:
    """Brightness and contrast evened out locally: stain and exposure must not decide."""
    wide = max(5.0, 12 * max(grey.shape) / SIDE)
    values = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.5)
    mean = cv2.GaussianBlur(values, (0, 0), wide)
    deviation = np.sqrt(cv2.GaussianBlur((values - mean) ** 2, (0, 0), wide))
    return (values - mean) / (deviation + 4)


def describe(zoom: float, angle: float, share: float, how: str = "") -> str:
    """What a transform means, in words.

    >>> describe(1.0, 90.0, 0.99)
    'copy, rotated by 90 degrees'
    >>> describe(1.0, 0.0, 0.5, "mirrored")
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


def save_pair(a: Path, b: Path, path: Path, pixels: Pixels) -> None:
    """Both images side by side, as evidence."""
    pictures = []
    for file in (a, b):
        with open_image(file, pixels) as reader:
            small = reader.thumbnail(SIDE)
        pictures.append(np.pad(small, ((0, SIDE - small.shape[0]), (0, SIDE - small.shape[1]), (0, 0))))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(path, np.concatenate(pictures, axis=1)[:, :, ::-1])
