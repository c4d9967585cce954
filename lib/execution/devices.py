"""Which devices there are for members and images, and the environment of a process that uses one of them."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from lib.config.execution import Execution
from lib.errors import UserError
from lib.system.device import SHARE

CPU = "cpu"


def devices_of(execution: Execution, environment: Mapping[str, str] = os.environ, gpus: int | None = None) -> list[str]:
    """`execution.devices` as names for CUDA_VISIBLE_DEVICES, or `cpu`. Numbers count the GPUs that are visible here.

    `gpus`: how many there are; by default torch says. Raises UserError where one is named that is not there.

    >>> devices_of(Execution(devices=[0, 1]), {"CUDA_VISIBLE_DEVICES": "3,5"}, 2)
    ['3', '5']
    """
    gpus = torch.cuda.device_count() if gpus is None else gpus
    listed = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    visible = listed[:gpus] if listed else [str(number) for number in range(gpus)]
    if execution.devices == ["auto"]:
        return visible or [CPU]
    return [_visible(asked, visible) for asked in execution.devices]


def _visible(asked: int | str, visible: list[str]) -> str:
    text = str(asked)
    if text == CPU or (not text.isdigit() and text in visible):
        return text
    if text.isdigit() and int(text) < len(visible):
        return visible[int(text)]
    numbers = ", ".join(map(str, range(len(visible))))
    listed = f"the visible GPUs are {numbers} (CUDA_VISIBLE_DEVICES {','.join(visible)})"
    there = listed if visible else "no GPU is visible"
    raise UserError(f"execution.devices names {text}, but {there}; name a visible GPU, cpu, or auto")


def environment_for(devices: list[str], threads: int, sharing: int) -> dict[str, str]:
    """Environment variables of a process that uses some devices, as one of `sharing` processes on this machine."""
    gpus = [device for device in devices if device != CPU]
    variables = {"CUDA_VISIBLE_DEVICES": ",".join(gpus), SHARE: str(sharing)}
    if threads:
        variables |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return variables


def grouped(devices: list[str], per_member: int) -> list[list[str]]:
    """Devices in groups, one for each member that is trained at the same time.

    >>> grouped(["0", "1", "2", "3"], 2)
    [['0', '1'], ['2', '3']]
    """
    if per_member > len(devices):
        raise UserError(
            f"execution.per_member is {per_member}, but execution.devices gives {len(devices)}; lower per_member, or "
            "name more devices"
        )
    whole = len(devices) // per_member * per_member
    return [devices[i : i + per_member] for i in range(0, whole, per_member)]
