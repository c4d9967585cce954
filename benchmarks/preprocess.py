"""Compares 01 with the bare work: decoding and encoding the same tiles in a plain loop. Compares formats of tiles.

    python benchmarks/preprocess.py

Our side is the whole stage, `main` of 01_preprocess.py in this process. It surveys every slide and label, picks tiles,
cuts and stores them with their labels, and writes its tables. The start of the interpreter and of the workers does not
count (a first run starts them). The bare side gets the list of kept tiles, and does only what a competent person would
do with tifffile, numpy and cv2: decode the segments under a box and keep the last 256 of them, decode a slide's whole
label and slice it, shrink, write. The files of both sides are checked to be equal, byte for byte.

Every process has one thread. Every round runs all sides once, every other round in reverse order. Ratios are medians
with their range over the rounds:

    of_bare       tiles per second of our side over those of the bare loop, one process each
    cut_of_bare   the same without the survey: only the part of our side that reads the kept tiles
    ..._cpu       both in seconds of the processor instead of the clock, which other programs disturb less
    two_workers   tiles per second of our side with two workers over one
    bare_two      the same of the bare loop with slides divided among two processes: the gain that the machine allows

They are measured at 01's defaults and, as `shrunk_...`, at the settings of configs/demo.yaml. The table of formats
(tile_formats.py) is made from kept tiles, or from the images in the folder `--pictures`. The last line is JSON.
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
from unittest.mock import patch

os.environ["OPENCV_FOR_THREADS_NUM"] = "1"  # before cv2 is loaded; workers inherit it
os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import pandas as pd
import tifffile
from joblib import Parallel, delayed

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.tile_formats import format_table, read_pictures
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
    """A competition folder: `count` square training slides, and a small test image, because there must be one."""
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
    """Seconds of the clock and of this process's processor time."""
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
    """Run the whole stage in a new workspace. Returns seconds of `all`, and of its parts `01 survey` and `01 cut`."""
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

    with contextlib.ExitStack() as stack:
        for module in (survey, cut_tiles):
            stack.enter_context(patch.object(module, "parallel", clocked))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        started = now()
        script["main"]([str(yaml), "--workspace", str(WORK / "ours"), "--jobs", str(jobs)])
        spent["all"] = now() - started
    return spent


def run_bare(slides: list[tuple], jobs: int) -> Seconds:
    """Cut the same tiles with a bare loop."""
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
    """The decoder of many public notebooks."""
    numbers = np.asarray(text.split(), dtype=int)
    mask = np.zeros(height * width, np.uint8)
    for low, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
        mask[low : low + length] = 1
    return mask.reshape(width, height).T


def check_same(tiles: pd.DataFrame) -> None:
    """Fails where a tile of ours and of the bare loop differ in a byte."""
    for path in [*tiles["image_path"], *tiles["mask_path"]]:
        ours, theirs = (folder / Path(path).name for folder in (WORK / "ours/tiles", WORK / "bare"))
        assert ours.read_bytes() == theirs.read_bytes(), f"{ours} and {theirs} differ"


def ratios(prefix: str, tiles: pd.DataFrame, rounds: list[Seconds]) -> dict[str, object]:
    """The ratios of `RATIOS`, each with its range over the rounds. Prints them."""
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


if __name__ == "__main__":
    main()
