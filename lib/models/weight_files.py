"""The files for prediction: a network's description (`network.yaml`) and its weights in half precision."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from pydantic import ValidationError
from torch import nn

from lib.artifacts.read import damaged, fit_state, read_json, read_tensors, read_yaml
from lib.config import Config
from lib.config.load import option_error
from lib.config.old_names import with_todays_names
from lib.config.training import Model
from lib.errors import UserError
from lib.files import file_fingerprint, replacing, write_text
from lib.models.inputs import RGB, Inputs, inputs_of
from lib.models.network import build_network
from lib.system.terminal import warn_once

TRAIN_AGAIN = "run 03_train.py again, which writes it again or trains the member again"
LAST_AS_FALLBACK = ("swa", "best")  # kinds of weights that `last` replaces where a training made none
FLOAT16_MAX = torch.finfo(torch.float16).max


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's weights in half precision: half the size, and maps that differ by less than 0.001.

    Values beyond the range of float16 stay float32, with a warning. Raises UserError where weights are not finite, and
    writes nothing.
    """
    state = network.state_dict()
    check_finite(state, path)
    if name := beyond_half(state):
        member = f"{path.parent.parent.name}/{path.parent.name}"
        warn_once(f"{member}: {name} is beyond the range of float16 and stays float32 in {path.name}")
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save({name: to_half(value) for name, value in state.items()}, file)


def to_half(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() and fits_half(value) else value


def fits_half(value: torch.Tensor) -> bool:
    """Whether float16 holds the values, without infinity."""
    return not value.numel() or float(value.abs().max()) <= FLOAT16_MAX


def beyond_half(state: dict[str, torch.Tensor]) -> str:
    """The name of the first weights that float16 cannot hold; empty where there are none."""
    return next((name for name, value in state.items() if value.is_floating_point() and not fits_half(value)), "")


def load_weights(path: Path) -> dict:
    """What `save_weights` wrote, in float32. Raises UserError on a damaged file, and where they are not finite."""
    state = read_tensors(path, TRAIN_AGAIN)
    strange = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if strange or not state:
        raise damaged(path, f"{strange[0]} is not a tensor" if strange else "it is empty", TRAIN_AGAIN)
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
    """Write network.yaml, from which `load_network` builds the network.

    `multilabel` is written only where it is true, and `inputs` only where images are not red, green and blue, so that
    other descriptions stay as they were.
    """
    described = {"channels": channels, "model": config.model.model_dump(), "plugins": config.plugins}
    if config.competition.multilabel:
        described["multilabel"] = True
    inputs = inputs_of(config.competition.pixels)
    if inputs != RGB:
        described["inputs"] = {
            name: None if value is None else list(value) for name, value in dataclasses.asdict(inputs).items()
        }
    write_text(Path(member) / "network.yaml", yaml.safe_dump(described))


@dataclass(frozen=True)
class Description:
    """What `write_description` wrote: options of the network, its outputs, whether they overlap, and its inputs."""

    model: Model
    channels: int
    multilabel: bool
    inputs: Inputs


def read_description(path: Path) -> Description:
    """Raises UserError on a damaged file, and on an option that this version does not have."""
    described = read_yaml(path)
    try:
        model = Model(**with_todays_names({"model": described["model"]})["model"])
    except ValidationError as error:
        raise UserError(f"{path}: {option_error(error, 'model')}; {TRAIN_AGAIN}") from None
    inputs = RGB
    if "inputs" in described:
        inputs = Inputs(**{name: value and tuple(value) for name, value in described["inputs"].items()})
    return Description(model, described["channels"], described.get("multilabel", False), inputs)


def network_files(member: Path, which: str) -> tuple[Path, Path]:
    """The files that `load_network` reads: description and weights.

    `swa` means `last` where SWA was off. `best` means `last` where nothing was scored during training.

    Raises UserError where there are no such weights.
    """
    described, weights = Path(member) / "network.yaml", Path(member) / f"{which}_weights.pt"
    if which in LAST_AS_FALLBACK and not weights.exists() and weights.name not in networks_made(member):
        weights = Path(member) / "last_weights.pt"
    if not described.exists() or not weights.exists():
        raise UserError(f"{member} has no {which} weights; run 03_train.py, or correct infer.checkpoints")
    return described, weights


def networks_made(member: Path) -> dict:
    """Name -> fingerprint of the networks that a training made (trained.json); empty where an older version did."""
    return read_json(Path(member) / "trained.json", {})


def check_identity(*files: Path) -> None:
    """Raises UserError where files of a member are no longer what its training wrote, as far as that is known."""
    for file in files:
        known = networks_made(file.parent).get(file.name)
        if known and known != file_fingerprint(file):
            raise UserError(f"{file} is not what 03_train.py wrote: it was replaced or changed; run 03_train.py again")


def load_network(
    member: Path, which: str, device: torch.device, outputs: int | None = None, inputs: Inputs | None = None
) -> nn.Module:
    """A member's network with its `swa`, `ema`, `best`, … weights, in eval mode, channels_last.

    `outputs`, `inputs`: what the competition asks for. Raises UserError when there are no such weights, or when they
    cannot be used.
    """
    described, weights = network_files(member, which)
    about = read_description(described)
    if outputs not in (None, about.channels):
        raise UserError(
            f"{member} has {about.channels} outputs, and competition.classes makes {outputs}: it was trained for "
            "another competition, or other classes; delete the folder and run 03_train.py again"
        )
    if inputs is not None and inputs.count != about.inputs.count:
        raise UserError(
            f"{member} sees {about.inputs.count} channels, and competition.pixels makes {inputs.count}: it was trained "
            "on other channels; run 03_train.py again"
        )
    network = build_network(about.model, about.channels, False, about.multilabel, about.inputs)
    fit_state(network, load_weights(weights), weights, TRAIN_AGAIN)
    check_identity(described, weights)
    network.display_name = f"{weights.parent.parent.name}/{weights.parent.name} {which}"  # in messages
    return network.eval().to(device, memory_format=torch.channels_last)
