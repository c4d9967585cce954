"""The files for prediction: a network's description (`network.yaml`) and its weights in half precision."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from torch import nn

from lib.config import Config
from lib.config.training import Model
from lib.errors import UserError
from lib.files import replacing, write_text
from lib.models.network import build_network

LAST_AS_FALLBACK = ("swa", "best")  # kinds of weights that `last` replaces where a training made none
FLOAT16_MAX = torch.finfo(torch.float16).max


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's weights in half precision: half the size, and maps that differ by less than 0.001.

    Values beyond the range of float16 stay float32. Raises UserError where weights are not finite, and writes nothing.
    """
    state = network.state_dict()
    check_finite(state, path)
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save({name: to_half(value) for name, value in state.items()}, file)


def to_half(value: torch.Tensor) -> torch.Tensor:
    fits = value.is_floating_point() and (not value.numel() or float(value.abs().max()) <= FLOAT16_MAX)
    return value.half() if fits else value


def load_weights(path: Path) -> dict:
    """What `save_weights` wrote, in float32. Raises UserError where they are not finite."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    check_finite(state, path)
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def check_finite(state: dict[str, torch.Tensor], path: Path) -> None:
    """Raises UserError, naming the member and the file, where weights or statistics are NaN or infinite."""
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise UserError(
                f"{path.parent.parent.name}/{path.parent.name}: {path.name} holds values that are not finite (NaN or "
                f"infinite) in {name}, so it cannot predict; delete {path.parent} and run 03_train.py again with a "
                "lower train.lr, or leave these weights out of infer.checkpoints"
            )


def write_description(member: Path, config: Config, channels: int) -> None:
    """Write network.yaml, from which `load_network` builds the network."""
    text = yaml.safe_dump({"channels": channels, "model": config.model.model_dump(), "plugins": config.plugins})
    write_text(Path(member) / "network.yaml", text)


def network_files(member: Path, which: str) -> tuple[Path, Path]:
    """The files that `load_network` reads: description and weights.

    `swa` means `last` where SWA was off. `best` means `last` where nothing was scored during training.

    Raises UserError where there are no such weights.
    """
    described, weights = Path(member) / "network.yaml", Path(member) / f"{which}_weights.pt"
    if which in LAST_AS_FALLBACK and not weights.is_file():
        weights = Path(member) / "last_weights.pt"
    if not described.is_file() or not weights.is_file():
        raise UserError(f"{member} has no {which} weights; run 03_train.py, or mend infer.checkpoints")
    return described, weights


def load_network(member: Path, which: str, device: torch.device) -> nn.Module:
    """A member's network with its `swa`, `ema`, `best`, … weights, in eval mode, channels_last.

    Raises UserError when there are no such weights.
    """
    described, weights = network_files(member, which)
    config = yaml.safe_load(described.read_text(encoding="utf-8"))
    multilabel = config.get("multilabel", False)
    network = build_network(Model(**config["model"]), config["channels"], pretrained=False, multilabel=multilabel)
    network.load_state_dict(load_weights(weights))
    network.display_name = f"{weights.parent.parent.name}/{weights.parent.name} {which}"  # in messages
    return network.eval().to(device, memory_format=torch.channels_last)
