"""03's training beside the bare work: steps and samples per second, and how long until the first step.

    python benchmarks/training.py                                  # the demo
    python benchmarks/training.py configs/aerial.yaml --rounds 5 -- --competition.root ../data/aerial
    python benchmarks/training.py configs/demo.yaml configs/retina.yaml --seconds 20

Run it with the Python of the solution, on an otherwise idle machine. Stages 1 and 2 are run first where they are
needed; options after `--` go to the configuration. Three comparisons, on the real tiles of the first fold:

    of_bare_loop        steps per second of 03's Trainer (its loader with workers and augmentation, its schedule, log
                        and checkpoints of every epoch; no SWA, EMA or evaluation) over those of a bare loop: the same
                        network, loss, optimizer, clipping, precision and memory layout on batches that are in memory
                        already. On a machine whose cores the network fills, the workers' share of them is in the ratio
    loader_of_bare      samples per second of the loader alone, for each count of workers, over those of a plain loop
                        that decodes the same tiles and labels and augments them, in one process: no targets, no
                        tensors, no batches. Whole epochs, with the start of the workers that each of them needs
    first_step_seconds  from the start of `python 03_train.py` until its first step is done: imports, checks, network
                        and its ImageNet weights, workers, the first batch

Every round runs all sides once, every other round in reverse. The bare loop runs half of its time before the trainer
and half after it, so that a machine that becomes slower or faster changes their ratio little. Each number is [median,
least, greatest] over the rounds; ratios are those of a round. `step_share`: the share of the trainer's time that it
spent in its steps; the rest is loading, logs and files. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import effects, trials
from benchmarks.settings import CLOCK, REPOSITORY, Setting, split_arguments
from lib import tables
from lib.competition.dataset import Competition
from lib.config import Config
from lib.config.load import workspace_of
from lib.data.tile_files import read_image, read_planes
from lib.models.network import build_network
from lib.plugins import load_plugins
from lib.system.device import layout_of, loading_processes, pick_device
from lib.system.precision import autocast, finished, scaler
from lib.training.autotune import autotune
from lib.training.distributed import ProcessGroup
from lib.training.loader import TrainingData
from lib.training.losses import build_loss
from lib.training.member import make_data, make_trainer, training_tiles
from lib.training.optimizers import build_optimizer
from lib.workspace import Member, Workspace

SEED = 42
BATCHES = 8  # in memory, for the bare loop
OTHER_UNITS = ("first step", "step share")  # what is measured in other units than a number per second
FIRST_STEP = """
import os, runpy, sys, time
from lib.training.trainer import Trainer
step = Trainer.train_batch
def timed(self, *args, **kwargs):
    step(self, *args, **kwargs)
    print("first step at", time.time(), flush=True)
    os.killpg(0, 9)  # the workers too
Trainer.train_batch = timed
sys.argv = ["03_train.py", *sys.argv[1:]]
runpy.run_path("03_train.py", run_name="__main__")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=["configs/demo.yaml"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20, help="of each side in a round")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2], help="of the loader alone")
    ours, given = split_arguments(sys.argv[1:])
    args = parser.parse_args(ours)
    summary = {}
    for path in args.configs or ["configs/demo.yaml"]:
        setting = Setting.of(path, given)
        trials.prepare(setting)
        summary[setting.name] = measure(setting, args)
    print(json.dumps({"torch_threads": torch.get_num_threads(), **summary}))


def measure(setting: Setting, args: argparse.Namespace) -> dict:
    """Run all sides in turn, every other round in reverse. Returns the ratios of the docstring above."""
    bench = Bench.of(setting, args.seconds)
    plain = TrainingData(bench.data.dataset, bench.data.sampler, 0, bench.data.batch_size)
    sides: dict[str, Callable[[], dict[str, float]]] = {
        "steps": bench.speeds,
        **{
            f"loader, {n}": lambda n=n: {f"loader, {n}": loader_speed(replace(plain, workers=n), args.seconds)}
            for n in args.workers
        },
        "bare loader": lambda: {"bare loader": bare_loader_speed(plain, args.seconds)},
        "first step": lambda: {"first step": first_step_seconds(setting)},
    }
    rounds: list[dict[str, float]] = []
    for number in range(args.rounds):
        measured: dict[str, float] = {}
        for name in list(sides)[:: -1 if number % 2 else 1]:
            measured |= sides[name]()
        print(f"{setting.name}, round {number + 1}: { ({k: round(v, 2) for k, v in measured.items()}) }", flush=True)
        rounds.append(measured)

    speeds = [name for name in rounds[0] if name not in OTHER_UNITS]

    def ratio(ours: str, bare: str) -> list[float]:
        return effects.spread([measured[ours] / measured[bare] for measured in rounds])

    return {
        "of_bare_loop": ratio("trainer", "bare loop"),
        "step_share": effects.spread([measured["step share"] for measured in rounds]),
        "loader_of_bare": {str(n): ratio(f"loader, {n}", "bare loader") for n in args.workers},
        "first_step_seconds": effects.spread([measured["first step"] for measured in rounds], 2),
        "per_second": {name: effects.spread([m[name] for m in rounds], 2) for name in speeds},
        "batch_size": bench.config.train.batch_size, "workers": bench.data.workers,
        "precision": bench.precision, "rounds": args.rounds,
    }  # fmt: skip


# ---- steps -----------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """The parts of a member's training, made as 03 makes them."""

    config: Config
    data: TrainingData
    channels: int
    precision: str
    device: torch.device
    fold: int
    seconds: float

    @staticmethod
    def of(setting: Setting, seconds: float) -> Bench:
        """Make the data and settle the `auto` options, as 03 does."""
        plain = {"train.swa.start": "1", "train.ema": "0", "train.evaluations": "0", "train.accumulate": "1"}
        config = setting.config({**plain, CLOCK: f"{seconds:g}"})
        load_plugins(config.plugins)
        competition, workspace = Competition(config.competition), Workspace(workspace_of(config))
        device = pick_device(config.train.device)
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
        folds = tables.read(workspace.folds, tables.FOLDS, "02_make_folds.py")
        fold = min(tables.validation_folds(folds["fold"]))
        tiles = training_tiles(workspace, folds, fold, config)
        workers = loading_processes(config.train.workers, device)
        data = make_data(tiles, config, competition.channels, SEED, workers)
        config = autotune(workspace, config, competition.channels, data, device)
        return Bench(config, data, competition.channels, config.train.precision, device, fold, seconds)

    def speeds(self) -> dict[str, float]:
        """Steps per second of the trainer and of the bare loop, which runs before and after it."""
        before = self.bare_speed(self.seconds / 2)
        trainer, share = self.trainer_speed()
        after = self.bare_speed(self.seconds / 2)
        return {"trainer": trainer, "bare loop": (before + after) / 2, "step share": share}

    def trainer_speed(self) -> tuple[float, float]:
        """(steps per second of a whole short training, the share of its time that it spent in steps)."""
        with tempfile.TemporaryDirectory() as folder:
            member = Member("bench", self.fold, SEED, Path(folder))
            trainer = make_trainer(member, self.config, self.channels, self.data, ProcessGroup(device=self.device))
            train_batch, in_steps = trainer.train_batch, 0.0

            def timed(*args: object) -> list[float]:
                nonlocal in_steps
                started = time.perf_counter()
                losses = train_batch(*args)
                in_steps += time.perf_counter() - started
                return losses

            trainer.train_batch = timed
            started = time.perf_counter()
            trainer.run(None)
            seconds = time.perf_counter() - started
            return trainer.step / seconds, in_steps / seconds

    def bare_speed(self, seconds: float) -> float:
        """Steps per second, over `seconds`, of what no training can do without."""
        train, device = self.config.train, self.device
        layout = layout_of(train.channels_last)
        torch.manual_seed(SEED)
        network = build_network(self.config.model, self.channels)
        network.freeze(train.frozen)
        network = network.to(device, memory_format=layout).train()
        loss_of, optimizer = build_loss(train.loss, self.channels), build_optimizer(train, network)
        scale = scaler(device, self.precision)  # passes through where the precision is not fp16
        batches = []
        for batch, _ in zip(replace(self.data, workers=0).batches(0), range(BATCHES), strict=False):
            images, *rest = (tensor.to(device) for tensor in batch)
            batches.append((images.contiguous(memory_format=layout), *rest))

        def step(number: int) -> None:
            images, *rest = batches[number % len(batches)]
            with autocast(device, self.precision):
                logits = network(images)
            scale.scale(loss_of(logits, *rest)).backward()
            scale.unscale_(optimizer)
            if train.clip:
                nn.utils.clip_grad_norm_(network.parameters(), train.clip)
            scale.step(optimizer)
            scale.update()
            optimizer.zero_grad(set_to_none=True)
            finished(device)  # 03 waits too: it reads the loss

        step(0)
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            step(steps)
            steps += 1
        return steps / (time.perf_counter() - started)


# ---- samples ---------------------------------------------------------------------------------------------------------


def loader_speed(data: TrainingData, seconds: float) -> float:
    """Samples per second over whole epochs, at least `seconds` of them."""
    samples, epoch, started = 0, 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for batch in data.batches(epoch):
            samples += len(batch[0])
        epoch += 1
    return samples / (time.perf_counter() - started)


def bare_loader_speed(data: TrainingData, seconds: float) -> float:
    """The same of decoding and augmenting alone."""
    dataset, samples, epoch, started = data.dataset, 0, 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for index, _, position in data.sampler.keys(epoch):
            tile = dataset.tiles[index]
            dataset.augmentation(read_image(tile.image), read_planes(tile.label, 1), position)
            samples += 1
        epoch += 1
    return samples / (time.perf_counter() - started)


# ---- the first step --------------------------------------------------------------------------------------------------


def first_step_seconds(setting: Setting) -> float:
    """Seconds until the first step of a member that was never begun; the process is ended after it."""
    with tempfile.TemporaryDirectory(prefix="first_step_") as unique:
        name = Path(unique).name
    flags = setting.flags({"train.experiment": name, "train.seeds": f"[{SEED}]", CLOCK: "600", "train.folds": "[0]"})
    started = time.time()
    process = subprocess.run(
        [sys.executable, "-c", FIRST_STEP, *flags], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    lines = [line for line in process.stdout.splitlines() if line.startswith("first step at")]
    if not lines:
        raise SystemExit(f"training.py: 03_train.py made no step: {process.stdout[-500:]}")
    trials.remove_experiment(setting, name)
    return float(lines[0].split()[-1]) - started


if __name__ == "__main__":
    main()
