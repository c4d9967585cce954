"""02 on many images: seconds, memory, and how many planted overlaps the leak check finds.

    python benchmarks/folds.py                              # 5,000 images
    python benchmarks/folds.py --images 240
    python benchmarks/folds.py --images 10000 --as-if 192000  # as closely as so many images are looked at
    python benchmarks/folds.py --images 192000 --photographs /tmp/photographs  # kept, and not written again

Writes small synthetic photographs to a folder, by default a temporary one: mostly different ones, and `--planted`
pairs. A pair shares 30 to 60 % of its area along one side or at a corner, or is a smaller copy; its second image is
turned or mirrored, each of the 8 ways equally often. Then runs what 02 does: the leak check, merging groups, folds, and
an epoch's samples. The last line is JSON: `seconds` of all, `parts`, `cpu_seconds` of all processes, `gib` (this
process and its largest worker times their number), `recall`, `false_pairs`, and `seconds_192000`: `seconds` scaled by
the number of images. On a machine that does other work, `cpu_seconds / cores` says more, though a shared core is
slower, too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from joblib.externals.loky import get_reusable_executor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.config.folds import Folds
from lib.config.training import Sampling
from lib.data.folds import make_folds, merge_groups
from lib.data.leaks.features import detail_for
from lib.data.leaks.find import find_leaks
from lib.data.sampler import BalancedSampler
from lib.imaging.reader import AS_THEY_ARE
from lib.system.parallel import parallel


def photograph(seed: int, height: int, width: int) -> np.ndarray:
    """Soft ground with lines and discs, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (max(2, height // 8), max(2, width // 8), 3)).astype(np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    side = max(height, width)
    for _ in range(40):
        a, b = (tuple(int(v) for v in rng.integers(0, side, 2)) for _ in range(2))
        cv2.line(image, a, b, rng.integers(0, 255, 3).tolist(), int(rng.integers(1, 4)))
        cv2.circle(image, b, int(rng.integers(3, side // 16)), rng.integers(0, 255, 3).tolist(), -1)
    return image


def turned(image: np.ndarray, way: int) -> np.ndarray:
    """One of the 8 symmetries of the square."""
    image = np.rot90(image, way % 4)
    return np.ascontiguousarray(image[:, ::-1] if way >= 4 else image)


def planted_pair(number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Two images that share ground."""
    seed, kind = 10**8 + number, number % 3
    share = np.random.default_rng(seed).uniform(0.3, 0.6)
    if kind == 0:
        width = round(side * (2 - share))
        whole = photograph(seed, side, width)
        first, second = whole[:, :side], whole[:, width - side :]
    elif kind == 1:
        off = round(side * (1 - share**0.5))
        whole = photograph(seed, side + off, side + off)
        first, second = whole[:side, :side], whole[off:, off:]
    else:
        first = photograph(seed, side, side)
        second = cv2.resize(first, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    return first, turned(second, number // 3 % 8)


def write_some(folder: Path, numbers: range, planted: int, side: int) -> None:
    """Write the images of these numbers that are not there yet. Pairs come first."""
    for number in numbers:
        path = folder / f"{number:07}.jpg"
        if path.exists():
            continue
        pair = number < 2 * planted
        image = planted_pair(number // 2, side)[number % 2] if pair else photograph(number, side, side)
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 85])


def used(jobs: int) -> tuple[float, float]:
    """(seconds of the CPU, GiB at most) of this process and its workers, which it ends: only then they are counted."""
    get_reusable_executor().shutdown(wait=True)
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = own.ru_utime + own.ru_stime + workers.ru_utime + workers.ru_stime
    return seconds, (own.ru_maxrss + jobs * workers.ru_maxrss) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--planted", type=int, default=0, help="pairs; 0 for a tenth of the images")
    parser.add_argument("--side", type=int, default=256, help="pixels of an image")
    parser.add_argument("--as-if", type=int, default=0, help="look as closely as at so many images")
    parser.add_argument("--photographs", type=Path, help="folder that keeps the photographs for another run")
    parser.add_argument("--write-only", action="store_true", help="write the photographs, and stop")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    planted, parts = args.planted or args.images // 20, {}
    names = [f"{i:07}" for i in range(args.images)]

    def timed(name: str, call):
        started = time.perf_counter()
        result = call()
        parts[name] = round(time.perf_counter() - started, 1)
        return result

    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.photographs or Path(temporary)) / f"side{args.side}-planted{planted}"
        folder.mkdir(parents=True, exist_ok=True)
        steps = [(folder, range(i, min(i + 64, args.images)), planted, args.side) for i in range(0, args.images, 64)]
        parallel(write_some, steps, args.jobs, "photographs", "part")
        if args.write_only:
            return
        before, _ = used(args.jobs)
        paths, detail = [folder / f"{name}.jpg" for name in names], detail_for(args.as_if or args.images)
        leaks = timed(
            "leak check", lambda: find_leaks(paths, AS_THEY_ARE, args.jobs, folder=folder, detail=detail)
        )  # fmt: skip
    found = {(leak.a, leak.b) for leak in leaks}
    groups = timed("groups", lambda: merge_groups(names, sorted(found)))
    content = np.random.default_rng(0).random((args.images, 2))
    folds = timed("folds", lambda: make_folds(groups, content, Folds(k=5)))
    tiles = pd.DataFrame({"image_id": names, "group": groups, "object": folds > 0, "pseudo": False})
    timed("sampler", lambda: BalancedSampler(tiles, Sampling(balance="images"), 0.0, 1).keys(0))
    true = {(2 * i, 2 * i + 1) for i in range(planted)}
    after, gib = used(args.jobs)
    result = {
        "images": args.images, "side": args.side, "cores": args.jobs, "load": round(os.getloadavg()[0], 1),
        "look": [detail.side, detail.features], "seconds": round(sum(parts.values()), 1), "parts": parts,
        "cpu_seconds": round(after - before, 1), "gib": round(gib, 2), "recall": len(found & true) / planted,
        "false_pairs": len(found - true),
        "seconds_192000": round(sum(parts.values()) * 192_000 / args.images),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
