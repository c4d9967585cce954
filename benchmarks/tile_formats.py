"""Measures formats of tiles: their size, megabytes of pixels written and read per CPU second, and their error."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from benchmarks.settings import REPOSITORY

WORK = REPOSITORY / "work/bench/formats"
PNG_RLE_UP = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),  # first: it resets the strategy
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
]
FORMATS = {  # name: (suffix, options of cv2.imwrite)
    "png level 1": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "png level 3": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 3]),
    "png level 6": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 6]),
    # With a level, a filter is chosen for each row, and repeats are searched. Without options (01's default), cv2
    # subtracts the left neighbour in all rows and searches only runs. The last one subtracts the pixel above.
    "png, no option": (".png", []),
    "png 1, rle, up": (".png", PNG_RLE_UP),
    "jpeg 90": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 90]),
    "jpeg 95": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]),
    "webp lossless": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    "bmp": (".bmp", []),
    "raw, one .npy each": (".npy", []),
    "raw, one memory map": (".raw", []),
}
TABLE_TILES, TABLE_ROUNDS = 24, 3


def read_pictures(folder: Path) -> list[np.ndarray]:
    """The middle 512 x 512 pixels of some images of a folder (BGR), evenly chosen, without labels."""
    paths = sorted(p for p in folder.iterdir() if not p.stem.endswith("_mask"))
    images = (cv2.imread(str(paths[i])) for i in np.linspace(0, len(paths) - 1, TABLE_TILES).astype(int))
    return [middle(image) for image in images if image is not None and min(image.shape[:2]) >= 512]


def middle(image: np.ndarray) -> np.ndarray:
    y, x = (side // 2 - 256 for side in image.shape[:2])
    return np.ascontiguousarray(image[y : y + 512, x : x + 512])


def format_table(pictures: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """Format -> kilobytes of a tile, megabytes of pixels written and read per second, error in decibels (PSNR)."""
    megabytes = sum(p.nbytes for p in pictures) / 1e6
    rounds = [{name: store(pictures, *spec) for name, spec in FORMATS.items()} for _ in range(TABLE_ROUNDS)]
    table = {}
    print(f"{len(pictures):>3} tiles of 512    kB a tile   write MB/s   read MB/s   error dB")
    for name in FORMATS:
        size, error = rounds[0][name][0] / len(pictures) / 1e3, rounds[0][name][3]
        write, read = (megabytes / median(r[name][i] for r in rounds) for i in (1, 2))
        table[name] = {"kb": round(size, 1), "write": round(write, 1), "read": round(read, 1), "db": round(error, 1)}
        print(f"{name:<20} {size:11.1f} {write:12.1f} {read:11.1f} {f'{error:.1f}' if error < 99 else 'none':>10}")
    return table


def store(pictures: list[np.ndarray], suffix: str, options: list[int]) -> tuple[int, float, float, float]:
    """Write and read pictures in a format: (bytes, seconds of writing, of reading, PSNR, which is 100 without error).

    The files are in the page cache when they are read.
    """
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    paths = [WORK / f"{i}{suffix}" for i in range(len(pictures))]
    shape = len(pictures), 512, 512, 3
    started = time.process_time()
    if suffix == ".raw":
        np.memmap(paths[0], np.uint8, "w+", shape=shape)[:] = pictures
    else:
        for path, picture in zip(paths, pictures, strict=True):
            np.save(path, picture) if suffix == ".npy" else cv2.imwrite(str(path), picture, options)
    written = time.process_time()
    if suffix == ".raw":
        back = [picture.copy() for picture in np.memmap(paths[0], np.uint8, "r", shape=shape)]
    else:
        back = [np.load(path) if suffix == ".npy" else cv2.imread(str(path)) for path in paths]
    read = time.process_time()
    wrong = np.mean([np.square(a.astype(np.float32) - b).mean() for a, b in zip(back, pictures, strict=True)])
    size = sum(path.stat().st_size for path in WORK.iterdir())
    return size, written - started, read - written, 100.0 if not wrong else float(10 * np.log10(255**2 / wrong))
