"""01 beside the bare work: decode the same tiles and encode them again, in a plain loop; and what storage costs.

    python benchmarks/preprocess.py

Ours is the whole stage, `main` of 01_preprocess.py run in this process: it looks at every slide and label, picks
tiles, cuts and stores them with their labels, writes its tables. Left out are the start of the interpreter and of the
workers (a first run, not counted, starts them; they stay). The bare side is told which tiles were kept and does what a
competent person would with tifffile, numpy and cv2, no more: decode the segments under a box and keep the last 256,
decode a slide's label whole and slice it, shrink, write. Its files are checked to be ours, byte for byte.

Everything runs on one thread a process. Every round runs all sides once, every other round in reverse; ratios are
medians with their range over the rounds:

    of_bare       tiles per second of ours over those of the bare loop, one process each
    cut_of_bare   the same without the look: only the half of ours that reads the kept tiles
    ..._cpu       both in seconds of the processor, not of the clock: steadier on a machine that does other things too
    two_workers   tiles per second of ours with two workers over one
    bare_two      the same of the bare loop, slides shared out: what two processes get out of this machine

at 01's defaults, and, as `shrunk_...`, at the settings of configs/demo.yaml. The table of formats is made from kept
tiles, or from the images in the folder `--pictures`: bytes, megabytes of pixels written and read per second of the
processor (the files are in the page cache), and the error of what is read. The last line it prints is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import runpy
import shutil
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from statistics import median

os.environ["OPENCV_FOR_THREADS_NUM"] = "1"  # before cv2 is loaded; workers inherit it
os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import pandas as pd
import tifffile
from joblib import Parallel, delayed

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.competition.demo import write_slide
from lib.competition.demo_slides import PATIENTS, make_scene
from lib.data.preprocess import cut_tiles, survey
from lib.system.parallel import parallel
from lib.workspace import replacing_dir

REPOSITORY = Path(__file__).resolve().parents[1]
WORK = REPOSITORY / "work/bench/preprocess"
SETTINGS = {"": {}, "shrunk_": {"scale": 0.125, "tile_size": 128, "stride": 96}}
CLOCK, CPU = 0, 1
RATIOS = {
    "of_bare": ("bare", "ours", CLOCK),
    "of_bare_cpu": ("bare", "ours", CPU),
    "cut_of_bare": ("bare", "01 cut", CLOCK),
    "cut_of_bare_cpu": ("bare", "01 cut", CPU),
    "two_workers": ("ours", "ours, two workers", CLOCK),
    "bare_two": ("bare", "bare, two workers", CLOCK),
}
PNG_RLE_UP = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),  # first: it resets the strategy
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
]
FORMATS = {  # name: (suffix, options of cv2.imwrite)
    "png level 1": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
    "png level 3": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 3]),
    "png level 6": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 6]),
    # A level chooses a filter for each row and looks for repeats; without options (01's default) cv2 takes each pixel
    # less its left neighbour in all rows, and looks for runs only. The last takes the pixel above.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=4)
    parser.add_argument("--side", type=int, default=6000, help="height and width of a slide")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pictures", type=Path, help="folder of images to make the table of formats from")
    args = parser.parse_args()
    root = WORK / f"slides{args.slides}x{args.side}"
    if not root.is_dir():
        make_slides(root, args.slides, args.side)
    result: dict[str, object] = {}
    pictures = read_pictures(args.pictures) if args.pictures else []
    for prefix, options in SETTINGS.items():
        tiles, rounds = race(root, options, args.rounds)
        result |= ratios(prefix, tiles, rounds)
        pictures = pictures or read_pictures(WORK / "ours/tiles")
    result["formats"] = format_table(pictures)
    print(json.dumps(result))


# ---- the slides ------------------------------------------------------------------------------------------------------


def make_slides(root: Path, count: int, side: int) -> None:
    """A competition folder: `count` square slides to learn from and, since there must be one, a small test image."""
    plans = [("train", f"slide{i}", side, list(PATIENTS)[i % len(PATIENTS)], i) for i in range(count)]
    plans.append(("test", "test0", 1024, "P8", count))
    with replacing_dir(root) as folder:
        for split in ("train", "test"):
            (folder / split).mkdir()
        rows = parallel(make_slide, [(folder, *plan) for plan in plans], 0, "slides", "slide")
        pd.DataFrame(rows[:-1], columns=["id", "encoding"]).to_csv(folder / "train.csv", index=False)
        pd.DataFrame([("test0", "")], columns=["id", "predicted"]).to_csv(folder / "sample_submission.csv", index=False)


def make_slide(folder: Path, split: str, name: str, side: int, patient: str, seed: int) -> tuple[str, str]:
    return name, write_slide(folder / split / f"{name}.tiff", make_scene(side, side, patient, seed))


# ---- the race --------------------------------------------------------------------------------------------------------


Seconds = dict[str, np.ndarray]  # of the clock and of the processor


def now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def race(root: Path, options: dict[str, object], count: int) -> tuple[pd.DataFrame, list[Seconds]]:
    """The tiles that 01 keeps, and `count` rounds of seconds by side."""
    run_ours(root, options, 2)
    tiles = pd.read_csv(WORK / "ours/tiles.csv")
    slides = [(root, part, options) for _, part in tiles.groupby("image_id")]
    sides: dict[str, Callable[[], Seconds]] = {
        "bare": lambda: run_bare(slides, 1),
        "ours": lambda: run_ours(root, options, 1),
        "ours, two workers": lambda: run_ours(root, options, 2),
        "bare, two workers": lambda: run_bare(slides, 2),
    }
    run_bare(slides, 2)
    check_same(tiles)
    rounds = []
    for number in range(count):
        seconds: Seconds = {}
        for name in list(sides)[:: -1 if number % 2 else 1]:
            spent = sides[name]()
            seconds |= {name: spent.pop("all")} | (spent if name == "ours" else {})
        rounds.append(seconds)
    return tiles, rounds


def run_ours(root: Path, options: dict[str, object], jobs: int) -> Seconds:
    """The whole stage in a new workspace; seconds of `all`, and of its halves `01 look` and `01 cut`."""
    shutil.rmtree(WORK / "ours", ignore_errors=True)
    yaml = WORK / "bench.yaml"
    settings = {"competition": {"name": "bench", "root": str(root)}, "preprocess": options}
    yaml.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    script = runpy.run_path(str(REPOSITORY / "01_preprocess.py"))
    spent: Seconds = {}

    def clocked(function: Callable, arguments: list[tuple], jobs: int, description: str, *others, **options) -> list:
        started = now()
        done = parallel(function, arguments, jobs, description, *others, **options)
        spent[description] = now() - started
        return done

    for module in (survey, cut_tiles):
        module.parallel = clocked
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        started = now()
        script["main"]([str(yaml), "--workspace", str(WORK / "ours"), "--jobs", str(jobs)])
        spent["all"] = now() - started
    return spent


def run_bare(slides: list[tuple], jobs: int) -> Seconds:
    shutil.rmtree(WORK / "bare", ignore_errors=True)
    (WORK / "bare").mkdir()
    started = now()
    Parallel(n_jobs=jobs, batch_size=1)(delayed(bare)(*slide, WORK / "bare") for slide in slides)
    return {"all": now() - started}


def bare(root: Path, tiles: pd.DataFrame, options: dict[str, object], out: Path) -> None:
    """Decode and encode the tiles of one slide."""
    name, side = tiles["image_id"].iloc[0], options.get("tile_size", 512)
    labels = pd.read_csv(root / "train.csv", index_col="id")["encoding"]
    with tifffile.TiffFile(root / "train" / f"{name}.tiff") as file:
        page = file.pages[0]
        label = decode_label(labels[name], page.imagelength, page.imagewidth)
        across, (high, wide) = -(-page.imagewidth // page.tilewidth), (page.tilelength, page.tilewidth)

        @lru_cache(maxsize=256)
        def segment(index: int) -> np.ndarray:
            file.filehandle.seek(page.dataoffsets[index])
            data = file.filehandle.read(page.databytecounts[index])
            return page.decode(data, index, jpegtables=page.jpegtables)[0][0]

        for tile in tiles.itertuples():
            y, x, h, w = tile.y, tile.x, tile.height, tile.width
            image = np.empty((h, w, 3), np.uint8)
            for top in range(y // high * high, y + h, high):
                for left in range(x // wide * wide, x + w, wide):
                    y0, y1, x0, x1 = max(y, top), min(y + h, top + high), max(x, left), min(x + w, left + wide)
                    piece = segment(top // high * across + left // wide)
                    image[y0 - y : y1 - y, x0 - x : x1 - x] = piece[y0 - top : y1 - top, x0 - left : x1 - left]
            mask = label[y : y + h, x : x + w].astype(np.float32)
            if (h, w) != (side, side):
                image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
                mask = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(out / Path(tile.image_path).name), image[:, :, ::-1])
            mask = (mask * 254).round().astype(np.uint8)
            cv2.imwrite(str(out / Path(tile.mask_path).name), mask)


def decode_label(text: str, height: int, width: int) -> np.ndarray:
    """The decoder of countless public notebooks."""
    numbers = np.asarray(text.split(), dtype=int)
    mask = np.zeros(height * width, np.uint8)
    for low, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
        mask[low : low + length] = 1
    return mask.reshape(width, height).T


def check_same(tiles: pd.DataFrame) -> None:
    for path in [*tiles["image_path"], *tiles["mask_path"]]:
        ours, theirs = (folder / Path(path).name for folder in (WORK / "ours/tiles", WORK / "bare"))
        assert ours.read_bytes() == theirs.read_bytes(), f"{ours} and {theirs} differ"


def ratios(prefix: str, tiles: pd.DataFrame, rounds: list[Seconds]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, (over, under, clock) in RATIOS.items():
        values = sorted(r[over][clock] / r[under][clock] for r in rounds)
        result[prefix + key] = round(median(values), 3)
        result[f"{prefix}{key}_range"] = [round(values[0], 3), round(values[-1], 3)]
        print(f"{prefix + key:<24} {median(values):8.3f}   ({values[0]:.3f} to {values[-1]:.3f})")
    seconds = {name: median(r[name][CLOCK] for r in rounds) for name in rounds[0]}
    result[f"{prefix}seconds"] = {name: round(value, 2) for name, value in seconds.items()}
    result[f"{prefix}tiles"] = len(tiles)
    print(f"{len(tiles)} tiles; seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in seconds.items()) + "\n")
    return result


# ---- formats ---------------------------------------------------------------------------------------------------------


def read_pictures(folder: Path) -> list[np.ndarray]:
    """The middle 512 x 512 pixels of some images of a folder (BGR), evenly chosen; labels left out."""
    paths = sorted(p for p in folder.iterdir() if not p.stem.endswith("_mask"))
    images = (cv2.imread(str(paths[i])) for i in np.linspace(0, len(paths) - 1, TABLE_TILES).astype(int))
    return [middle(image) for image in images if image is not None and min(image.shape[:2]) >= 512]


def middle(image: np.ndarray) -> np.ndarray:
    y, x = (side // 2 - 256 for side in image.shape[:2])
    return np.ascontiguousarray(image[y : y + 512, x : x + 512])


def format_table(pictures: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """By format: kilobytes of a tile, megabytes of pixels written and read per second, decibels."""
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
    """Bytes, seconds of writing and of reading, PSNR (100 without error)."""
    folder = WORK / "formats"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    paths = [folder / f"{i}{suffix}" for i in range(len(pictures))]
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
    size = sum(path.stat().st_size for path in folder.iterdir())
    return size, written - started, read - written, 100.0 if not wrong else float(10 * np.log10(255**2 / wrong))


if __name__ == "__main__":
    main()
