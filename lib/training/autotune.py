"""Autotune: chooses `train.precision`, `channels_last`, `batch_size` and `compile` by timing real training steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property

import torch

from lib.config import Config
from lib.failures.memory_errors import is_out_of_memory
from lib.models.inputs import inputs_of
from lib.models.network import build_network
from lib.system.batch_parts import BatchParts, free_memory
from lib.system.device import layout_of, machine_of
from lib.system.precision import autocast, fastest, finished
from lib.training.loader import TrainingData
from lib.training.losses import build_loss
from lib.training.member import apply_train_options
from lib.workspace import Workspace, short_hash

TRIAL_BATCH_SIZE = 8  # while the batch size is not chosen yet
MAX_BATCH_SIZE = 1024


def autotune(workspace: Workspace, config: Config, channels: int, data: TrainingData, device: torch.device) -> Config:
    """`config` with a measured value in place of every `auto` (batch size 0) in `train`. Sets `data.batch_size`, too.

    `channels`: outputs of the network. Each option is measured once per workspace, network, image size and kind of
    machine. A precision that changes the loss by more than 5 % is not chosen.
    """
    trial = _Trial(config, channels, data, device)

    def chosen(option: str, auto: object, measure: Callable[[], object]) -> None:
        name = option.removeprefix("train.")
        if getattr(trial.config.train, name) != auto:
            return
        input_channels, side = trial.batch[0].shape[1], trial.batch[0].shape[-1]
        train = trial.config.train
        about = [config.model.model_dump(), train.frozen, train.checkpointing, train.precision]
        settings = short_hash(about if input_channels == 3 else [*about, input_channels])
        key = f"{option} {config.model.architecture} {config.model.encoder} {side} {machine_of(device)} {settings}"
        trial.set(name, workspace.choose_once(key, lambda: trial.fitting(measure)))

    chosen("train.precision", "auto", trial.precision)
    chosen("train.channels_last", "auto", trial.channels_last)
    chosen("train.batch_size", 0, trial.batch_size)
    chosen("train.compile", "auto", trial.compile)
    return trial.config


class _Trial:
    """Training steps of a temporary network, on real samples."""

    def __init__(self, config: Config, channels: int, data: TrainingData, device: torch.device):
        self.config, self.channels, self.data, self.device = config, channels, data, device

    @cached_property
    def batch(self) -> list[torch.Tensor]:
        keys = self.data.sampler.keys(0)[: self.config.train.batch_size or TRIAL_BATCH_SIZE]
        items = [self.data.dataset[key] for key in keys]
        return [torch.stack([torch.as_tensor(item[i]) for item in items]).to(self.device) for i in range(4)]

    def fitting(self, measure: Callable[[], object]) -> object:
        """The result of `measure()`, on a smaller batch where this one does not fit into memory."""
        whole = self.batch

        def measured(parts: list[slice]) -> object:
            self.batch = [values[parts[0]] for values in whole]
            return measure()

        options = "train.crop, or choose a smaller model.encoder"
        try:
            return BatchParts("03: autotune", options).run(len(whole[0]), measured)
        finally:
            self.batch = whole

    def set(self, name: str, value: object) -> None:
        train = self.config.train.model_copy(update={name: value})
        self.config = self.config.model_copy(update={"train": train})
        self.data.batch_size = train.batch_size

    def stepper(self, layout: torch.memory_format | None = None, compiled: bool = False) -> Callable[..., float]:
        """`step(precision, size) -> loss` of a new network; with `size` > 0, on so many copies of one sample."""
        layout = layout or layout_of(self.config.train.channels_last)
        torch.manual_seed(0)
        network = build_network(self.config.model, self.channels, inputs=inputs_of(self.config.competition.pixels))
        apply_train_options(network, self.config)
        network.to(self.device, memory_format=layout).train()
        forward = torch.compile(network, dynamic=False) if compiled else network
        multilabel = self.config.competition.multilabel
        loss_of = build_loss(self.config.train.loss, self.channels, multilabel=multilabel)

        def step(precision: str, size: int = 0) -> float:
            batch = [part[:1].expand(size, *part.shape[1:]) for part in self.batch] if size else self.batch
            with autocast(self.device, precision):
                outputs = forward(batch[0].contiguous(memory_format=layout))
            loss = loss_of(outputs, *batch[1:])
            network.zero_grad()
            loss.backward()
            return float(loss.detach())

        return step

    def precision(self) -> str:
        return fastest(self.device, self.stepper(), losses_agree)

    def channels_last(self) -> bool:
        seconds = {on: self._seconds(self.stepper(layout_of(on))) for on in (True, False)}
        return seconds[True] <= seconds[False]

    def compile(self) -> bool:
        """Whether a compiled network trains one member in less time, compilation included."""
        train, plain, compiled = self.config.train, self.stepper(), self.stepper(compiled=True)
        try:
            started = time.perf_counter()
            exact, loss = plain(train.precision), compiled(train.precision)
            build_seconds = time.perf_counter() - started
            plain_seconds, compiled_seconds = self._seconds(plain), self._seconds(compiled)
        except Exception as error:  # compilers fail in many ways
            print(f"train.compile: does not work here ({str(error).splitlines()[0][:200]})")
            return False
        steps = train.member_limit / plain_seconds if train.member_limit else train.epochs * self.data.steps()
        return losses_agree(loss, exact) and build_seconds + steps * compiled_seconds < steps * plain_seconds

    def batch_size(self) -> int:
        step = self.stepper()
        return largest_batch_size(
            lambda size: step(self.config.train.precision, size), self.device, self.data.sampler.size
        )

    def _seconds(self, step: Callable[..., float]) -> float:
        step(self.config.train.precision)
        measured = []
        for _ in range(3):
            started = time.perf_counter()
            step(self.config.train.precision)
            finished(self.device)
            measured.append(time.perf_counter() - started)
        return min(measured)


def losses_agree(loss: float, exact: float) -> bool:
    """Whether a loss is within 5 % of the exact one."""
    return abs(loss - exact) <= 0.05 * abs(exact) + 1e-6


def largest_batch_size(step: Callable[[int], object], device: torch.device, limit: int) -> int:
    """The largest power of two, up to `limit`, for which `step(size)` fits into the device's memory.

    On a CPU, the search also ends where a sample takes longer than in a smaller batch.
    """
    best, size, fastest_sample = 1, 2, float("inf")
    while size <= min(limit, MAX_BATCH_SIZE):
        each = _seconds_of_sample(step, size)
        if each is None:
            free_memory()
            return max(1, best // 2)  # the trial has no weight averages, and memory fragments later
        if device.type == "cpu" and each > fastest_sample:
            break
        best, size, fastest_sample = size, 2 * size, min(each, fastest_sample)
    return best


def _seconds_of_sample(step: Callable[[int], object], size: int) -> float | None:
    """Seconds that one sample of a batch takes; None where the batch does not fit into memory."""
    try:
        step(size)
        started = time.perf_counter()
        step(size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
    return (time.perf_counter() - started) / size
