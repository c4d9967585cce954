"""The network: an architecture of segmentation_models_pytorch around an encoder of timm."""

from __future__ import annotations

import inspect
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.nn import functional as F

from lib.config.training import Model
from lib.errors import UserError
from lib.models.encoder_weights import fit_encoder, load_encoder, named_tensors, weight_source
from lib.models.input_sizes import any_size_options, input_multiple
from lib.models.inputs import RGB, Inputs, image_floats
from lib.models.outputs import Outputs
from lib.plugins import find, names, register

PRESENCE_LOGIT = 20.0  # stands for the presence of each class in a network without a classification head
STEM_CHANNELS = 8


class Network(nn.Module):
    """Images (B, C, H, W) to logits (B, K, H, W). Images are as `image_tensor` makes them, or of any type in 0..255.

    The network normalises its input, so that no caller can do it wrong. In training mode, a network with several heads
    returns `Outputs`.
    """

    def __init__(self, body: nn.Module, stem: nn.Module | None = None, classifier: bool = False, inputs: Inputs = RGB):
        """`stem` halves the image before the body. With `classifier`, the body returns (mask, presence)."""
        super().__init__()
        self.body, self.stem, self.classifier, self.inputs = body, stem, classifier, inputs
        self.deep_heads = nn.ModuleList()
        self.multiple = 1
        """Images are padded at the bottom and right to multiples of this side, and the logits are cropped."""
        self.multilabel = False
        """Whether the classes overlap, which `probabilities` needs to know."""
        self.outputs_presence = False
        """In eval mode the output is then (B, 2K, H, W): the mask, then each class's presence, equal everywhere."""
        # Not saved: they are constants of the code, and weight averages must not change them.
        mean, std = torch.tensor(inputs.mean) * 255, torch.tensor(inputs.std) * 255
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, -1, 1, 1), persistent=False)
        self._frozen: list[nn.Module] = []
        self._inner: list[torch.Tensor] = []

    def freeze(self, names: list[str]) -> None:
        """Do not train these modules, nor update their batch-norm statistics.

        `names`: as `named_modules` gives them. Raises UserError on an unknown one, or where nothing is left to train.
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

    def add_deep_heads(self, blocks: list[nn.Module], channels: int) -> None:
        """Deep supervision: each of the decoder's `blocks` predicts the mask through its own 1 x 1 convolution."""
        for block in blocks:
            block.register_forward_hook(self._catch)
        with torch.no_grad():
            self.train().body.eval()  # this pass must not change batch-norm statistics
            side = -(-128 // self.multiple) * self.multiple
            self.body(torch.zeros(2, self.body.encoder.out_channels[0], side, side))  # shows the blocks' channels
            self.train()
        widths, self._inner = [inner.shape[1] for inner in self._inner], []
        self.deep_heads.extend(nn.Conv2d(width, channels, 1) for width in widths)

    def _catch(self, block: nn.Module, inputs: object, output: torch.Tensor) -> None:
        if self.training:
            self._inner.append(output)

    def forward(self, x: torch.Tensor) -> torch.Tensor | Outputs:
        height, width = x.shape[-2:]
        x = (image_floats(x, self.mean.dtype) - self.mean) / self.std
        bottom, right = -height % self.multiple, -width % self.multiple
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        out = self.body(x if self.stem is None else self.stem(x))
        inner, self._inner = self._inner, []
        mask, presence = out if self.classifier else (out, None)
        if self.stem is not None:
            mask = F.interpolate(mask, scale_factor=2, mode="bilinear", align_corners=False)
        if bottom or right:
            mask = mask[..., :height, :width]
        if self.training and (self.classifier or len(self.deep_heads)):
            return Outputs(mask, presence, tuple(h(i) for h, i in zip(self.deep_heads, inner, strict=True)))
        if self.outputs_presence and not self.training:
            presence_maps = (
                torch.full_like(mask, PRESENCE_LOGIT)
                if presence is None
                else presence[:, :, None, None].expand_as(mask)
            )
            mask = torch.cat([mask, presence_maps.to(mask.dtype)], 1)
        return mask


def build_network(
    config: Model, channels: int, pretrained: bool = True, multilabel: bool = False, inputs: Inputs = RGB
) -> Network:
    """A network with `channels` outputs, of classes that overlap where `multilabel`, for images of `inputs`.

    `pretrained`: load encoder weights; False where all weights are loaded later. Raises UserError on an unknown
    architecture or encoder, or where the weights cannot be loaded.

    >>> network = build_network(Model(architecture="tiny"), channels=1)
    >>> network(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 1, 64, 64])
    """
    if config.architecture in names("model"):
        network = Network(_registered(config, channels, inputs), inputs=inputs)
    else:
        network = _network_of_library(config, channels, pretrained, inputs)
    network.multilabel = multilabel
    return network


def _registered(config: Model, channels: int, inputs: Inputs) -> nn.Module:
    """A model that a plugin registers. It is told the number of the images' channels if it has a parameter for it."""
    build = find("model", config.architecture, "model.architecture")
    if "inputs" in inspect.signature(build).parameters:
        return build(config, channels, inputs=inputs.count)
    if inputs.count != 3:
        raise UserError(
            f"model.architecture {config.architecture} sees three channels, and competition.pixels makes "
            f"{inputs.count}; give its function a parameter `inputs`, the number of channels"
        )
    return build(config, channels)


def _network_of_library(config: Model, channels: int, pretrained: bool, inputs: Inputs) -> Network:
    """A network of segmentation_models_pytorch, with the stem and the heads that `config` asks for."""
    options = {**any_size_options(config.encoder), **config.options}
    stem = downsampling(inputs) if config.stem == "down" else None
    seen = inputs if stem is None else Inputs((0.0,) * stem[0].out_channels, (1.0,) * stem[0].out_channels, None)
    if not seen.as_rgb:
        options["in_channels"] = seen.count
    if config.classifier:
        options["aux_params"] = {"classes": channels, "dropout": 0.2}
    if config.decoder_channels:
        options["decoder_channels"] = tuple(config.decoder_channels)
        options.setdefault("encoder_depth", len(config.decoder_channels))
    source = weight_source(config) if pretrained else "none"
    of_colours = source == "hub" and seen.colours is not None and not seen.as_rgb
    body = _build_body(config, channels, "imagenet" if source == "hub" and not of_colours else None, options)
    if of_colours:
        rgb = _build_body(config, channels, "imagenet", {**options, "in_channels": 3})
        fit_encoder(body.encoder, named_tensors(rgb.encoder.state_dict()), f"the hub's {config.encoder}", seen.colours)
    elif source not in ("hub", "none"):
        load_encoder(body.encoder, Path(source), seen.colours)
    network = Network(body, stem, config.classifier, inputs)
    network.multiple = input_multiple(body) * (2 if config.stem == "down" else 1)
    if config.deep_supervision:
        network.add_deep_heads(decoder_blocks(body, config.architecture), channels)
    return network


def _build_body(config: Model, channels: int, weights: str | None, options: dict) -> nn.Module:
    """The library's network. Raises UserError with the library's reason when it cannot be built."""
    try:
        return smp.create_model(
            config.architecture, encoder_name=config.encoder, encoder_weights=weights, classes=channels, **options
        )
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise _unknown(config, error) from None
    except (OSError, RuntimeError) as error:
        if weights is None or "Unknown model" in str(error):
            raise _unknown(config, error) from None
        raise UserError(
            f"model.weights: the hub is out of reach ({type(error).__name__}) for {config.encoder}; "
            "name a local file, or set model.weights none"
        ) from None


def downsampling(inputs: Inputs = RGB) -> nn.Sequential:
    """The stem that halves the image.

    At first its channels repeat the image's colours, as a pretrained encoder expects them, or all channels of an image
    without colours. It has no fewer channels than the image.
    """
    width = max(STEM_CHANNELS, inputs.count)
    shown = inputs.colours or range(inputs.count)
    convolution = nn.Conv2d(inputs.count, width, 3, padding=1)
    with torch.no_grad():
        convolution.weight.mul_(0.1)
        for channel in range(width):
            convolution.weight[channel, shown[channel % len(shown)], 1, 1] += 1
    return nn.Sequential(convolution, nn.MaxPool2d(2))


def decoder_blocks(body: nn.Module, architecture: str) -> list[nn.Module]:
    """The decoder's blocks with maps smaller than the mask. Raises UserError where the decoder has no blocks."""
    blocks = getattr(body.decoder, "blocks", None)
    if not isinstance(blocks, nn.ModuleList | nn.Sequential) or len(blocks) < 2:
        raise UserError(
            f"model.deep_supervision: the decoder of {architecture} has no blocks to add_deep_heads; unet, linknet and "
            "manet have"
        )
    return list(blocks)[:-1]


def _unknown(config: Model, error: Exception) -> UserError:
    reason = " ".join(str(error).strip("'\"").split())[:300]
    given = f" with model.options {config.options}" if config.options else ""
    return UserError(
        f"model: segmentation_models_pytorch cannot build {config.architecture} around {config.encoder}{given} "
        f"({reason}); set model.architecture, model.encoder or model.options to what it knows"
    )


@register("model", "tiny")
def tiny(config: Model, channels: int, inputs: int = 3) -> nn.Module:
    """Two convolutions, for tests and for timing everything but the network."""
    return nn.Sequential(
        nn.Conv2d(inputs, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, channels, 3, padding=1)
    )
