"""Networks of other channels than red, green and blue: first convolutions, normalisation, weight files, 16 bits."""

from functools import cache

import numpy as np
import pytest
import timm
import torch
from torch import nn

from lib.config import Config, load
from lib.config.pixels import Pixels
from lib.config.training import Model
from lib.errors import UserError
from lib.inference.backends.engines import EAGER, Engine, as_images
from lib.inference.backends.fuse_batchnorm import fold_batch_norms
from lib.models import network as networks
from lib.models.inputs import RGB, Inputs, image_floats, image_tensor, inputs_of
from lib.models.network import build_network
from lib.models.weight_files import load_network, read_description, save_weights, write_description
from lib.plugins import register

CPU = torch.device("cpu")
SIX = Pixels(channels=["B02", "B03", "B04", "B08", "B11", "B12"], colours=["B04", "B03", "B02"])
SLICES = Pixels(channels=[{"name": "ct", "band": 0}], slices=[-2, -1, 0, 1, 2], scaling="mean_std")


def first_of(network):
    return next(module for module in network.body.encoder.modules() if isinstance(module, nn.Conv2d)).weight.detach()


@cache
def shipped():
    return first_of(build_network(Model(weights="package"), 1))


def test_the_inputs_of_a_configuration():
    assert inputs_of(Pixels()) == RGB and RGB.count == 3
    six = inputs_of(SIX)
    assert (six.count, six.colours) == (6, (2, 1, 0))
    assert six.mean == (0.406, 0.456, 0.485, 0.449, 0.449, 0.449) and six.std[3:] == (0.226,) * 3
    assert inputs_of(SLICES) == Inputs((0.5,) * 5, (0.1,) * 5, None)


def test_colours_get_the_weights_of_colours_and_other_channels_small_ones():
    rgb, torch_seed = shipped(), torch.manual_seed(1)
    six = first_of(build_network(Model(weights="package"), 1, inputs=inputs_of(SIX)))
    assert torch_seed and six.shape[1] == 6
    assert torch.equal(six[:, [2, 1, 0]], rgb)
    others = six[:, 3:]
    assert 0.05 < float(others.std() / rgb.std()) < 0.2
    turned = first_of(build_network(Model(weights="package"), 1, inputs=Inputs(colours=(2, 1, 0))))
    assert torch.equal(turned, rgb.flip(1)), "blue first"


@pytest.mark.parametrize("count", [1, 3, 5])
def test_without_colours_the_weights_are_timms(count):
    inputs = Inputs((0.4,) * count, (0.2,) * count, None)
    found = first_of(build_network(Model(weights="package"), 1, inputs=inputs))
    assert torch.equal(found, timm.models.adapt_input_conv(count, shipped()))


def test_weights_of_the_hub_are_put_on_the_colours_too(monkeypatch):
    library = networks._build_body

    def hub(config, channels, weights, options):
        body = library(config, channels, None, options)
        if weights:
            nn.init.constant_(next(iter(body.encoder.parameters())), 2.0)
        return body

    monkeypatch.setattr(networks, "_build_body", hub)
    model = Model(architecture="fpn", encoder="resnet18", weights="hub")
    weights = first_of(build_network(model, 1, inputs=inputs_of(SIX)))
    assert (weights[:, :3] == 2).all() and not (weights[:, 3:] == 2).any()
    assert (first_of(build_network(model, 1)) == 2).all(), "red, green and blue come as they are"


@pytest.mark.parametrize("pixels", [SIX, SLICES], ids=["six", "slices"])
def test_every_channel_is_normalised_by_itself_and_16_bits_are_255_at_most(pixels):
    inputs = inputs_of(pixels)
    network = build_network(Model(architecture="tiny"), 1, inputs=inputs).eval()
    seen = []
    network.body.register_forward_pre_hook(lambda module, x: seen.append(x[0]))
    values = np.random.default_rng(0).integers(0, 65536, (2, inputs.count, 8, 8)).astype(np.uint16)
    network(image_tensor(values))
    mean, std = (np.array(numbers).reshape(1, -1, 1, 1) for numbers in (inputs.mean, inputs.std))
    np.testing.assert_allclose(seen[0].numpy(), (values / 65535 - mean) / std, atol=2e-5)
    network(image_floats(image_tensor(values)))
    assert torch.equal(*seen), "real numbers of 0 to 255 are seen alike"


def test_windows_of_16_bits_become_the_numbers_that_training_sees():
    windows = np.random.default_rng(0).integers(0, 65536, (2, 8, 9, 6)).astype(np.uint16)
    images = as_images(windows, CPU)
    assert images.shape == (2, 6, 8, 9) and images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, image_floats(image_tensor(windows.transpose(0, 3, 1, 2))))
    assert 254 < images.max() <= 255
    eight = windows.astype(np.uint8)
    assert torch.equal(as_images(eight, CPU), torch.from_numpy(eight).permute(0, 3, 1, 2).float())


@pytest.mark.parametrize("options", [{}, {"stem": "down"}, {"classifier": True}, {"deep_supervision": True}])
def test_a_network_of_six_channels_is_trained_saved_and_loaded(options, tmp_path):
    torch.manual_seed(0)
    config = Config.model_validate({"competition": {"pixels": SIX.model_dump()}})
    model = Model(encoder="tu-resnet10t", decoder_channels=[32, 16, 16, 8], weights="none", **options)
    config = config.model_copy(update={"model": model})
    network = build_network(model, 2, inputs=inputs_of(SIX))
    images = image_tensor(np.random.default_rng(0).integers(0, 65536, (2, 6, 64, 64)).astype(np.uint16))
    outputs = network.train()(images)
    (outputs if isinstance(outputs, torch.Tensor) else outputs.mask).square().mean().backward()
    save_weights(tmp_path / "last_weights.pt", network)
    write_description(tmp_path, config, 2)
    loaded = load_network(tmp_path, "last", CPU, 2, inputs_of(SIX))
    with torch.inference_mode():
        wanted, found = network.eval()(images).sigmoid(), EAGER.build(loaded, CPU)(image_floats(images)).sigmoid()
    assert (found - wanted).abs().max() < 0.01
    with pytest.raises(UserError, match=r"sees 6 channels, and competition.pixels makes 3: .* run 03_train"):
        load_network(tmp_path, "last", CPU, 2, RGB)


def test_the_stem_shows_the_encoder_colours_first_and_loses_no_channel():
    (weight, _), _ = networks.downsampling(inputs_of(SIX)).parameters(), None
    assert weight.shape[:2] == (8, 6)
    assert weight[:, :, 1, 1].argmax(1).tolist() == [2, 1, 0, 2, 1, 0, 2, 1]
    many = Inputs((0.5,) * 11, (0.1,) * 11, None)
    assert next(networks.downsampling(many).parameters())[:, :, 1, 1].argmax(1).tolist() == list(range(11))
    assert next(networks.downsampling().parameters())[:, :, 1, 1].argmax(1).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_description_of_red_green_and_blue_is_what_it_was(tmp_path):
    write_description(tmp_path, load(None, []), 1)
    assert "inputs" not in (tmp_path / "network.yaml").read_text()
    assert read_description(tmp_path / "network.yaml").inputs == RGB


def test_batch_norms_of_other_channels_are_folded():
    network = build_network(Model(encoder="tu-resnet10t", weights="none"), 1, inputs=inputs_of(SIX)).eval()
    folded = fold_batch_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_openvino_takes_other_channels():
    pytest.importorskip("openvino")
    network = build_network(Model(architecture="tiny"), 1, inputs=inputs_of(SIX)).eval()
    images = torch.rand(2, 6, 64, 64) * 255
    with torch.inference_mode():
        found, wanted = Engine("fp32", "openvino").build(network, CPU)(images), network(images)
    assert (found - wanted).abs().max() < 1e-3


def test_a_plugin_that_knows_no_other_channels_is_told_how():
    @register("model", "of three")
    def of_three(config, channels):
        return nn.Conv2d(3, channels, 1)

    @register("model", "of any")
    def of_any(config, channels, inputs):
        return nn.Conv2d(inputs, channels, 1)

    assert build_network(Model(architecture="of three"), 2)(torch.zeros(1, 3, 4, 4)).shape == (1, 2, 4, 4)
    assert build_network(Model(architecture="of any"), 2, inputs=inputs_of(SIX))(torch.zeros(1, 6, 4, 4)).shape[1] == 2
    with pytest.raises(UserError, match=r"of three sees three channels, and competition.pixels makes 6; .*`inputs`"):
        build_network(Model(architecture="of three"), 1, inputs=inputs_of(SIX))
