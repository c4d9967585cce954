"""All pairs of images that share ground, by comparing every pair, or of many images the likely ones."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import sparse

from lib.config.competition import Pixels
from lib.data.leaks.candidates import likely_pairs
from lib.data.leaks.compare import compare
from lib.data.leaks.features import Detail, FeatureFile, detail_for
from lib.system.parallel import parallel

MAX_IMAGES_FOR_ALL_PAIRS = 60
SKIP_CONNECTED_AFTER = 100_000  # likely pairs after which images that are connected already are not compared
PAIRS_PER_JOB, IMAGES_PER_JOB = 64, 32
REGROUP_AFTER = 20_000  # pairs after which connected images are found again


@dataclass(frozen=True)
class Leak:
    """Two images that share ground, by position. `kind`: a description; `agreement`: correlation of that ground."""

    a: int
    b: int
    kind: str
    agreement: float


def find_leaks(
    paths: list[Path], pixels: Pixels, jobs: int = 0, folder: Path | None = None,
    ungrouped: frozenset[int] = frozenset(), detail: Detail | None = None,
) -> list[Leak]:  # fmt: skip
    """Pairs of images (positions in `paths`, a < b) that are copies or share ground, in order.

    `folder`: for the file of features, which is removed; `ungrouped`: images that join no group, so that two pairs
    with one of them do not connect the others; `detail`: by default what the number of images allows. Prints how many
    pairs were compared, unless all were.
    """
    if len(paths) < 2:
        return []
    detail = detail or detail_for(len(paths))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        features = FeatureFile(Path(temporary) / "features", detail, len(paths))
        features.path.touch()
        parts = [(i, paths[i : i + IMAGES_PER_JOB], pixels) for i in range(0, len(paths), IMAGES_PER_JOB)]
        work = [sum(path.stat().st_size for path in files) for _, files, _ in parts]
        parallel(features.write, parts, jobs, "02 features", "part", work=work)
        if len(paths) <= MAX_IMAGES_FOR_ALL_PAIRS:
            pairs = np.array(list(combinations(range(len(paths)), 2)))
        else:
            pairs = likely_pairs(features, jobs)
        leaks, compared = _compare_pairs(features, pairs, jobs, ungrouped)
    if len(paths) > MAX_IMAGES_FOR_ALL_PAIRS:
        every = len(paths) * (len(paths) - 1) // 2
        print(
            f"02: the leak check looked at {len(paths)} images ({detail.side} pixels a side, {detail.features} "
            f"features each) and compared {compared} of {every} pairs: those that share most features, for each image "
            f"{detail.neighbours} at most; {len(pairs) - compared} more were in one group already"
        )
    return sorted(leaks, key=lambda leak: (leak.a, leak.b))


def _compare_pairs(
    features: FeatureFile, pairs: np.ndarray, jobs: int, ungrouped: frozenset[int]
) -> tuple[list[Leak], int]:
    """(leaks, number of pairs compared) of `pairs` (n, 2), which start with the likeliest.

    After `SKIP_CONNECTED_AFTER` pairs, images that other leaks connect already are not compared.
    """
    leaks, compared = [], 0
    group = np.arange(features.count)
    for first in range(0, len(pairs), REGROUP_AFTER):
        batch = pairs[first : first + REGROUP_AFTER]
        if first >= SKIP_CONNECTED_AFTER:
            batch = batch[group[batch[:, 0]] != group[batch[:, 1]]]
        parts = [(features, batch[i : i + PAIRS_PER_JOB]) for i in range(0, len(batch), PAIRS_PER_JOB)]
        for found in parallel(_compare_batch, parts, jobs, "02 leak check", "part"):
            leaks += found
        compared += len(batch)
        if first + REGROUP_AFTER >= SKIP_CONNECTED_AFTER:
            group = _connected(leaks, features.count, ungrouped)
    return leaks, compared


def _connected(leaks: list[Leak], count: int, ungrouped: frozenset[int]) -> np.ndarray:
    """The number (count,) of each image's group: images that leaks connect have the same."""
    joining = [(leak.a, leak.b) for leak in leaks if not {leak.a, leak.b} & ungrouped]
    a, b = np.array(joining, np.int64).reshape(-1, 2).T
    return sparse.csgraph.connected_components(
        sparse.coo_matrix((np.ones(len(a)), (a, b)), (count, count)), directed=False
    )[1]


def _compare_batch(features: FeatureFile, pairs: np.ndarray) -> list[Leak]:
    """The leaks among `pairs` (n, 2) of positions."""
    leaks = []
    read = lru_cache(maxsize=64)(features.read)
    for a, b in pairs.tolist():
        result = compare(read(a), read(b), features.detail)
        if result is not None:
            leaks.append(Leak(a, b, *result))
    return leaks
