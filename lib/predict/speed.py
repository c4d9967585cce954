"""Measures the speed of 05: seconds for each part of its work, image and megapixel; size of networks; memory."""

from __future__ import annotations

import time

import pandas as pd
import torch

from lib.inference.networks import ScaleGroup
from lib.predict.time_plan import Planner
from lib.system.memory import peak_gib

TEST = "test images"


class Laps:
    """Seconds of the successive parts of a program. `started`: the start of the first part on the monotonic clock."""

    def __init__(self, started: float):
        self.started = self._last = started
        self.seconds: dict[str, float] = {}

    def end(self, part: str) -> None:
        """End a part, which began where the last one ended."""
        now = time.monotonic()
        self.seconds[part], self._last = round(now - self._last, 3), now

    def total(self) -> float:
        """Seconds of all parts."""
        return round(self._last - self.started, 1)


def speed_of(
    laps: Laps, groups: list[ScaleGroup], images: pd.DataFrame, device: torch.device, planner: Planner | None = None
) -> dict:
    """The speed of `groups` on `images` (rows with height and width), as a dict for the ledger.

    `planner`: kept the groups to a time limit. `windows` counts computed windows, not blank ones. `gpu_gib` is given
    only on a GPU.
    """
    seconds, megapixels = laps.seconds[TEST], float((images["height"] * images["width"]).sum()) / 1e6
    forwards = [group.forward for group in groups]
    working = [group.forward for group in (planner.first, *planner.paced)] if planner else forwards
    windows = planner.first.forward.windows if planner else sum(forward.windows for forward in forwards)
    speed = {
        "parts": laps.seconds, "test_seconds": seconds, "images": len(images), "megapixels": round(megapixels, 2),
        "windows": windows,
        "network_seconds": round(sum(forward.seconds for forward in working), 3),
        "seconds_per_image": round(seconds / max(1, len(images)), 4),
        "seconds_per_megapixel": round(seconds / max(megapixels, 1e-6), 4),
        "networks": sum(len(forward.runs) for forward in forwards),
        "parameters": sum(forward.parameters for forward in forwards),
        "peak_gib": round(peak_gib(), 3),
    }  # fmt: skip
    if device.type == "cuda":
        speed["gpu_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
    return speed
