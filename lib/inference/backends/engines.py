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
from lib.failures.memory_errors import is_out_of_memory
from lib.inference.backends.fuse_batchnorm import fold_batch_norms
from lib.inference.backends.openvino_upsample import convolve_before_upsampling
from lib.models.outputs import probabilities
from lib.models.weight_files import beyond_half
from lib.plugins import find, register
from lib.system.batch_parts import BatchParts
from lib.system.precision import autocast, finished
from lib.system.terminal import warn_once

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
        """What runs a network. Where the backend fails, at once or at a later shape, eager goes on, with a sentence."""
        builder = find("backend", self.backend, "infer.backend")
        if self.backend == "eager":
            return run_in_parts(builder(network, device, self.precision))
        return run_in_parts(_Guarded(self, builder, network, device))


def run_in_parts(run: Run) -> Run:
    """`run`, which computes a batch that does not fit into memory in parts."""
    batches = BatchParts("inference", "infer.window, or train with a smaller model.encoder")

    def run_parts(images: torch.Tensor) -> torch.Tensor:
        def work(parts: list[slice]) -> torch.Tensor:
            return run(images) if len(parts) == 1 else torch.cat([run(images[part]) for part in parts])

        return batches.run(len(images), work)

    return run_parts


class _Guarded:
    """A backend until it fails, and eager from then on."""

    def __init__(self, engine: Engine, builder: Callable, network: nn.Module, device: torch.device):
        self.engine, self.network, self.device = engine, network, device
        try:
            self.run = builder(network, device, engine.precision)
        except Exception as failure:  # compilers fail in many ways
            self._fall_back(failure)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        try:
            return self.run(images)
        except Exception as failure:
            if self.engine.backend == "eager" or is_out_of_memory(failure):
                raise
            self._fall_back(failure)
            return self.run(images)

    def _fall_back(self, failure: Exception) -> None:
        print(f"infer.backend: {self.engine} does not work here ({_reason(failure)}); eager goes on in its place")
        self.engine = Engine(self.engine.precision, "eager")
        self.run = eager(self.network, self.device, self.engine.precision)


EAGER = Engine()


@register("backend", "eager")
def eager(network: nn.Module, device: torch.device, precision: str) -> Run:
    """PyTorch, batch-norms folded into convolutions."""
    return _autocast(fold_batch_norms(network), device, precision)


def _autocast(network: nn.Module, device: torch.device, precision: str) -> Run:
    if precision == "fp16" and (layer := beyond_half(network.state_dict())):
        name, precision = getattr(network, "display_name", "a network"), "fp32"
        warn_once(f"{name} holds weights beyond the range of fp16 in {layer}, so it predicts in fp32")

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


@dataclass(frozen=True)
class Kind:
    """Networks that are alike: one of them, `windows` (B, h, w, 3) uint8 to try, how many `batches` of such windows
    each of them will see, and how many `networks` there are."""

    network: nn.Module
    windows: np.ndarray
    batches: int
    networks: int = 1


def fastest_engines(engines: list[Engine], kinds: list[Kind], device: torch.device) -> list[Engine]:
    """Those of `engines` that do for all kinds of networks, the one that takes all their batches soonest first.

    Building counts. Left out are those whose probabilities differ from float32's, as PyTorch computes them, by more
    than `TOLERANCE` at the worst or, where they are to be rounded, by more than `ROUNDING` on average; when none is
    left, the first eager one stays. Only eager ones are tried where the work takes less than `PATIENCE` seconds with
    one of them. Raises UserError when none works.
    """
    exact = [exact_maps(kind.network, as_images(kind.windows, device), device) for kind in kinds]
    cost: dict[Engine, float] = {}
    # Eager is ready at once; what takes minutes to build comes last, and in the best precision alone.
    for engine in sorted(engines, key=lambda engine: (engine.backend != "eager", engine.backend == "compile")):
        best = min(cost, key=cost.get, default=engine)
        slow, building = cost.get(best, np.inf), engine.backend == "compile"
        if engine.backend != "eager" and slow < (BUILDING if building else PATIENCE):
            continue
        if building and engine.precision != best.precision:
            continue
        seconds = [_cost(engine, kind, maps, device) for kind, maps in zip(kinds, exact, strict=True)]
        if None not in seconds:
            cost[engine] = sum(seconds)
    if len(cost) > 1:
        print("infer.backend: " + ", ".join(f"{engine} {seconds:.0f} s" for engine, seconds in cost.items()))
    eager_ones = [engine for engine in engines if engine.backend == "eager"][:1]
    if not cost and not eager_ones:
        tried = ", ".join(map(str, engines))
        raise UserError(f"none of {tried} works here; set infer.precision and infer.backend to auto")
    return list(dict.fromkeys([*sorted(cost, key=cost.get), *eager_ones]))


def _cost(engine: Engine, kind: Kind, exact: torch.Tensor, device: torch.device) -> float | None:
    """Seconds of a kind's networks, or None, with a sentence, where the engine does not do."""
    images = as_images(kind.windows, device)
    started = time.perf_counter()
    run = agreeing(engine, kind.network, images, exact, device)
    if run is None:
        return None
    built = 0.0 if engine.backend == "eager" else time.perf_counter() - started
    seconds = min(_seconds(run, images) for _ in range(2))
    return (built + seconds * kind.batches) * kind.networks


def exact_maps(network: nn.Module, images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Probabilities in float32, as PyTorch computes them."""
    logits = _finished(run_in_parts(_autocast(network, device, "fp32")), images)
    return probabilities(logits, getattr(network, "multilabel", False))


def agreeing(
    engine: Engine, network: nn.Module, images: torch.Tensor, exact: torch.Tensor, device: torch.device
) -> Run | None:
    """What runs a network with an engine, or None, with a sentence, where that fails or its maps are not `exact`."""
    try:
        run = run_in_parts(find("backend", engine.backend, "infer.backend")(network, device, engine.precision))
        multilabel = getattr(network, "multilabel", False)
        error = (probabilities(_finished(run, images), multilabel) - exact).abs()
    except Exception as failure:  # compilers fail in many ways
        print(f"infer.backend: {engine} does not work here ({_reason(failure)})")
        return None
    off, most = (error.max(), TOLERANCE) if engine.precision == "fp32" else (error.mean(), ROUNDING)
    if off <= most:  # not where some are no numbers
        return run
    print(f"infer.backend: {engine} is not taken, its probabilities differ by {off:.4f}")
    return None


def _reason(failure: Exception) -> str:
    return next(iter(str(failure).splitlines()), type(failure).__name__)[:200]


def as_images(windows: np.ndarray, device: torch.device) -> torch.Tensor:
    """(B, h, w, 3) uint8 → (B, 3, h, w) float32 of 0 to 255, channels_last."""
    images = torch.from_numpy(windows).to(device, non_blocking=True).permute(0, 3, 1, 2)
    return images.float().contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def _finished(run: Run, images: torch.Tensor) -> torch.Tensor:
    logits = run(images)
    finished(images.device)
    return logits


def _seconds(run: Run, images: torch.Tensor) -> float:
    started = time.perf_counter()
    _finished(run, images)
    return time.perf_counter() - started
