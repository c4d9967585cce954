"""What a run will cost: hours, disk and memory, from what the rehearsal measured and the size of the data."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib import tables
from lib.competition.dataset import Competition
from lib.config import Config
from lib.config.load import workspace_of
from lib.config.units import duration
from lib.data.folds import folds_of_column
from lib.errors import UserError
from lib.imaging.grid import window_starts
from lib.imaging.reader import open_image
from lib.imaging.roi import read_boxes
from lib.inference.backends.engines import Engine
from lib.inference.members import roi_file
from lib.inference.networks import Ensemble
from lib.inference.sliding_window import Windows, image_windows
from lib.inference.sources import source_of, windows_of
from lib.inference.tta import cost
from lib.models.network import build_network
from lib.models.outputs import Outputs
from lib.system.device import layout_of, loading_processes, pick_device
from lib.system.memory import peak_gib
from lib.system.precision import autocast, finished
from lib.workspace import Workspace, free_gib, read_json

GIB = 2**30
WORKER_GIB = 0.25  # a loading process: interpreter, libraries and a few tiles
Sizes = dict[str, list[tuple[int, int]]]  # split → (height, width) of its images, pixels


@dataclass(frozen=True)
class Measured:
    """What the rehearsal tells about one unit of work."""

    start_seconds: float  # a stage's process, until its libraries are loaded
    cut_seconds: float  # 01, per pixel of any image
    sample_seconds: float  # one training sample, forward and backward
    window_seconds: float  # one inference window, one member, one view
    tiles: float  # tiles kept per pixel of a training image
    tile_bytes: float  # a stored tile with its mask
    member_bytes: float  # a member's folder
    network_bytes: float  # a network in memory
    blank_share: float  # 0 to 1
    peak_gib: float  # memory of the rehearsal


@dataclass(frozen=True)
class Forecast:
    """Of the whole run, from the start."""

    seconds: dict[str, float]  # by kind of work
    members: int
    disk_gib: float
    memory_gib: float

    def __str__(self) -> str:
        parts = ", ".join(f"{kind} {duration(value)}" for kind, value in self.seconds.items())
        return (
            f"about {duration(sum(self.seconds.values()))} ({parts}; members: {self.members}), "
            f"{self.disk_gib:.1f} GiB of disk, {self.memory_gib:.1f} GiB of memory"
        )


def measure(config: Config, rehearsal: Workspace, start_seconds: float, cut_seconds: float, channels: int) -> Measured:
    """Read the rehearsal's tables and folders, and time the network on a batch of the real size.

    `start_seconds` and `cut_seconds`: of a process, and of the rehearsal's 01.
    """
    images = tables.read(rehearsal.images, tables.IMAGES, "01_preprocess.py")
    pixels = images["height"] * images["width"]
    train = images["split"] == "train"
    members = list(rehearsal.runs.glob("*/*_seed*"))  # of one image there is none but the one of all images
    precision = {
        "train": read_json(members[0] / "done.json", {})["precision"],
        "infer": read_json(rehearsal.root / "manifests/05_infer_ensemble.json", {})["facts"]["precision"],
    }
    sample_seconds, window_seconds, network_bytes = time_network(config, channels, precision)
    return Measured(
        start_seconds=start_seconds,
        cut_seconds=cut_seconds / float(pixels.sum()),
        sample_seconds=sample_seconds,
        window_seconds=window_seconds,
        tiles=float(images.loc[train, "n_tiles"].sum() / pixels[train].sum()),
        tile_bytes=_folder_bytes(rehearsal.tiles_dir) / max(1, int(images["n_tiles"].sum())),
        member_bytes=float(np.mean([_folder_bytes(member) for member in members])),
        network_bytes=network_bytes,
        blank_share=float((images["blank_share"] * pixels).sum() / pixels.sum()),
        peak_gib=peak_gib(),
    )


def time_network(config: Config, channels: int, precision: dict[str, str]) -> tuple[float, float, float]:
    """(seconds per training sample, seconds per inference window, bytes of the network)."""
    device = pick_device(config.train.device)
    layout = layout_of(config.train.channels_last)
    network = build_network(config.model, channels, pretrained=False).to(device, memory_format=layout)
    network.freeze(config.train.frozen)
    side = config.train.crop or round(config.preprocess.tile_size * config.train.scale)
    batch = torch.rand(usual_batch(config), 3, side, side, device=device).contiguous(memory_format=layout) * 255

    def step() -> None:
        with autocast(device, precision["train"]):
            outputs = network.train()(batch)
        logits = outputs.mask if isinstance(outputs, Outputs) else outputs
        logits.float().square().mean().backward()

    sample_seconds = _second_call(step, device) / usual_batch(config)
    network.zero_grad(set_to_none=True)
    network = network.eval().to(memory_format=torch.channels_last)
    forward = Ensemble([network], device, engine=Engine(precision["infer"]))
    size = windows_of(config).size
    windows = np.zeros((config.infer.batch_size, size, size, 3), np.uint8)
    window_seconds = _second_call(lambda: forward(windows), device) / len(windows)
    return sample_seconds, window_seconds, float(sum(4 * p.numel() for p in network.parameters()))


def scoring_seconds(validation: list[tuple[str, str]], config: Config, channels: int) -> float:
    """About how long the final score of a member takes; `validation`: (image id, path)."""
    windows = image_windows([source_of(config, i, path) for i, path in validation], windows_of(config))
    _, each, _ = time_network(config, channels, {"train": "fp32", "infer": "fp32"})
    return each * windows


def sizes_of(competition: Competition) -> Sizes:
    """Height and width of every image, from the files' heads; `external`: training images that nobody validates on.

    Of external sources at the competition's scale.
    """
    sizes: Sizes = {"train": [], "test": [], "unlabeled": [], "external": []}
    scales = {source.name: source.scale for source in competition.settings.external}
    for image in competition.images:
        external = image.split == "train" and image.source in scales
        factor = scales.get(image.source, 1.0)
        with open_image(image.path, competition.settings.pixels) as reader:
            size = (round(reader.height / factor), round(reader.width / factor))
        sizes["external" if external else image.split].append(size)
    return sizes


def fold_counts(config: Config, competition: Competition) -> tuple[int, float]:
    """(folds to train, share of the training images that they validate on)."""
    folds = config.folds
    if folds.scheme == "holdout":
        return (1, folds.holdout_share) if config.train.folds != ["all"] else (0, 0.0)
    every = folds.k
    if folds.scheme == "column" and folds.column in competition.metadata:
        fold = folds_of_column(competition.metadata, folds.column, competition.ids("train"))
        every = max(1, len(set(fold.tolist()) - {-1}))
    chosen = [fold for fold in config.train.folds if fold != "all"]
    scored = len(chosen) if config.train.folds else every
    return scored, min(1.0, scored / every)


def predict_cost(config: Config, sizes: Sizes, measured: Measured, folds: int, validated: float) -> Forecast:
    """Costs of stages 01 to 05 with all rounds. `validated`: share of the training images in the trained folds."""
    pixels = {split: float(sum(h * w for h, w in images)) for split, images in sizes.items()}
    unlabeled = sizes["test"] + sizes["unlabeled"]
    networks, rounds = folds * len(config.train.seeds), config.pseudo.rounds
    final, of_all = config.infer.folds == "all", "all" in config.train.folds
    members = networks * (rounds + 1) + len(config.train.seeds) * (of_all * (rounds + 1) or final)
    answering = len(config.train.seeds) if final else networks
    seen = 1 - measured.blank_share if config.infer.roi in ("content", "coarse") else 1.0
    if windows_of(config).whole and (boxes := roi_file(config)):  # a window for each
        seen = sum(map(len, read_boxes(boxes[0]).values())) / max(1, len(sizes["train"]) + len(sizes["test"]))

    def windows(images: list[tuple[int, int]], grid: Windows) -> float:
        return seen * sum(window_count(size, grid) for size in images)

    # 03 scores whole images without TTA, and on the way without overlap; 04 and 05 predict as configured.
    grid, kinds = windows_of(config), len(config.infer.checkpoints)
    plain = Windows(grid.size, 0.0, grid.scale, "constant", 0.0, grid.whole)
    scored = len({"swa", *config.infer.checkpoints})  # 03 asks for SWA's score always
    quick = config.train.evaluations + (config.train.evaluations > 0)  # and once at the end
    scores = scored * windows(sizes["train"], grid) + quick * windows(sizes["train"], plain)
    passes = (
        rounds * windows(unlabeled, grid) * networks
        + validated * windows(sizes["train"], grid) * len(config.train.seeds) * kinds
        + windows(sizes["test"], grid) * answering * kinds
    ) * cost(config.infer.tta)
    trials = config.infer.trial_limit * [config.infer.window, config.infer.tta].count("auto")

    # Loading the libraries; an average's batch-norm statistics, at a third of a training step each.
    starts = 4 + 2 * rounds
    averages = members * ((config.train.swa.start < 1) + (config.train.ema > 0)) * config.train.swa.bn_batches
    overhead = starts * measured.start_seconds + averages * usual_batch(config) * measured.sample_seconds / 3

    tiles = measured.tiles * (pixels["train"] + pixels["external"])
    pseudo = measured.tiles * (pixels["test"] + pixels["unlabeled"]) * folds
    pseudo = min(pseudo, config.pseudo.max_tiles * folds) if config.pseudo.max_tiles else pseudo
    workers = loading_processes(config.train.workers, pick_device(config.train.device))
    disk = (tiles + rounds * pseudo) * measured.tile_bytes + members * measured.member_bytes
    training = members * member_seconds(config, tiles, measured)
    scoring = validated * len(config.train.seeds) * (rounds + 1) * scores * measured.window_seconds
    if config.train.time_limit:  # which holds for both together
        each = config.train.time_limit
        last = each / max(1, folds) if final and not of_all else 0.0  # as long as a fold's member, for each seed
        training = max(0.0, (rounds + 1) * each - scoring) + last
    return Forecast(
        seconds={
            "starting and averaging": overhead,
            "cutting": measured.cut_seconds * sum(pixels.values()),
            "training": training,
            "scoring": scoring,
            "inference": passes * measured.window_seconds + trials,
        },
        members=members,
        disk_gib=disk / GIB,
        memory_gib=(
            measured.peak_gib + config.infer.max_gib + workers * WORKER_GIB
            + networks * kinds * measured.network_bytes / GIB
        ),
    )  # fmt: skip


def usual_batch(config: Config) -> int:
    """The batch size, or a guess where it is still to be found by trial."""
    return config.train.batch_size or 8


def member_seconds(config: Config, tiles: float, measured: Measured) -> float:
    """Training of one member, evaluation excluded."""
    if config.train.member_limit:
        return config.train.member_limit
    held_out = config.folds.holdout_share if config.folds.scheme == "holdout" else 1 / config.folds.k
    sampling = config.train.sampling
    samples = sampling.samples_per_epoch or tiles * (1 - held_out) * sampling.fraction
    return config.train.epochs * max(samples, usual_batch(config)) * measured.sample_seconds


def window_count(size: tuple[int, int], windows: Windows) -> int:
    """Windows over an image of `size` (height, width) in original pixels.

    >>> window_count((1000, 2000), Windows(500, 0.0, 1.0, "constant", 0.0))
    8
    >>> window_count((1000, 2000), Windows(500, 0.0, 0.5, "constant", 0.0))
    2
    """
    if windows.whole:
        return 1
    rows, columns = (len(window_starts(max(1, round(n * windows.scale)), windows.size, windows.stride)) for n in size)
    return rows * columns


def check_disk(config: Config, forecast: Forecast) -> None:
    """Raises UserError when the workspace's disk is too small."""
    folder = workspace_of(config)
    free = free_gib(folder)
    if forecast.disk_gib > free:
        raise UserError(
            f"the run needs about {forecast.disk_gib:.1f} GiB of disk, but {folder} has {free:.1f} GiB free; "
            "make room, or set workspace to a folder on another disk"
        )


def _second_call(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call after one that warms up."""
    call()
    started = time.perf_counter()
    call()
    finished(device)
    return time.perf_counter() - started


def _folder_bytes(folder: Path) -> float:
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
