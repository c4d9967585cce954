"""Objects found band by band, against OpenCV on the whole mask."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.decision.objects import postprocess as objects_module
from lib.decision.objects.postprocess import Rule, draw_labels, find_objects, label_candidates
from lib.errors import UserError
from lib.imaging import geometry
from lib.oof.map_files import Bands


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
def test_areas_peaks_and_rims_are_those_of_the_whole_mask(seed, heights, connectivity):
    bins = blobs(seed)
    mask = bins > 145
    found = find_objects(zip(cut(mask, heights), cut(bins, heights), strict=True), connectivity)
    n, at = cv2.connectedComponents(mask.view(np.uint8), connectivity=connectivity)
    assert n > 2, "the fixture is degenerate"
    expected = sorted(
        (
            int((at == i).sum()), int(bins[at == i].max()),
            bool(np.isin(i, np.concatenate([at[0], at[-1], at[:, 0], at[:, -1]]))),
        )
        for i in range(1, n)
    )  # fmt: skip
    mine = zip(found.area, found.peak, found.rim, strict=True)
    assert sorted((int(a), int(p), bool(r)) for a, p, r in mine) == expected
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
    monkeypatch.setattr(geometry, "BAND_PIXELS", pixels)
    changed = 0
    for seed in range(4):
        bins = blobs(seed)
        bands = list(rule.masks(Bands(band[None] for band in cut(bins, [5, 17, 1, 30])).plane(0)))
        assert max(len(band) for band in bands) <= max(1, pixels // 47)
        assert (np.concatenate(bands) == whole(bins, rule)).all()
        changed += (whole(bins, rule) != (bins >= rule.low)).sum()
    assert rule.by_pixel or changed or rule.low == 255


def softmax_maps(seed, classes=4):
    """Probabilities (K, h, w) that vary slowly."""
    logits = np.stack([blobs(classes * seed + i) for i in range(classes)]) / 40
    logits += np.random.default_rng(seed).normal(size=logits.shape) / 1e4  # no two are alike
    return np.exp(logits) / np.exp(logits).sum(0)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("pixels", [47, 47 * 7, 10**6])
def test_several_classes_get_their_own_rules_in_bands_of_any_height(background, pixels, monkeypatch):
    monkeypatch.setattr(geometry, "BAND_PIXELS", pixels)
    rules = (None if background else Rule(140), Rule(90, high=170), Rule(128, area=30), Rule(128, largest=True))
    changed = set()
    for seed in range(4):
        probs = softmax_maps(seed)
        order = np.argsort(-probs[background:], 0) + background
        first, other = order[0], np.zeros_like(order[0]) if background else order[1]
        p, q = (np.take_along_axis(probs, label[None], 0)[0] for label in (first, other))
        bins = np.floor(255 * p / (p + q) + 0.5).astype(np.uint8)
        expected = other.copy()
        for label, rule in enumerate(rules):
            if rule:
                expected[whole(np.where(first == label, bins, 0).astype(np.uint8), rule)] = label
        planes = [label_candidates(part, background) for part in np.split(probs, [5, 22, 23], axis=1)]
        found = np.concatenate(list(draw_labels(Bands(planes), rules)))
        assert (found == expected).all()
        changed |= set(np.unique(first[found != probs.argmax(0)]))
        plain = (None if background else Rule(128), *[Rule(128)] * 3)
        assert (np.concatenate(list(draw_labels(Bands(planes), plain))) == probs.argmax(0)).all()
    assert changed >= {1, 2, 3}, "the fixture is degenerate"


def test_an_empty_map_and_too_many_objects(monkeypatch):
    empty = Bands([np.zeros((1, 5, 9), np.uint8)]).plane(0)
    assert not np.concatenate(list(Rule(9, area=3, hole=4, largest=True).masks(empty))).any()
    monkeypatch.setattr(objects_module, "MAX_COMPONENTS", 10)
    specks = np.zeros((20, 20), np.uint8)
    specks[::2, ::2] = 255
    with pytest.raises(UserError, match="more than 10 objects"):
        list(Rule(9, area=3).masks([specks]))
