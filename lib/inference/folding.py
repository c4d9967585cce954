"""Batch normalisation folded into the convolution before it: the same numbers with fewer passes over the maps."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

CONVOLUTIONS = nn.Conv2d, nn.ConvTranspose2d
PROBE = 64  # pixels along a side
DIFFERENCE = 1e-2  # of the largest logit; rounding is far below, a mistake far above


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """A copy of `network`, set to evaluate, whose batch-norms went into the convolutions before them, where they can.

    Which convolution feeds which batch-norm is seen as an image passes, so that any network can be handed in. One that
    takes no image of 64 x 64, or says something else once folded, is returned as it is.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    probe = torch.rand(1, 3, PROBE, PROBE, generator=torch.Generator().manual_seed(0)).to(device) * 255
    folded = deepcopy(network)
    try:
        before = _watch(folded, probe, pairs := [])
        for convolution, norm in pairs:
            _fold(folded, convolution, norm)
        with torch.inference_mode():
            after = folded(probe)
    except Exception:  # a network of a user's may ask anything of its images
        return network
    same = pairs and (after - before).abs().max() <= DIFFERENCE * before.abs().max()
    return folded if same else network


@torch.inference_mode()
def _watch(network: nn.Module, images: torch.Tensor, pairs: list[tuple[nn.Module, nn.Module]]) -> torch.Tensor:
    """The network's logits; into `pairs` goes every convolution, used once, whose output a batch-norm took, once."""
    made: dict[int, tuple[nn.Module, torch.Tensor]] = {}  # the tensors too: an address is theirs while they live
    calls: list[nn.Module] = []
    found: list[tuple[nn.Module, nn.Module]] = []

    def convolved(module: nn.Module, _, output: torch.Tensor) -> None:
        calls.append(module)
        made[id(output)] = module, output

    def normalising(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        calls.append(module)
        if id(inputs[0]) in made:
            found.append((made[id(inputs[0])][0], module))

    hooks = []
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS) and not parametrize.is_parametrized(module):
            hooks.append(module.register_forward_hook(convolved))
        elif isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            hooks.append(module.register_forward_pre_hook(normalising))
    try:
        logits = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    pairs += [pair for pair in found if all(sum(call is module for call in calls) == 1 for module in pair)]
    return logits


@torch.no_grad()
def _fold(network: nn.Module, convolution: nn.Module, norm: nn.BatchNorm2d) -> None:
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
        transpose=isinstance(convolution, nn.ConvTranspose2d),
    )  # fmt: skip
    convolution.weight.copy_(weight)  # in its own memory layout
    convolution.bias = bias
    path = next(path for path, module in network.named_modules() if module is norm)
    network.set_submodule(path, getattr(norm, "act", nn.Identity()))  # timm's batch-norms bring their activation along
