"""Faults of memory, of loading processes, and of numbers: NaN, infinity, and what half precision cannot hold."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from faults.bench import Change, Fault, at, nothing

from lib.data import dataset, tile_files
from lib.errors import UserError
from lib.files import file_fingerprint
from lib.models.network import Network

MEMBER = "work/runs/base/fold0_seed42"
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
ALLOCATOR = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
ANEW = ("--train.lr", "0.02")
OTHER_VIEWS = ("--infer.tta", "hflip")
OTHER_TILES = ("--preprocess.stride", "48")
OTHER_LABELS = ("--pseudo.min_confidence", "0.01")


@contextlib.contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def lacking(most: int, failure: Exception, training: bool | None = None) -> Callable:
    """Networks fail with more than so many samples at once; `training`: only in that mode."""
    plain = Network.forward

    def forward(self: Network, x: torch.Tensor) -> torch.Tensor:
        if len(x) > most and training in (None, self.training):
            raise failure
        return plain(self, x)

    return lambda: replaced(Network, "forward", forward)


def saying(value: float, training: bool) -> Callable:
    """A pixel of networks' logits is `value`, while they are trained or while they are not."""
    plain = Network.forward

    def forward(self: Network, x: torch.Tensor) -> torch.Tensor:
        logits = plain(self, x)
        return logits + torch.tensor(value) * (logits == logits.amax()) if training == self.training else logits

    return lambda: replaced(Network, "forward", forward)


def loading(act: Callable[[], object]) -> Callable:
    """`act()` in place of reading a tile."""
    return lambda: replaced(dataset, "read_image", lambda path: act())


def raising(error: Exception) -> Callable[[], object]:
    def act(*_: object) -> object:
        raise error

    return act


def weights(value: float) -> Change:
    """The first weight of a member's SWA weights, in float32."""

    def change(folder: Path) -> None:
        path = at(folder, f"{MEMBER}/swa_weights.pt")
        state = torch.load(path, weights_only=True)
        name = next(iter(state))
        state[name] = state[name].float()
        state[name][(0,) * state[name].ndim] = value
        torch.save(state, path)
        known = json.loads(path.with_name("trained.json").read_text())
        written = json.dumps({**known, path.name: file_fingerprint(path)})  # as if the training had made them
        path.with_name("trained.json").write_text(written)

    return change


def opencv_lacks(*_: object) -> object:
    return cv2.resize(np.zeros((9, 9), np.uint8), (1 << 29, 1 << 29))


def killed() -> object:
    os.kill(os.getpid(), signal.SIGKILL)
    return None


PARTS, ONE = (
    "does not fit into memory and is computed in parts of at most 2",
    "a single sample does not fit into memory",
)
NO_TILES = "memory does not suffice .* lower --jobs in 01"
NO_MEMORY = {
    "Python": raising(MemoryError()), "the system": raising(OSError(12, "Cannot allocate memory")),
    "OpenCV": opencv_lacks,
}  # fmt: skip
FAULTS = [
    # Memory
    *(Fault(f"a batch is too large for a training, {type(failure).__name__}", nothing, "03_train", flags=ANEW,
            does=f"warning: 03: .*a batch of 4 {PARTS}.*OOF", during=lacking(2, failure, True))
      for failure in (CUDA, ALLOCATOR, MemoryError())),
    Fault("a batch is too large for scores", nothing, "03_train", flags=ANEW, does=f"warning: inference: .*{PARTS}",
          during=lacking(2, CUDA, False)),
    Fault("a batch is too large for pseudo-labels", nothing, "04_pseudo_label --train.round 1", flags=OTHER_LABELS,
          does=f"warning: inference: .*{PARTS}", during=lacking(2, ALLOCATOR)),
    Fault("a batch is too large for wrong labels", nothing, "04_pseudo_label --clean", flags=("--clean.weight", "0.4"),
          does="clean|04", during=lacking(2, MemoryError())),
    *(Fault(f"a batch is too large for an answer, {type(failure).__name__}", nothing, "05_infer_ensemble",
            flags=OTHER_VIEWS, does=f"warning: inference: .*{PARTS}", during=lacking(2, failure))
      for failure in (CUDA, ALLOCATOR, MemoryError())),
    Fault("a sample is too large for a training", nothing, "03_train", f"03: .*{ONE}; lower train.crop", flags=ANEW,
          during=lacking(0, CUDA, True), then=("03_train",)),
    Fault("a window is too large for scores", nothing, "03_train", f"{ONE}; lower infer.window", flags=ANEW,
          during=lacking(0, CUDA, False)),
    Fault("a window is too large for an answer", nothing, "05_infer_ensemble", f"{ONE}; lower infer.window",
          flags=OTHER_VIEWS, during=lacking(0, ALLOCATOR)),
    Fault("a window is too large for pseudo-labels", nothing, "04_pseudo_label --train.round 1",
          f"{ONE}; lower infer.window", flags=OTHER_LABELS, during=lacking(0, MemoryError())),
    *(Fault(f"no memory to cut tiles, {name}", nothing, "01_preprocess", NO_TILES, flags=OTHER_TILES,
            during=lambda act=act: replaced(tile_files, "save_image", act))
      for name, act in NO_MEMORY.items()),
    # Loading processes
    *(Fault(f"a tile cannot be read, {workers} loading processes", nothing, "03_train", "error: a tile is damaged$",
            flags=(*ANEW, "--train.workers", str(workers)), during=loading(raising(UserError("a tile is damaged"))))
      for workers in (0, 2)),
    *(Fault(f"no memory to read a tile, {workers} loading processes", nothing, "03_train",
            "memory does not suffice to load a batch; lower train.workers",
            flags=(*ANEW, "--train.workers", str(workers)), during=loading(raising(MemoryError())))
      for workers in (0, 1)),
    Fault("a loading process is killed", nothing, "03_train", "a loading process was killed .* lower train.workers",
          flags=(*ANEW, "--train.workers", "1"), during=loading(killed)),
    # Numbers
    *(Fault(f"a loss is {value}", nothing, "03_train",
            r"03: base/fold0_seed42: the loss or its gradients are not finite .* at step \d+ with learning rate",
            flags=ANEW, during=saying(value, training=True))
      for value in (math.nan, math.inf)),
    *(Fault(f"a map is {value} in scores", nothing, "03_train",
            "base/fold0_seed42 swa predicts values that are not finite .* for image im[0-5]",
            flags=ANEW, during=saying(value, training=False))
      for value in (math.nan, math.inf)),
    *(Fault(f"a map is {value} in an answer", nothing, "05_infer_ensemble",
            "base/fold0_seed42 swa predicts values that are not finite .* for image im[0-7] .* infer.precision",
            flags=OTHER_VIEWS, during=saying(value, training=False))
      for value in (math.nan, -math.inf)),
    *(Fault(f"a weight is {value}", weights(value), "05_infer_ensemble",
            "base/fold0_seed42: swa_weights.pt holds values that are not finite", flags=OTHER_VIEWS)
      for value in (math.nan, math.inf)),
    Fault("a weight is beyond half precision", weights(1e5), "05_infer_ensemble",
          does="warning: base/fold0_seed42 swa holds weights beyond the range of fp16",
          flags=(*OTHER_VIEWS, "--infer.precision", "fp16")),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_faults(bench, fault):
    bench.check(fault)
