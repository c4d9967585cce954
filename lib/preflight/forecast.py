"""Forecasts the hours, disk and memory of a run from what the rehearsal measured and from the size of the data."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib import tables
from lib.competition.dataset import Competition
from lib.competition.metadata import zoom_of
from lib.config import Config
from lib.config.units import duration
from lib.data.folds import folds_of_column
from lib.imaging.reader import open_image
from lib.imaging.roi import boxes_file, read_boxes
from lib.inference.backends.engines import Engine
from lib.inference.networks import Ensemble
from lib.inference.sliding_window import count_windows, image_windows
from lib.inference.sources import batch_of, source_of, windows_of
from lib.inference.tta import cost
from lib.inference.windows import Windows
from lib.models.inputs import inputs_of
from lib.models.network import build_network
from lib.models.outputs import Outputs
from lib.system.device import layout_of, loading_processes, pick_device
from lib.system.memory import peak_gib
from lib.system.precision import autocast, finished
from lib.workspace import Workspace, read_json

GIB = 2**30
WORKER_GIB = 0.25  # a loading process: interpreter, libraries and a few tiles
SplitSizes = dict[str, list[tuple[int, int]]]  # split → (height, width) of its images, pixels


@dataclass(frozen=True)
class Measured:
    """Costs of one unit of work, which the rehearsal measured."""

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
    """Costs of the whole run, from the start."""

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
    pixels = config.competition.pixels
    network = build_network(config.model, channels, pretrained=False, inputs=inputs_of(pixels))
    network.to(device, memory_format=layout)
    network.freeze(config.train.frozen)
    side = config.train.crop or round(config.preprocess.tile_size * config.train.scale)
    batch = torch.rand(usual_batch(config), pixels.count, side, side, device=device) * 255
    batch = batch.contiguous(memory_format=layout)

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
    windows = np.zeros((batch_of(config), size, size, pixels.count), pixels.dtype)
    window_seconds = _second_call(lambda: forward(windows), device) / len(windows)
    return sample_seconds, window_seconds, float(sum(4 * p.numel() for p in network.parameters()))


def scoring_seconds(validation: list[tuple[str, str]], config: Config, channels: int) -> float:
    """About how long the final score of a member takes; `validation`: (image id, path)."""
    windows = image_windows([source_of(config, i, path) for i, path in validation], windows_of(config))
    _, each, _ = time_network(config, channels, {"train": "fp32", "infer": "fp32"})
    return each * windows


def image_sizes(competition: Competition, config: Config) -> SplitSizes:
    """Height and width of every image, from the files' heads; `external`: training images that nobody validates on.

    Of external sources, and of images with a pixel size of their own, at the competition's scale.
    """
    sizes: SplitSizes = {"train": [], "test": [], "unlabeled": [], "external": []}
    scales = {source.name: source.scale for source in competition.settings.external}
    for image in competition.images:
        external = image.split == "train" and image.source in scales
        factor = scales.get(image.source, 1.0) / zoom_of(config, image.image_id)
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
        every = max(1, len(tables.validation_folds(fold.tolist())))
    chosen = [fold for fold in config.train.folds if fold != "all"]
    scored = len(chosen) if config.train.folds else every
    return scored, min(1.0, scored / every)


class _Work:
    """How much work a configuration makes of some images. `folds`, `validated` as of `predict_cost`."""

    def __init__(self, config: Config, sizes: SplitSizes, measured: Measured, folds: int, validated: float):
        self.config, self.sizes, self.measured, self.folds, self.validated = config, sizes, measured, folds, validated
        self.seeds, self.rounds = len(config.train.seeds), config.pseudo.rounds
        self.networks = folds * self.seeds
        self.final, self.of_all = config.infer.folds == "all", "all" in config.train.folds
        self.members = self.networks * (self.rounds + 1)
        self.members += self.seeds * (self.of_all * (self.rounds + 1) or self.final)
        self.pixels = {split: float(sum(h * w for h, w in images)) for split, images in sizes.items()}
        self.tiles = measured.tiles * (self.pixels["train"] + self.pixels["external"])

    def windows(self, images: list[tuple[int, int]], grid: Windows) -> float:
        """Windows of some images that are computed: those on blank areas and outside of boxes are not."""
        infer, sizes = self.config.infer, self.sizes
        share = 1 - self.measured.blank_share if infer.roi in ("content", "coarse") else 1.0
        if windows_of(self.config).resized and (boxes := boxes_file(self.config.infer.roi)):  # a window for each
            share = sum(map(len, read_boxes(boxes[0]).values())) / max(1, len(sizes["train"]) + len(sizes["test"]))
        return share * sum(count_windows(*size, grid) for size in images)

    def score_seconds(self) -> float:
        """Stage 03 scores whole images without TTA, and during training also without overlap."""
        train, grid = self.config.train, windows_of(self.config)
        plain = Windows(grid.size, 0.0, grid.scale, "constant", 0.0, grid.resize_mode)
        scored = len({"swa", *self.config.infer.checkpoints})  # 03 always scores SWA
        quick = train.evaluations + (train.evaluations > 0)  # and once at the end
        windows = scored * self.windows(self.sizes["train"], grid) + quick * self.windows(self.sizes["train"], plain)
        return self.validated * self.seeds * (self.rounds + 1) * windows * self.measured.window_seconds

    def inference_seconds(self) -> float:
        """Stages 04 and 05 predict as configured; trials of `auto` come on top."""
        infer, grid = self.config.infer, windows_of(self.config)
        kinds, answering = len(infer.checkpoints), self.seeds if self.final else self.networks
        passes = (
            self.rounds * self.windows(self.sizes["test"] + self.sizes["unlabeled"], grid) * self.networks
            + self.validated * self.windows(self.sizes["train"], grid) * self.seeds * kinds
            + self.windows(self.sizes["test"], grid) * answering * kinds
        ) * cost(infer.tta)
        return passes * self.measured.window_seconds + infer.trial_limit * [infer.window, infer.tta].count("auto")

    def train_seconds(self, score_seconds: float) -> float:
        """`train.time_limit` holds for training and scores together."""
        each = self.config.train.time_limit
        if not each:
            return self.members * member_seconds(self.config, self.tiles, self.measured)
        last = each / max(1, self.folds) if self.final and not self.of_all else 0.0  # as a fold's member, for each seed
        return max(0.0, (self.rounds + 1) * each - score_seconds) + last

    def overhead_seconds(self) -> float:
        """Loading the libraries, and batch-norm statistics of averaged weights, at a third of a training step each."""
        train, starts = self.config.train, 4 + 2 * self.rounds
        batches = self.members * ((train.swa.start < 1) + (train.ema > 0)) * train.swa.bn_batches
        return (
            starts * self.measured.start_seconds + batches * usual_batch(self.config) * self.measured.sample_seconds / 3
        )

    def disk_gib(self) -> float:
        most = self.config.pseudo.max_tiles * self.folds
        pseudo = self.measured.tiles * (self.pixels["test"] + self.pixels["unlabeled"]) * self.folds
        tiles = self.tiles + self.rounds * (min(pseudo, most) if most else pseudo)
        return (tiles * self.measured.tile_bytes + self.members * self.measured.member_bytes) / GIB

    def memory_gib(self) -> float:
        train, infer = self.config.train, self.config.infer
        workers = loading_processes(train.workers, pick_device(train.device))
        networks = self.networks * len(infer.checkpoints) * self.measured.network_bytes / GIB
        return self.measured.peak_gib + infer.max_gib + workers * WORKER_GIB + networks


def predict_cost(config: Config, sizes: SplitSizes, measured: Measured, folds: int, validated: float) -> Forecast:
    """Costs of stages 01 to 05 with all pseudo-label rounds.

    `folds`: how many are trained. `validated`: share of the training images in these folds.
    """
    work = _Work(config, sizes, measured, folds, validated)
    scoring = work.score_seconds()
    return Forecast(
        seconds={
            "starting and averaging": work.overhead_seconds(),
            "cutting": measured.cut_seconds * sum(work.pixels.values()),
            "training": work.train_seconds(scoring),
            "scoring": scoring,
            "inference": work.inference_seconds(),
        },
        members=work.members,
        disk_gib=work.disk_gib(),
        memory_gib=work.memory_gib(),
    )


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


def _second_call(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call after one that warms up."""
    call()
    started = time.perf_counter()
    call()
    finished(device)
    return time.perf_counter() - started


def _folder_bytes(folder: Path) -> float:
    return float(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
