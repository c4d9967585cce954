"""Ways to run a network's forward pass, and which of them is fastest here.

A backend is `build(network, device, precision) -> run`, where `run(images)` takes (B, 3, h, w) float32 of 0 to 255 in
channels_last to logits (B, K, h, w). It raises `Unsuited` where it cannot work.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from lib.errors import UserError
from lib.inference.folding import fold_batch_norms
from lib.inference.upsampling import convolve_before_upsampling
from lib.plugins import find, register
from lib.precision import autocast, finished

Run = Callable[[torch.Tensor], torch.Tensor]
PATIENCE = 30.0  # seconds of forward passes that are worth no further search
BUILDING = 300.0  # that are not worth `compile`
TOLERANCE = 1e-3  # largest difference between probabilities
ROUNDING = 1e-2  # mean difference, in less than float32


class Unsuited(Exception):
    """This backend does not work here; the message says why."""


@dataclass(frozen=True)
class Engine:
    """How forward passes are computed."""

    precision: str = "fp32"
    backend: str = "eager"

    def __str__(self) -> str:
        return f"{self.backend} in {self.precision}"

    def build(self, network: nn.Module, device: torch.device) -> Run:
        return find("backend", self.backend, "infer.backend")(network, device, self.precision)


EAGER = Engine()


@register("backend", "eager")
def eager(network: nn.Module, device: torch.device, precision: str) -> Run:
    """PyTorch, batch-norms folded into convolutions."""
    return _autocast(fold_batch_norms(network), device, precision)


def _autocast(network: nn.Module, device: torch.device, precision: str) -> Run:
    def run(images: torch.Tensor) -> torch.Tensor:
        with autocast(device, precision):
            return network(images)

    return run


@register("backend", "compile")
def compiled(network: nn.Module, device: torch.device, precision: str) -> Run:
    """torch.compile: some minutes of building for each kind of network, on the CPU with a C++ compiler."""
    return _autocast(torch.compile(fold_batch_norms(network), dynamic=False), device, precision)


@register("backend", "openvino")
def openvino(network: nn.Module, device: torch.device, precision: str) -> Run:
    """Intel's OpenVINO, on CPUs of any make, with decoders' convolutions made cheaper; an optional package."""
    if device.type != "cpu" or precision == "fp16":
        raise Unsuited(f"OpenVINO computes fp32 and bf16 on the CPU, not {precision} on {device.type}")
    try:
        import openvino as ov
    except ImportError:
        raise Unsuited("pip install openvino") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it traces, which torch calls deprecated
        model = ov.convert_model(network, example_input=torch.zeros(1, 3, 64, 64))
    options = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, on all threads
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    requests = {}

    def run(images: torch.Tensor) -> torch.Tensor:
        shape = tuple(images.shape)
        if shape not in requests:  # fixed shapes are faster; a window's size hardly changes
            fixed = model.clone()
            fixed.reshape(list(shape))
            convolve_before_upsampling(fixed)
            requests[shape] = openvino_core().compile_model(fixed, "CPU", options).create_infer_request()
        result = requests[shape].infer([images.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(result[0].copy())

    return run


@cache
def openvino_core():
    """OpenVINO's core, one for the life of the process.

    Its CPU plugin gives the thread that loads it another signal stack, and frees that when the core dies, in whatever
    thread: the next signal (a child's end, Ctrl-C) then finds no stack and kills the process.
    """
    import openvino as ov

    return ov.Core()


def fastest_engine(
    engines: list[Engine], network: nn.Module, device: torch.device, windows: np.ndarray, batches: int, networks: int
) -> Engine:
    """The one of `engines` that takes `batches` of such `windows` (B, h, w, 3) uint8 through `networks` soonest.

    Building counts. Left out are those whose probabilities differ from float32's, as PyTorch computes them, by more
    than `TOLERANCE` at the worst or, where they are to be rounded, by more than `ROUNDING` on average; when none is
    left, the first eager one stays. Only eager ones are tried where the work takes less than `PATIENCE` seconds with
    one of them. Raises UserError when none works.
    """
    images = as_images(windows, device)
    exact = probabilities(_finished(_autocast(network, device, "fp32"), images))
    cost: dict[Engine, float] = {}
    # Eager is ready at once; what takes minutes to build comes last, and in the best precision alone.
    for engine in sorted(engines, key=lambda engine: (engine.backend != "eager", engine.backend == "compile")):
        best = min(cost, key=cost.get, default=engine)
        slow, building = cost.get(best, np.inf), engine.backend == "compile"
        if engine.backend != "eager" and slow < (BUILDING if building else PATIENCE):
            continue
        if building and engine.precision != best.precision:
            continue
        try:
            started = time.perf_counter()
            run = engine.build(network, device)
            error = (probabilities(_finished(run, images)) - exact).abs()
            built = 0.0 if engine.backend == "eager" else time.perf_counter() - started
            seconds = min(_seconds(run, images) for _ in range(2))
        except Exception as failure:  # compilers fail in many ways
            print(f"infer.backend: {engine} does not work here ({str(failure).splitlines()[0][:200]})")
            continue
        off, most = (error.max(), TOLERANCE) if engine.precision == "fp32" else (error.mean(), ROUNDING)
        if off > most:
            print(f"infer.backend: {engine} is not taken, its probabilities differ by {off:.4f}")
            continue
        cost[engine] = (built + seconds * batches) * networks
    if len(cost) > 1:
        print("infer.backend: " + ", ".join(f"{engine} {seconds:.0f} s" for engine, seconds in cost.items()))
    for engine in [*sorted(cost, key=cost.get), *engines]:
        if engine in cost or engine.backend == "eager":
            return engine
    raise UserError(f"none of {', '.join(map(str, engines))} works here; set infer.precision and infer.backend to auto")


def as_images(windows: np.ndarray, device: torch.device) -> torch.Tensor:
    """(B, h, w, 3) uint8 → (B, 3, h, w) float32 of 0 to 255, channels_last."""
    images = torch.from_numpy(windows).to(device, non_blocking=True).permute(0, 3, 1, 2)
    return images.float().contiguous(memory_format=torch.channels_last)


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """(B, K, h, w): sigmoid of one channel, softmax of several, in float32."""
    logits = logits.float()
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


@torch.inference_mode()
def _finished(run: Run, images: torch.Tensor) -> torch.Tensor:
    logits = run(images)
    finished(images.device)
    return logits


def _seconds(run: Run, images: torch.Tensor) -> float:
    started = time.perf_counter()
    _finished(run, images)
    return time.perf_counter() - started
