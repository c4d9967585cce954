"""Compares samples of six channels of 16 bits with samples of red, green and blue of 8 bits.

    python benchmarks/channels.py
    python benchmarks/channels.py --crop 256 --preset heavy

Both sides read the same scenes of the demo as 03 does, tile by tile, in the format that 01 stores them in (`.npy` and
PNG), and augment them. One thread. Every round runs both sides, every other round in reverse order, in seconds of the
processor, which other programs disturb less than those of the clock. `stored`: the formats of six channels of 16 bits
side by side: milliseconds to read a tile, and megabytes. The last line is JSON; `ratio` is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

os.environ["OPENCV_FOR_THREADS_NUM"] = "1"  # before cv2 is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.competition.demo_slides import draw, draw_label, make_scene
from lib.config.pixels import Pixels
from lib.config.training import Augment
from lib.data.augment import Augmentation
from lib.data.dataset import TileDataset, TileFile
from lib.data.targets import Targets
from lib.data.tile_files import write_tile
from lib.errors import run_script
from lib.imaging.reader import AS_THEY_ARE

BANDS = ["blue", "green", "red", "nir", "swir1", "swir2"]
SIX = Pixels(channels=BANDS, colours=["red", "green", "blue"])
SIDE = 512  # of a tile, pixels
MOST = 2.0  # how many times as long six channels may take


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--crop", type=int, default=0)
    parser.add_argument("--preset", default="medium")
    args = parser.parse_args(argv)
    with TemporaryDirectory() as folder:
        sides = {
            name: dataset(Path(folder) / name, pixels, args)
            for name, pixels in (("three of uint8", AS_THEY_ARE), ("six of uint16", SIX))
        }
        seconds = {name: [] for name in sides}
        for number in range(args.rounds + 1):  # the first one warms up
            for name, samples in list(sides.items())[:: 1 - 2 * (number % 2)]:
                seconds[name].append(cpu_seconds(partial(read_all, samples, number)))
        stored = formats(Path(folder))
    report(seconds, stored, args)


def dataset(folder: Path, pixels: Pixels, args: argparse.Namespace) -> TileDataset:
    """Tiles of one demo scene, as `pixels` store them."""
    scene, files = make_scene(SIDE * 2, SIDE * args.tiles, "P1", seed=3, tissue=0.9), []
    (folder / "tiles").mkdir(parents=True)
    for number in range(args.tiles):
        image = draw(scene, 0, SIDE * number, SIDE, SIDE)
        label = draw_label(scene, 0, SIDE * number, SIDE, SIDE) * 254
        image, suffix = (image, "png") if pixels is AS_THEY_ARE else (six_bands(image, number), "npy")
        row = write_tile({"tile_id": str(number)}, image, label, folder / "tiles", suffix)
        files.append(TileFile(folder / row["image_path"], folder / row["mask_path"], False, 1.0))
    return TileDataset(files, Targets(1), Augmentation(Augment(preset=args.preset), args.crop, pixels), seed=1)


def six_bands(image: np.ndarray, seed: int) -> np.ndarray:
    """RGB (h, w, 3) uint8 as six channels of uint16: blue, green, red and their inverses, with noise below 8 bits."""
    noise = np.random.default_rng(seed).integers(0, 257, (*image.shape[:2], 6)).astype(np.uint16)
    return np.concatenate([image[..., ::-1], 255 - image], axis=-1) * np.uint16(256) + noise // 2


def read_all(samples: TileDataset, epoch: int) -> None:
    for number in range(len(samples)):
        samples[number, epoch, number]


def formats(folder: Path) -> dict[str, dict[str, float]]:
    """Format -> milliseconds to read a tile of six channels of 16 bits, and megabytes of its file."""
    image = np.load(folder / "six of uint16/tiles/0.npy")
    array, picture = folder / "a.npy", folder / "a.png"
    np.save(array, image)
    cv2.imwrite(str(picture), np.concatenate(np.moveaxis(image, 2, 0)))
    readers = {
        array: lambda: np.load(array),
        picture: lambda: np.stack(np.split(cv2.imread(str(picture), cv2.IMREAD_UNCHANGED), 6), axis=-1),
    }
    return {
        path.suffix: {
            "ms": round(1e3 * median(cpu_seconds(read) for _ in range(5)), 2),
            "mb": round(path.stat().st_size / 1e6, 2),
        }
        for path, read in readers.items()
    }


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def report(seconds: dict[str, list[float]], stored: dict[str, dict[str, float]], args: argparse.Namespace) -> None:
    """Print a line for each side and format, and all of it as one JSON line."""
    three, six = (np.array(values[1:]) / args.tiles for values in seconds.values())
    for name, values in zip(seconds, (three, six), strict=True):
        print(f"{name:>16}: {1e3 * median(values):6.2f} ms a sample")
    for suffix, measured in stored.items():
        print(f"{suffix:>16}: {measured['ms']:6.2f} ms to read, {measured['mb']:.2f} MB")
    ratios = six / three
    about = {"preset": args.preset, "crop": args.crop, "rounds": args.rounds, "most": MOST, "stored": stored}
    span = [round(float(value), 3) for value in (ratios.min(), ratios.max())]
    print(json.dumps({"ratio": round(median(ratios.tolist()), 3), "range": span, **about}))


if __name__ == "__main__":
    run_script(main)
