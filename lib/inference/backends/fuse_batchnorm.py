"""Folds batch normalisation into the convolution before it: the same numbers with fewer passes over the maps."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lib.models.inputs import channels_seen

PROBE_SIDE = 64  # pixels of the image that a folded network is tested with
MAX_DIFFERENCE = 1e-3  # of the largest logit; rounding stays far below, a mistake exceeds it


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """A copy of a network in eval mode, with its batch normalisations folded into convolutions where possible.

    Hooks watch an image pass the network, to see which convolution feeds which normalisation. So this works for any
    network. The network itself is returned if it cannot be copied, takes no image of 64 x 64 on the CPU, has nothing to
    fold, or gives other logits once folded.
    """
    try:
        device = next(network.parameters()).device
        folded = deepcopy(network).cpu()  # on a GPU, float32 may be rounded (TF32)
        shape, generator = (1, channels_seen(network), PROBE_SIDE, PROBE_SIDE), torch.Generator().manual_seed(0)
        probe = torch.rand(shape, generator=generator) * 255
        before, pairs = _watched(folded, probe)
        for convolution, norm in pairs:
            _fold(folded, convolution, norm)
        with torch.inference_mode():
            after = folded(probe)
        same = bool(pairs) and bool((after - before).abs().max() <= MAX_DIFFERENCE * before.abs().max())
        return folded.to(device) if same else network
    except Exception:  # a user's network may raise anything here; without folding, it works or raises its own error
        return network


@torch.no_grad()
def _watched(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, list[tuple[nn.Module, nn.Module]]]:
    """The network's logits, and the pairs of a convolution and the normalisation right after it, both used once."""
    outputs: dict[
        int, tuple[nn.Module, torch.Tensor, int]
    ] = {}  # by id; the tensor is kept so that its id stays its own
    calls: list[nn.Module] = []
    pairs: list[tuple[nn.Module, nn.Module]] = []

    def convolved(module: nn.Module, _, output: torch.Tensor) -> None:
        calls.append(module)
        outputs[id(output)] = module, output, output._version

    def normalising(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        calls.append(module)
        convolution, output, version = outputs.get(id(inputs[0]), (None, None, None))
        if convolution is not None and output._version == version:  # otherwise it was changed in place
            pairs.append((convolution, module))

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
    return logits, [pair for pair in pairs if all(sum(call is module for call in calls) == 1 for module in pair)]


@torch.no_grad()
def _fold(network: nn.Module, convolution: nn.Module, norm: nn.BatchNorm2d) -> None:
    """Change a convolution's weights, and replace the normalisation by its activation or by nothing."""
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    # A new tensor in the old memory layout, because other modules may share the old tensor.
    convolution.weight = nn.Parameter(torch.empty_like(convolution.weight).copy_(weight))
    convolution.bias = bias
    path = next(path for path, module in network.named_modules() if module is norm)
    parent, _, name = path.rpartition(".")
    # timm's normalisation layers contain their activation.
    setattr(network.get_submodule(parent), name, getattr(norm, "act", nn.Identity()))
