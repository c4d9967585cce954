"""Chooses the device on which networks run."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import torch

from lib.errors import UserError
from lib.system.memory import keep_freed

SHARE = "SEGMENTATION_WORKERS_HERE"  # environment variable: workers that share this machine's cores


def pick_device(name: str, threads: int = 0) -> torch.device:
    """The device of `train.device`. `auto`: CUDA, else Apple's MPS, else the CPU.

    `threads`: how many the CPU uses from now on; 0 keeps torch's choice. Raises UserError when the device is missing.
    """
    if threads:
        torch.set_num_threads(threads)
    if name == "auto":
        others = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        device = torch.device(next((other for other, there in others.items() if there), "cpu"))
    else:
        try:
            device = torch.device(name)
            torch.zeros(1, device=device).item()  # a device without values, such as meta, raises too
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"train.device: {name!r} cannot be used here ({reason}); try auto") from None
    if device.type == "cpu":
        keep_freed()
    return device


def loading_processes(workers: int | str, device: torch.device) -> int:
    """`train.workers`, with `auto` resolved."""
    if workers != "auto":
        return int(workers)
    sharing = int(os.environ.get(SHARE, 1))
    return 0 if device.type == "cpu" else max(1, min(8, (os.cpu_count() or 1) // sharing))


def layout_of(channels_last: bool | str) -> torch.memory_format:
    """`train.channels_last` as torch's memory format; `auto`, still to be measured, as true."""
    return torch.channels_last if channels_last else torch.contiguous_format


def machine_of(device: torch.device) -> str:
    """A name for the kind of machine, under which measured choices are kept.

    Model and memory of a GPU; model and threads of a CPU.
    """
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        return f"{about.name} {about.total_memory / 2**30:.0f} GiB"
    return f"{device.type} {_cpu_model()} {torch.get_num_threads()} threads"


@cache
def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
