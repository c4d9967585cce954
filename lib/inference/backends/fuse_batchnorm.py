"""Batch normalisation folded into the convolution before it: the same numbers with fewer passes over the maps."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

PROBE = 64  # pixels along a side
DIFFERENCE = 1e-3  # of the largest logit; rounding is far below, a mistake above


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """A copy of a network in eval mode, whose batch-norms went into the convolutions before them, where they can.

    Which convolution feeds which batch-norm is seen as an image passes, so that any network can be handed in. One that
    cannot be copied, takes no image of 64 x 64 on the CPU, has nothing to fold, or says something else of that image
    once folded is returned as it is.
    """
    try:
        device = next(network.parameters()).device
        folded = deepcopy(network).cpu()  # float32 is exact there
        probe = torch.rand(1, 3, PROBE, PROBE, generator=torch.Generator().manual_seed(0)) * 255
        before, pairs = _watched(folded, probe)
        for convolution, norm in pairs:
            _fold(folded, convolution, norm)
        with torch.inference_mode():
            after = folded(probe)
        same = bool(pairs) and bool((after - before).abs().max() <= DIFFERENCE * before.abs().max())
        return folded.to(device) if same else network
    except Exception:  # a user's network may raise anything here; unfolded it predicts, or tells why not, as before
        return network


@torch.no_grad()
def _watched(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, list[tuple[nn.Module, nn.Module]]]:
    """The network's logits, and each convolution and batch-norm that are used once, straight after one another."""
    made: dict[int, tuple[nn.Module, torch.Tensor, int]] = {}  # tensors too: an address is theirs while they live
    calls: list[nn.Module] = []
    found: list[tuple[nn.Module, nn.Module]] = []

    def convolved(module: nn.Module, _, output: torch.Tensor) -> None:
        calls.append(module)
        made[id(output)] = module, output, output._version

    def normalising(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        calls.append(module)
        convolution, output, version = made.get(id(inputs[0]), (None, None, None))
        if convolution is not None and output._version == version:  # else it was changed in place
            found.append((convolution, module))

    hooks = []
    for module in network.modules():
        if module._forward_hooks or module._forward_pre_hooks or parametrize.is_parametrized(module):
            continue
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(convolved))
        elif isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            hooks.append(module.register_forward_pre_hook(normalising))
    logits = network(images)
    for hook in hooks:
        hook.remove()
    return logits, [pair for pair in found if all(sum(call is module for call in calls) == 1 for module in pair)]


@torch.no_grad()
def _fold(network: nn.Module, convolution: nn.Module, norm: nn.BatchNorm2d) -> None:
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    # In its own memory layout; a tensor of its own, for others may share the old one.
    convolution.weight = nn.Parameter(torch.empty_like(convolution.weight).copy_(weight))
    convolution.bias = bias
    path = next(path for path, module in network.named_modules() if module is norm)
    parent, _, name = path.rpartition(".")
    # timm's batch-norms bring their activation along.
    setattr(network.get_submodule(parent), name, getattr(norm, "act", nn.Identity()))
