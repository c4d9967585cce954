"""Batch-norms folded into convolutions: the same maps, nothing of the network itself touched."""

import pytest
import torch
from torch import nn

from lib.config.training import Model
from lib.inference.backends.fuse_batchnorm import fold_batch_norms
from lib.models.network import build_network


def settled(net: nn.Module) -> nn.Module:
    """With statistics and factors as a training leaves them."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.6, 1.5)
            if module.affine:
                nn.init.uniform_(module.weight, 0.7, 1.3)
                nn.init.uniform_(module.bias, -0.2, 0.2)
    return net.eval()


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    images = torch.rand(2, 3, 96, 64) * 255
    with torch.inference_mode():
        before = one(images)
        return float((other(images) - before).abs().max() / before.abs().max())


@pytest.mark.parametrize("model", [Model(architecture="unet"), Model(architecture="fpn", classifier=True)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_no_norm_is_left_and_the_logits_stay(model, layout):
    net = settled(build_network(model, 2)).to(memory_format=layout)
    kept = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    folded = fold_batch_norms(net)
    assert norms(net) > 40 and norms(folded) == 0
    assert largest_difference(net, folded) < 1e-4
    assert all(torch.equal(tensor, kept[name]) for name, tensor in net.state_dict().items())
    for name, module in folded.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.stride() == net.get_submodule(name).weight.stride()


class Odd(nn.Module):
    """A convolution and a batch-norm that must not be folded, or a pair that may."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3, affine=kind != "plain")
        self.second, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, images):
        x = self.conv(images / 255)
        match self.kind:
            case "factors" | "plain":
                return self.other(self.second(self.norm(x)))
            case "used beside":
                return self.norm(x) + x
            case "norm twice":
                return self.other(self.second(self.norm(self.conv(self.norm(x)))))
            case "convolution twice":
                return self.other(self.second(self.norm(x))) + self.conv(x)
            case "changed in place":
                return self.other(self.second(self.norm(x.relu_())))
            case "large images alone":
                return self.norm(x).reshape(images.shape[0], 3, 96, 64)
        raise AssertionError(self.kind)


@pytest.mark.parametrize("kind", ["factors", "plain"])
def test_with_factors_and_without(kind):
    net = settled(Odd(kind))
    folded = fold_batch_norms(net)
    assert norms(folded) == 0
    assert largest_difference(net, folded) < 1e-5


@pytest.mark.parametrize("kind", ["norm twice", "convolution twice", "changed in place"])
def test_the_pair_that_may_be_folded_is_all_that_is(kind):
    net = settled(Odd(kind))
    folded = fold_batch_norms(net)
    assert isinstance(folded.norm, nn.BatchNorm2d) and isinstance(folded.other, nn.Identity)
    assert largest_difference(net, folded) < 1e-5


@pytest.mark.parametrize("kind", ["used beside", "large images alone"])
def test_a_network_that_folding_would_change_stays(kind):
    net = settled(Odd(kind))
    assert fold_batch_norms(net) is net


def test_weights_that_another_module_shares_are_not_changed():
    net = settled(Odd("factors"))
    net.beside = nn.Conv2d(3, 3, 3)
    net.beside.weight = net.conv.weight
    folded = fold_batch_norms(net)
    assert norms(folded) == 0 and torch.equal(folded.beside.weight, net.beside.weight)
