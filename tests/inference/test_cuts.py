"""Maps do not depend on how images are divided into tasks, nor on the size of batches."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.config.training import Model
from lib.inference.networks import Ensemble, ScaleGroup, filled_up
from lib.inference.sliding_window import predict_windows
from lib.inference.sources import least_of
from lib.inference.windows import Limits, Source, Windows
from lib.models.network import build_network

CPU = torch.device("cpu")
SIZES = [(64, 64), (70, 130), (120, 100), (64, 65), (60, 190)]  # of one window to six


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """(sources, networks with their windows, the maps of all images, predicted together)"""
    folder, rng = tmp_path_factory.mktemp("cuts"), np.random.default_rng(3)
    sources = []
    for number, size in enumerate(SIZES):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), rng.integers(0, 255, (*size, 3), np.uint8))
        sources.append(Source(str(number), path))
    torch.manual_seed(0)
    group = ScaleGroup(
        Windows(64, 0.25, 1.0, "gaussian", 0.25), Ensemble([build_network(Model(architecture="tiny"), 1).eval()], CPU)
    )
    return sources, group, maps_of(sources, group, 4)


def maps_of(sources, group, batch_size):
    """Image id -> its map (h, w)."""
    maps = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    limits = Limits(batch_size, least=least_of(batch_size, "cpu"))
    for block in predict_windows(sources, group, np.zeros(1), limits):
        whole = maps.setdefault(block.image_id, np.full((block.height, block.width), np.nan, np.float32))
        whole[block.y : block.y + block.probs.shape[2], block.x : block.x + block.probs.shape[3]] = block.probs[0, 0]
    torch.set_num_threads(threads)
    return maps


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 9), st.sets(st.integers(1, len(SIZES) - 1)), st.permutations(range(len(SIZES))))
def test_any_cut_into_tasks_any_order_and_any_batch_size_give_the_same_maps(case, batch_size, cuts, order):
    sources, group, wanted = case
    edges = [0, *sorted(cuts), len(SIZES)]
    found = {}
    for first, last in zip(edges, edges[1:], strict=False):
        found |= maps_of([sources[i] for i in order[first:last]], group, batch_size)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert not np.isnan(values).any() and np.array_equal(found[name], values), name


def test_a_short_batch_is_filled_up_and_its_fillers_are_dropped():
    seen = []

    def forward(batch):
        seen.append(batch.shape[0])
        return batch * 2

    assert filled_up(forward, 3)(np.arange(2)).tolist() == [0, 2]
    assert filled_up(forward, 2)(np.arange(3)).tolist() == [0, 2, 4]
    assert seen == [3, 3]


def test_on_a_gpu_the_whole_batch_is_filled_up(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert (least_of(8, "auto"), least_of(8, "cuda:1"), least_of(8, "cpu"), least_of(1, "cpu")) == (8, 8, 2, 1)
