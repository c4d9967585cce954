"""Backends that run a network's forward pass, and the search for the fastest one on this machine.

A backend is `build(network, device, precision) -> run`, where `run(images)` turns images (B, C, h, w) float32 of 0 to
255 in channels_last format into logits (B, K, h, w). It raises `Unsuited` where it cannot work.
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
from lib.models.inputs import channels_seen, image_floats, image_tensor
from lib.models.outputs import probabilities
from lib.models.weight_files import beyond_half
from lib.plugins import find, register
from lib.system.batch_parts import BatchParts
from lib.system.precision import autocast, finished
from lib.system.terminal import warn_once

Run = Callable[[torch.Tensor], torch.Tensor]
MIN_SEARCH_SECONDS = 30.0  # for forward passes that take less, no other backend than eager is tried
MIN_COMPILE_SECONDS = 300.0  # for forward passes that take less, `compile` is not tried
MAX_ERROR = 1e-3  # largest difference between probabilities in float32
MAX_MEAN_ERROR = 1e-2  # mean difference between probabilities in lower precision


class Unsuited(Exception):
    """A backend cannot work on this machine; the message says why."""


@dataclass(frozen=True)
class Engine:
    """How forward passes are computed: a precision and a backend."""

    precision: str = "fp32"
    backend: str = "eager"

    def __str__(self) -> str:
        return f"{self.backend} in {self.precision}"

    def build(self, network: nn.Module, device: torch.device) -> Run:
        """A function that runs a network. If the backend fails, a message says so and eager takes over."""
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
    """Runs a backend, and eager once the backend has failed."""

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
        print(f"infer.backend: {self.engine} does not work here ({_reason(failure)}); eager is used instead")
        self.engine = Engine(self.engine.precision, "eager")
        self.run = eager(self.network, self.device, self.engine.precision)


EAGER = Engine()


@register("backend", "eager")
def eager(network: nn.Module, device: torch.device, precision: str) -> Run:
    """PyTorch, with batch normalisation folded into convolutions."""
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
    """torch.compile. It builds each kind of network for some minutes; on a CPU it needs a C++ compiler."""
    return _autocast(torch.compile(fold_batch_norms(network), dynamic=False), device, precision)


@register("backend", "openvino")
def openvino(network: nn.Module, device: torch.device, precision: str) -> Run:
    """Intel's OpenVINO on a CPU of any make, with cheaper convolutions in decoders. An optional package."""
    if device.type != "cpu" or precision == "fp16":
        raise Unsuited(f"OpenVINO computes fp32 and bf16 on the CPU, not {precision} on {device.type}")
    try:
        import openvino as ov
    except ImportError:
        raise Unsuited("pip install openvino") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses torch.jit.trace, which torch calls deprecated
        model = ov.convert_model(network, example_input=torch.zeros(1, channels_seen(network), 64, 64))
    options = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",  # one batch at a time on all threads
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    requests = {}

    def run(images: torch.Tensor) -> torch.Tensor:
        shape = tuple(images.shape)
        if shape not in requests:  # fixed shapes are faster, and there are few of them
            fixed = model.clone()
            fixed.reshape(list(shape))
            convolve_before_upsampling(fixed)
            requests[shape] = openvino_core().compile_model(fixed, "CPU", options).create_infer_request()
        result = requests[shape].infer([images.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(result[0].copy())

    return run


@cache
def openvino_core():
    """OpenVINO's core, which lives as long as the process.

    Its CPU plugin sets a signal stack for the thread that loads it, and frees this stack when the core is destroyed, in
    any thread. After that, the next signal (the end of a child process, Ctrl-C) would kill the process.
    """
    import openvino as ov

    return ov.Core()


@dataclass(frozen=True)
class Kind:
    """Networks whose forward passes take equally long.

    `network`: one of them. `windows` (B, h, w, C): a batch to time. `batches`: how many such batches each network
    will run. `networks`: how many networks there are.
    """

    network: nn.Module
    windows: np.ndarray
    batches: int
    networks: int = 1


def fastest_engines(engines: list[Engine], kinds: list[Kind], device: torch.device) -> list[Engine]:
    """The engines that give correct probabilities for all kinds of networks, the fastest first.

    Time to build counts. Probabilities are correct if they differ from PyTorch's in float32 by at most `MAX_ERROR`, or,
    in lower precision, by at most `MAX_MEAN_ERROR` on average. If no engine is left, the first eager one is returned.
    Other backends than eager are tried only for work of more than `MIN_SEARCH_SECONDS`. Raises UserError where no
    engine works.
    """
    exact = [exact_maps(kind.network, as_images(kind.windows, device), device) for kind in kinds]
    cost: dict[Engine, float] = {}
    # Eager needs no building. `compile` builds for minutes, so it comes last and only in the best precision.
    for engine in sorted(engines, key=lambda engine: (engine.backend != "eager", engine.backend == "compile")):
        best = min(cost, key=cost.get, default=engine)
        least_seconds, compiling = cost.get(best, np.inf), engine.backend == "compile"
        if engine.backend != "eager" and least_seconds < (MIN_COMPILE_SECONDS if compiling else MIN_SEARCH_SECONDS):
            continue
        if compiling and engine.precision != best.precision:
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
    """Seconds of all networks of a kind; None, after a message, where the engine does not work or is not correct."""
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
    """A function that runs a network with an engine.

    None, after a message, where that fails or where its maps differ too much from the `exact` ones.
    """
    try:
        run = run_in_parts(find("backend", engine.backend, "infer.backend")(network, device, engine.precision))
        multilabel = getattr(network, "multilabel", False)
        error = (probabilities(_finished(run, images), multilabel) - exact).abs()
    except Exception as failure:  # compilers fail in many ways
        print(f"infer.backend: {engine} does not work here ({_reason(failure)})")
        return None
    difference, limit = (error.max(), MAX_ERROR) if engine.precision == "fp32" else (error.mean(), MAX_MEAN_ERROR)
    if difference <= limit:  # False for NaN
        return run
    print(f"infer.backend: {engine} is not used, because its probabilities differ by {difference:.4f}")
    return None


def _reason(failure: Exception) -> str:
    return next(iter(str(failure).splitlines()), type(failure).__name__)[:200]


def as_images(windows: np.ndarray, device: torch.device) -> torch.Tensor:
    """Windows (B, h, w, C) uint8 or uint16 -> images (B, C, h, w) float32 of 0 to 255 in channels_last format."""
    images = image_tensor(windows).to(device, non_blocking=True).permute(0, 3, 1, 2)
    return image_floats(images).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def _finished(run: Run, images: torch.Tensor) -> torch.Tensor:
    logits = run(images)
    finished(images.device)
    return logits


def _seconds(run: Run, images: torch.Tensor) -> float:
    started = time.perf_counter()
    _finished(run, images)
    return time.perf_counter() - started
