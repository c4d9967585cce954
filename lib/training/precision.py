"""Mixed precision: which one, and the context and scaler that go with it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import torch

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str):
    """The autocast context of `fp32` (none), `bf16` or `fp16`."""
    dtype = DTYPES[precision]
    return torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()


def scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Gradients of float16 underflow without a scaler; the other precisions pass through a disabled one."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16", init_scale=2.0**12)


def fastest(device: torch.device, try_steps: Callable[[str], float], repeats: int = 3) -> str:
    """Time a few real steps of each precision, return the fastest whose loss stays within 5 % of fp32's.

    `try_steps(precision)` runs one step from the same fresh state and returns its loss.
    """
    candidates = ["fp32", "bf16"] if device.type == "cpu" else ["fp32", "bf16", "fp16"]
    seconds, losses = {}, {}
    for precision in candidates:
        losses[precision] = try_steps(precision)  # the first one also warms up
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            try_steps(precision)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        seconds[precision] = min(times)
    sane = [p for p in candidates if abs(losses[p] - losses["fp32"]) <= 0.05 * abs(losses["fp32"]) + 1e-6]
    return min(sane or ["fp32"], key=seconds.get)
