"""Peak memory of 01, 03's out-of-fold map, 04 and 05 on slides of 40,000 columns, beside MONAI and pytorch-toolbelt.

    python -m venv peers && peers/bin/pip install -r benchmarks/requirements.txt
    peers/bin/python benchmarks/memory.py

The slides (three quarters of it tissue, ragged labels, tiled JPEG-compressed TIFF) and a small one to train on make a
competition, with one class, with 16 labels that exclude one another, and with 30 classes that overlap, six on every
labeled pixel. Each stage is its own script in its own process, with a network of two convolutions, windows of 512
pixels at full resolution with a quarter of overlap. Counted is the peak of its resident memory above the resident
memory of an idle process that has imported the same and loaded the network. The peers get the same network and windows
on images that they survive; their bytes are per pixel of one class's map, image included. Runs on Linux. Finished
measurements stand in work/bench/memory/results.jsonl and are not run again (`--redo`). The last line it prints is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.competition.demo import TILE_SIDE
from lib.competition.demo_slides import draw, draw_label, make_scene
from lib.competition.rle import BandEncoder

REPOSITORY = Path(__file__).resolve().parents[1]
WORK = REPOSITORY / "work/bench/memory"
WIDTH = 40_000
WINDOW, OVERLAP, BATCH = 512, 0.25, 4
BLOCK = 2048  # side of the squares that take turns among 15 classes
OVERLAPPING, TOGETHER = 30, 6  # classes that overlap, and how many of them each square has
STAGES = {
    "01": ["01_preprocess.py", "--jobs", "1"],
    "02": ["02_make_folds.py"],
    "03": ["03_train.py", "--train.folds", "0"],
    "04": ["04_pseudo_label.py", "--train.round", "1"],
    "05": ["05_infer_ensemble.py"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heights", type=int, nargs="+", default=[40_000, 10_000])
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 16, OVERLAPPING], choices=[1, 16, OVERLAPPING])
    parser.add_argument("--peer-sides", type=int, nargs="*", default=[4_000, 8_000])
    parser.add_argument("--redo", action="store_true")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        run_peer(args.peer, args.side)
        return
    log = WORK / "results.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    if args.redo:
        log.unlink(missing_ok=True)
    peaks: dict[tuple[int, int, str], float] = {}
    for height in args.heights:
        raw = make_competition(height)
        for classes in args.classes:
            config = write_config(raw, height, classes)
            for stage, command in STAGES.items():
                key = f"{height} {classes} {stage}"
                found = measured(log, key, lambda c=command, f=config, s=stage: stage_peak(c, f, s))
                peaks[height, classes, stage] = found["gib"]
                print(f"{height:>6} rows, {classes:>2} classes, {stage}: {found['gib']:.3f} GiB, {found['seconds']} s")
    by_tool = {}
    for tool in ("monai", "toolbelt"):
        for side in args.peer_sides:
            found = measured(log, f"{tool} {side}", lambda t=tool, s=side: peer_peak(t, s))
            by_tool[tool] = round(found["gib"] * 2**30 / side**2, 1)  # the largest that was tried
            print(f"{tool}, {side} x {side}: {found['gib']:.3f} GiB, {by_tool[tool]} bytes a pixel")
    counted = {key: gib for key, gib in peaks.items() if key[2] != "02"}
    worst = {height: max(gib for key, gib in counted.items() if key[0] == height) for height in args.heights}
    by_tool["ours"] = round(max(g for k, g in counted.items() if k[1] == 1) * 2**30 / (max(args.heights) * WIDTH), 3)
    print(
        json.dumps(
            {
                **{f"peak_gib_{height // 1000}k": round(gib, 3) for height, gib in worst.items()},
                "bytes_per_pixel": by_tool,
                "stages": {" ".join(map(str, key)): round(gib, 3) for key, gib in peaks.items()},
            }
        )
    )


def measured(log: Path, key: str, measure) -> dict:
    """A line of the log, or a new one."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for line in lines:
        if line["key"] == key:
            return line
    line = {"key": key, **measure()}
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return line


# ---- ours ------------------------------------------------------------------------------------------------------------


def stage_peak(command: list[str], config: Path, stage: str) -> dict:
    """Run a stage. Returns its peak memory above that of its imports and its network, and its seconds."""
    arguments = [str(config), "--train.workers", "0"]
    loads = "" if stage in ("01", "02") else (
        "from lib.config.training import Model; from lib.models.network import build_network;"
        "network = build_network(Model(architecture='tiny'), 16);"
    )  # fmt: skip
    idle = f"import os, runpy; runpy.run_path({command[0]!r}); {loads} print(open('/proc/self/status').read())"
    status = subprocess.run([sys.executable, "-c", idle], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    started = time.monotonic()
    with (WORK / f"{config.stem}.log").open("a") as log:
        process = subprocess.Popen([sys.executable, command[0], *arguments, *command[1:]], cwd=REPOSITORY, stderr=log)
        peak = watch(process)
    if process.returncode:
        raise SystemExit(f"memory.py: {command[0]} failed; see {WORK / config.stem}.log")
    gib = (peak - kib(status.stdout, "VmRSS")) / 2**20
    return {"gib": round(gib, 4), "seconds": round(time.monotonic() - started)}


def watch(process: subprocess.Popen) -> float:
    """The peak resident memory of a process in KiB."""
    peak = 0.0
    while process.poll() is None:
        try:
            peak = max(peak, kib(Path(f"/proc/{process.pid}/status").read_text(), "VmHWM"))
        except (OSError, StopIteration):
            break
        time.sleep(0.05)
    process.wait()
    return peak


def kib(status: str, field: str) -> float:
    """A field of /proc/<process>/status."""
    return float(next(line for line in status.splitlines() if line.startswith(field)).split()[1])


def write_config(raw: Path, height: int, classes: int) -> Path:
    """The YAML of a competition with one image and so many classes."""
    names = ["tuft"] if classes == 1 else names_of(classes)
    columns = {} if classes == 1 else {"class_column": "class"}
    labels = {
        "format": "rle_csv",
        "path": f"train{classes}.csv",
        "id_column": "id",
        "rle_column": "encoding",
        **columns,
    }
    settings = {
        "competition": {
            "name": f"memory{height}x{classes}", "root": str(raw), "classes": names, "labels": labels,
            "submission": {"sample": f"sample{classes}.csv", **columns}, "metric": "mean_dice",
            "multilabel": classes == OVERLAPPING,
            "train_images": "train/*", "test_images": "test/*",
        },
        "workspace": str(WORK / f"work-{height}-{classes}"),
        "preprocess": {"scale": 0.25, "tile_size": 256, "background_keep": 0.05},
        "folds": {"scheme": "column", "column": "fold", "leak_check": False},
        "model": {"architecture": "tiny"},
        "train": {"epochs": 300, "evaluations": 0, "batch_size": BATCH, "precision": "fp32"},
        "infer": {"window": WINDOW, "overlap": OVERLAP, "scale": 1.0, "batch_size": BATCH, "precision": "fp32",
                  "backend": "eager"},
        "pseudo": {"rounds": 1, "min_confidence": 0.5, "max_tiles": 100},
        "report": {"pictures": 1},
    }  # fmt: skip
    settings["competition"]["metadata"] = "metadata.csv"
    path = WORK / f"{height}x{classes}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def names_of(classes: int) -> list[str]:
    """Of 15 classes beside background, or of those that overlap."""
    return [f"tuft{i}" for i in range(1, 16 if classes == 16 else OVERLAPPING + 1)]


def make_competition(height: int) -> Path:
    """A slide to validate on, the same to predict, and a small one to train on."""
    raw = WORK / f"raw-{height}"
    if (raw / f"sample{OVERLAPPING}.csv").exists():
        return raw
    for folder in ("train", "test"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    texts: dict[str, list[list[str]]] = {}
    for name, size in (("small", (4096, 4096)), ("large", (height, WIDTH))):
        scene = make_scene(*size, "P1", seed=3, tissue=0.75)
        one, exclusive, overlapping = ([BandEncoder(*size) for _ in range(n)] for n in (1, 15, OVERLAPPING))
        for y in range(0, size[0], TILE_SIDE):
            label = draw_label(scene, y, 0, min(TILE_SIDE, size[0] - y), size[1])
            square = np.add.outer(np.arange(y, y + len(label)) // BLOCK, np.arange(size[1]) // BLOCK)
            one[0].push(y, label)
            for i, encoder in enumerate(exclusive):
                encoder.push(y, label * (square % 15 == i))
            for i, encoder in enumerate(overlapping):
                encoder.push(y, label * ((square * 7 - i) % OVERLAPPING < TOGETHER))  # all of them on any slide
        texts[name] = [[encoder.finish() for encoder in encoders] for encoders in (one, exclusive, overlapping)]

        def tiles(scene=scene, size=size):
            for y in range(0, size[0], TILE_SIDE):
                for x in range(0, size[1], TILE_SIDE):
                    yield draw(scene, y, x, TILE_SIDE, TILE_SIDE)

        tifffile.imwrite(
            raw / "train" / f"{name}.tif", tiles(), shape=(*size, 3), dtype=np.uint8, tile=(TILE_SIDE, TILE_SIDE),
            photometric="rgb", compression="jpeg", compressionargs={"level": 90}, bigtiff=True, metadata=None,
        )  # fmt: skip
    (raw / "test/asked.tif").unlink(missing_ok=True)
    os.link(raw / "train/large.tif", raw / "test/asked.tif")
    for place, classes in enumerate((1, 16, OVERLAPPING)):
        names = names_of(classes) if classes > 1 else [""]
        rows = [
            (name, one, text) for name, found in texts.items() for one, text in zip(names, found[place], strict=True)
        ]
        train, sample = pd.DataFrame(rows, columns=["id", "class", "encoding"]), [("asked", one, "") for one in names]
        asked = pd.DataFrame(sample, columns=["id", "class", "predicted"])
        for table, file in ((train, f"train{classes}.csv"), (asked, f"sample{classes}.csv")):
            (table if classes > 1 else table.drop(columns="class")).to_csv(raw / file, index=False)
    folds = pd.DataFrame([["small", 1], ["large", 0], ["asked", -1]], columns=["id", "fold"])
    folds.to_csv(raw / "metadata.csv", index=False)
    return raw


# ---- peers -----------------------------------------------------------------------------------------------------------


def peer_peak(tool: str, side: int) -> dict:
    started = time.monotonic()
    command = [sys.executable, __file__, "--peer", tool, "--side", str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": round(time.monotonic() - started)}


def run_peer(tool: str, side: int) -> None:
    """One peer in this process: its peak above what stood before the image was read."""
    import torch
    from peers.windows import monai_map, toolbelt_map

    from lib.config.training import Model
    from lib.imaging.blend import window_weights
    from lib.models.network import build_network

    network = build_network(Model(architecture="tiny"), 1).eval()
    with torch.inference_mode():
        network(torch.zeros(BATCH, 3, WINDOW, WINDOW))
    path = WORK / f"peer-{side}.npy"
    if not path.exists():
        scene = make_scene(side, side, "P1", seed=3, tissue=0.75)
        np.save(path, draw(scene, 0, 0, side, side))
        os.execv(sys.executable, [sys.executable, *sys.argv])  # drawing took memory of its own
    before = kib(Path("/proc/self/status").read_text(), "VmRSS")
    image = np.load(path)

    def run(images):
        return network(images).sigmoid()

    if tool == "monai":
        found = monai_map(run, image, WINDOW, OVERLAP, BATCH)
    else:
        found = toolbelt_map(run, image, window_weights(WINDOW, "gaussian"), OVERLAP, BATCH)
    assert found.shape == (1, side, side)
    peak = kib(Path("/proc/self/status").read_text(), "VmHWM")
    print(json.dumps({"gib": round((peak - before) / 2**20, 4)}))


if __name__ == "__main__":
    main()
