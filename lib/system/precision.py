"""Mixed precision for training and inference: autocast context, gradient scaler, and the fastest precision here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import torch

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
HOPELESS = 2.0  # a precision whose first run takes more than twice as long as that of float32 is not run again
WITHOUT_BF16 = ("NO AVX", "AVX2")  # torch's names of CPUs that emulate bfloat16, about 10 times slower than fp32


def autocast(device: torch.device, precision: str):
    """The autocast context of `fp32` (none), `bf16` or `fp16`."""
    dtype = DTYPES[precision]
    return torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()


def scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """The gradient scaler. Gradients of float16 underflow without it; for other precisions it is disabled."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16", init_scale=2.0**12)


def candidates(device: torch.device) -> list[str]:
    """Precisions worth timing on a device, float32 first."""
    if device.type != "cpu":
        return ["fp32", "bf16", "fp16"]
    return ["fp32"] if torch.backends.cpu.get_cpu_capability() in WITHOUT_BF16 else ["fp32", "bf16"]


def fastest(
    device: torch.device, run: Callable[[str], object], agrees: Callable[[object, object], bool], repeats: int = 2
) -> str:
    """The fastest precision for `run(precision)` whose result agrees with that of float32.

    `agrees(result, reference)`. A single candidate is not timed. Returns fp32 where no result agrees, for example
    because that of float32 is not finite.
    """
    wanted = candidates(device)
    if len(wanted) == 1:
        return wanted[0]
    seconds: dict[str, float] = {}
    warm_up: dict[str, float] = {}
    reference = None
    for precision in wanted:
        warm_up[precision], result = _timed(device, run, precision)
        reference = result if precision == "fp32" else reference
        if warm_up[precision] > HOPELESS * warm_up["fp32"] or not agrees(result, reference):
            continue
        seconds[precision] = min(_timed(device, run, precision)[0] for _ in range(repeats))
    return min(seconds, key=seconds.get, default="fp32")


def finished(device: torch.device) -> None:
    """Wait until the device has finished its work, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(device: torch.device, run: Callable[[str], object], precision: str) -> tuple[float, object]:
    started = time.perf_counter()
    result = run(precision)
    finished(device)
    return time.perf_counter() - started, result
