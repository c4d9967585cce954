"""Convolutions of doubled maps, before doubling: the same maps, for fewer multiplications."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lib.inference.backends.engines import openvino_core
from lib.inference.backends.openvino_upsample import convolve_before_upsampling

ov = pytest.importorskip("openvino")
pytestmark = pytest.mark.filterwarnings("ignore")  # OpenVINO traces, which torch calls deprecated


class Decoder(nn.Module):
    """Doubles a map of half the size, joins the image to it and convolves both."""

    def __init__(self, join: str, mode: str = "nearest", size: int = 3, skip_size: int = 1):
        super().__init__()
        self.join, self.mode = join, mode
        self.deep = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.skip = nn.Conv2d(3, 6, skip_size, padding=skip_size // 2, bias=False)
        channels = {"none": 6, "concat": 9, "concat first": 9, "add": 6}[join]
        self.conv = nn.Conv2d(channels, 5, size, padding=size // 2)

    def forward(self, x):
        up = F.interpolate(self.deep(x), scale_factor=2, mode=self.mode)
        joined = {
            "none": lambda: up,
            "concat": lambda: torch.cat([up, x], 1),
            "concat first": lambda: torch.cat([x, up], 1),
            "add": lambda: self.skip(x) + up,
        }
        return self.conv(joined[self.join]()).relu()


def both(net, shape=(2, 3, 12, 20)):
    """(largest difference to the plain network, convolutions replaced)."""
    torch.manual_seed(1)
    images = torch.randn(shape)
    model = ov.convert_model(net.eval(), example_input=images)
    model.reshape(list(shape))
    replaced = convolve_before_upsampling(model)
    ours = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([images.numpy()])[0]
    with torch.inference_mode():
        return float(np.abs(ours - net(images).numpy()).max()), replaced


@pytest.mark.parametrize("join", ["none", "concat", "concat first", "add"])
@pytest.mark.parametrize("size", [(12, 20), (2, 2), (14, 6)])
def test_the_same_maps_up_to_rounding(join, size):
    difference, replaced = both(Decoder(join), (2, 3, *size))
    assert replaced == 1
    assert difference < 1e-5


@pytest.mark.parametrize(
    "net",
    [Decoder("none", "bilinear"), Decoder("concat", size=5), Decoder("add", skip_size=3)],
    ids=["smooth", "large", "wide"],
)
def test_what_is_no_doubling_or_would_not_gain_stays(net):
    difference, replaced = both(net)
    assert replaced == 0
    assert difference < 1e-5


@pytest.mark.parametrize("architecture, replaced", [("unet", 5), ("fpn", 3)])
def test_decoders_are_recognised(architecture, replaced):
    from lib.config.training import Model
    from lib.models.network import build_network

    network = build_network(Model(architecture=architecture, weights="none"), 1)
    difference, found = both(network, (1, 3, 64, 64))
    assert found == replaced
    assert difference < 1e-3  # of logits that random weights make large
