"""Prediction where memory is short, and of values that are not finite."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from lib.errors import UserError
from lib.inference.backends.engines import Engine, Kind, exact_maps, fastest_engines
from lib.inference.networks import Ensemble, NotFiniteError, ScaleGroup
from lib.inference.sliding_window import predict_windows
from lib.inference.windows import Limits, Source, Windows
from lib.plugins import register
from lib.pseudo.agreement import Votes
from lib.system import terminal

CPU = torch.device("cpu")


class Limited(nn.Module):
    """A network that takes at most so many windows at once."""

    def __init__(self, most=100, failure=None):
        super().__init__()
        self.most, self.failure, self.seen = most, failure or torch.OutOfMemoryError("CUDA out of memory."), []
        self.conv = nn.Conv2d(3, 1, 3, padding=1)
        nn.init.constant_(self.conv.weight, 0.01)

    def forward(self, x):
        if len(x) > self.most:
            raise self.failure
        self.seen.append(len(x))
        return self.conv(x / 255 - 0.5)


@pytest.fixture
def windows():
    return np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def anew():
    terminal.warn_once.cache_clear()


@pytest.mark.parametrize("failure", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()])
def test_a_batch_in_parts_gives_the_same_maps(windows, capsys, failure):
    torch.manual_seed(0)
    exact = Ensemble([Limited()], CPU, tta="flips")(windows)
    torch.manual_seed(0)
    short = Limited(2, failure)
    forward = Ensemble([short], CPU, tta="flips")
    assert np.allclose(forward(windows), exact, atol=1e-6) and exact.std() > 1e-3
    assert forward(windows[:2]).shape[0] == 2 and max(short.seen) == 2
    assert (
        capsys.readouterr().out.count("a batch of 5 does not fit into memory and is computed in parts of at most 2")
        == 1
    )


def test_other_users_of_networks_compute_in_parts_too(windows):
    torch.manual_seed(0)
    net = Limited(1)
    assert exact_maps(net, torch.zeros(3, 3, 8, 8), CPU).shape == (3, 1, 8, 8)
    assert Votes(Ensemble([net, net], CPU))(windows).shape == (5, 1, 2, 16, 16)
    best = fastest_engines([Engine("fp32", "eager")], [Kind(net, windows, 10)], CPU)
    assert best == [Engine("fp32", "eager")]


def test_a_backend_that_lacks_memory_is_no_broken_backend(windows, capsys):
    @register("backend", "limited")
    def limited(network, device, precision):
        return network

    forward = Ensemble([Limited(2)], CPU, engine=Engine("fp32", "limited"))
    assert forward(windows).shape[0] == 5
    assert "does not work here" not in capsys.readouterr().out


def test_a_window_that_does_not_fit_is_one_sentence(windows):
    with pytest.raises(UserError, match=r"a single sample does not fit into memory; lower infer\.window"):
        Ensemble([Limited(0)], CPU)(windows)


# ---- not finite ------------------------------------------------------------------------------------------------------


class Blinded(nn.Module):
    """Says `value` of windows that are white."""

    def __init__(self, value):
        super().__init__()
        self.value, self.display_name = value, "base/fold1_seed7 swa"

    def forward(self, x):
        white = x.mean((1, 2, 3), keepdim=True) > 250
        return torch.where(white, torch.tensor(self.value), x[:, :1] / 255)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_sentence_names_member_and_image(tmp_path, value):
    sources = []
    for name, grey in (("dark", 40), ("white", 255), ("last", 90)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((40, 70, 3), grey, np.uint8))
        sources.append(Source(name, tmp_path / f"{name}.png"))
    group = ScaleGroup(Windows(32, 0.0, 1.0, "constant", 0.0), Ensemble([Blinded(0.0), Blinded(value)], CPU))
    with pytest.raises(UserError, match="base/fold1_seed7 swa predicts .* not finite .* for image white with eager"):
        list(predict_windows(sources, group, np.zeros(1), Limits(4)))


@pytest.mark.parametrize("tta", ["none", "flips merge=max", "flips merge=gmean", "scale=1,2"])
def test_an_infinite_logit_is_not_a_certain_pixel(tta):
    windows = np.full((2, 64, 64, 3), 255, np.uint8)
    windows[0] = 9
    with pytest.raises(NotFiniteError) as raised:
        Ensemble([Blinded(math.inf)], CPU, tta=tta)(windows)
    assert raised.value.window == 1


def test_weights_that_float16_cannot_hold_are_computed_in_float32(windows, capsys):
    torch.manual_seed(0)
    net = Limited()
    net.display_name = "base/fold0_seed1 swa"
    with torch.no_grad():
        net.conv.weight[0, 0] = 1e5
        net.conv.weight[0, 1] = -1e5
    exact = Ensemble([net], CPU)(windows)
    assert 0 < exact.mean() < 1 and (Ensemble([net], CPU, engine=Engine("fp16"))(windows) == exact).all()
    warned = "warning: base/fold0_seed1 swa holds weights beyond the range of fp16 in conv.weight"
    assert capsys.readouterr().out.count(warned) == 1
