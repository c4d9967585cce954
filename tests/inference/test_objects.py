"""Objects found band by band, against OpenCV on the whole mask."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.inference import maps as maps_module
from lib.inference import objects as objects_module
from lib.inference.maps import Bands
from lib.inference.objects import Rule, find_objects
from lib.tables import IGNORE


def cut(array, heights):
    """(h, W) in bands of the heights, again and again."""
    edges = np.cumsum([0, *heights])
    edges = [*edges[edges < len(array)], len(array)]
    return [array[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def blobs(seed, shape=(61, 47)):
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (smooth * 255).astype(np.uint8)


@given(st.integers(0, 50), st.lists(st.integers(1, 9), min_size=1, max_size=80), st.sampled_from([4, 8]))
def test_areas_peaks_truth_and_rims_are_those_of_the_whole_mask(seed, heights, connectivity):
    bins = blobs(seed)
    truth = np.random.default_rng(seed).choice(np.array([0, 1, IGNORE], np.uint8), bins.shape)
    mask = bins > 145
    found = find_objects(((m, b, t) for m, b, t in zip(cut(mask, heights), cut(bins, heights), cut(truth, heights),
                                                       strict=True)), connectivity)  # fmt: skip
    n, at = cv2.connectedComponents(mask.view(np.uint8), connectivity=connectivity)
    assert n > 2, "the fixture is degenerate"
    expected = sorted(
        (
            int((at == i).sum()), int(bins[at == i].max()), int((truth[at == i] != IGNORE).sum()),
            int((truth[at == i] == 1).sum()),
            bool(np.isin(i, np.concatenate([at[0], at[-1], at[:, 0], at[:, -1]]))),
        )
        for i in range(1, n)
    )  # fmt: skip
    mine = zip(found.area, found.peak, found.known, found.hit, found.rim, strict=True)
    assert sorted((int(a), int(p), int(k), int(h), bool(r)) for a, p, k, h, r in mine) == expected
    drawn = np.concatenate(list(found.draw(cut(mask, heights), found.area > 12, connectivity)))
    big = [i for i in range(1, n) if (at == i).sum() > 12]
    assert (drawn == np.isin(at, big)).all()


def whole(bins, rule):
    """What a rule gives, on the whole map, by other means."""
    mask = bins >= rule.low
    n, at = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    kept = [i for i in range(1, n) if bins[at == i].max() >= rule.high and (at == i).sum() >= rule.area]
    if rule.largest and kept:
        kept = [max(kept, key=lambda i: (at == i).sum())]
    mask = np.isin(at, kept)
    if rule.hole:
        n, at = cv2.connectedComponents((~mask).view(np.uint8), connectivity=4)
        rim = set(np.concatenate([at[0], at[-1], at[:, 0], at[:, -1]]))
        mask = mask | np.isin(at, [i for i in range(1, n) if i not in rim and (at == i).sum() <= rule.hole])
    return mask


RULES = [
    Rule(120), Rule(120, high=170), Rule(120, area=20), Rule(120, largest=True), Rule(100, hole=9),
    Rule(110, high=160, area=15, hole=30), Rule(100, hole=1000, largest=True), Rule(255, area=4, hole=5),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("pixels", [47, 47 * 7, 10**6])
def test_a_rule_gives_the_same_in_bands_of_any_height(rule, pixels, monkeypatch):
    monkeypatch.setattr(maps_module, "BAND", pixels)
    changed = 0
    for seed in range(4):
        bins = blobs(seed)
        bands = list(rule.masks(Bands(cut(bins, [5, 17, 1, 30]))))
        assert max(len(band) for band in bands) <= max(1, pixels // 47)
        assert (np.concatenate(bands) == whole(bins, rule)).all()
        changed += (whole(bins, rule) != (bins >= rule.low)).sum()
    assert rule.by_pixel or changed or rule.low == 255


def test_an_empty_map_and_too_many_objects(monkeypatch):
    empty = Bands([np.zeros((5, 9), np.uint8)])
    assert not np.concatenate(list(Rule(9, area=3, hole=4, largest=True).masks(empty))).any()
    monkeypatch.setattr(objects_module, "MOST", 10)
    specks = np.zeros((20, 20), np.uint8)
    specks[::2, ::2] = 255
    with pytest.raises(UserError, match="more than 10 objects"):
        list(Rule(9, area=3).masks(Bands([specks])))
