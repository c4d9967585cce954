"""What a member leaves on disk: `last.pt` to go on from, small weight files to predict with."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from torch import nn

from lib.config import Config
from lib.config.training import Model
from lib.errors import UserError
from lib.training.model import build_network
from lib.workspace import replacing, write_text


def save_resume(path: Path, state: dict) -> None:
    """Everything that going on needs, in full precision; atomic."""
    with replacing(path) as temporary, temporary.open("wb") as file:  # whose errors say what is wrong
        torch.save(state, file)


def load_resume(path: Path) -> dict | None:
    """What `save_resume` wrote, or None when there is nothing (readable) to go on from."""
    if not path.is_file():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)


def save_weights(path: Path, network: nn.Module) -> None:
    """Weights only, half precision: half the size, and the same maps to 1e-3."""
    half = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(half, file)


def load_weights(path: Path) -> dict:
    """What `save_weights` wrote, in float32."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def write_description(member: Path, config: Config, channels: int) -> None:
    """What `load_network` needs to build the network again."""
    text = yaml.safe_dump({"channels": channels, "model": config.model.model_dump(), "plugins": config.plugins})
    write_text(Path(member) / "network.yaml", text)


def network_files(member: Path, which: str) -> tuple[Path, Path]:
    """The files that `load_network` reads: description and weights. `swa` falls back to `last` where SWA was off.

    Raises UserError when there are no such weights.
    """
    described, weights = Path(member) / "network.yaml", Path(member) / f"{which}_weights.pt"
    if which == "swa" and not weights.is_file():
        weights = Path(member) / "last_weights.pt"
    if not described.is_file() or not weights.is_file():
        raise UserError(f"{member} has no {which} weights; run 03_train.py, or mend infer.weights")
    return described, weights


def load_network(member: Path, which: str, device: torch.device) -> nn.Module:
    """A member's network with its `swa`, `ema`, `best`, … weights, in eval mode, channels_last.

    Raises UserError when there are no such weights.
    """
    described, weights = network_files(member, which)
    config = yaml.safe_load(described.read_text(encoding="utf-8"))
    network = build_network(Model(**config["model"]), config["channels"], pretrained=False)
    network.load_state_dict(load_weights(weights))
    return network.eval().to(device, memory_format=torch.channels_last)
