"""Mixed precision for training and inference: the context, the scaler, and which one is fastest here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import torch

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
HOPELESS = 2.0  # a precision whose first run takes so many times float32's is not tried again
WITHOUT_BF16 = ("NO AVX", "AVX2")  # torch's names of CPUs where bfloat16 is emulated, at a tenth of the speed


def autocast(device: torch.device, precision: str):
    """The autocast context of `fp32` (none), `bf16` or `fp16`."""
    dtype = DTYPES[precision]
    return torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()


def scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Gradients of float16 underflow without a scaler; the other precisions pass through a disabled one."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16", init_scale=2.0**12)


def candidates(device: torch.device) -> list[str]:
    """Precisions worth timing on a device, float32 first."""
    if device.type != "cpu":
        return ["fp32", "bf16", "fp16"]
    return ["fp32"] if torch.backends.cpu.get_cpu_capability() in WITHOUT_BF16 else ["fp32", "bf16"]


def fastest(
    device: torch.device, run: Callable[[str], object], agrees: Callable[[object, object], bool], repeats: int = 2
) -> str:
    """Time `run(precision)` with each candidate; the fastest whose result agrees with float32's.

    `agrees(result, float32's result)`. One candidate alone is not timed; float32 where nothing agrees, as when its own
    result is not finite.
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
    """Wait until the device has done what it was given, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(device: torch.device, run: Callable[[str], object], precision: str) -> tuple[float, object]:
    started = time.perf_counter()
    result = run(precision)
    finished(device)
    return time.perf_counter() - started, result
