import tracemalloc
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib.imaging import components, resize
from lib.imaging.components import Components
from lib.imaging.resize import resized

side = st.integers(1, 24)


def bands_of(labels, cuts):
    edges = sorted({0, len(labels), *(cut for cut in cuts if cut < len(labels))})
    return [(y, labels[y:end]) for y, end in zip(edges, edges[1:], strict=False)]


def whole(bands, size):
    """Bands to labels; they come in order and cover every row once."""
    out, next_ = np.full(size, 99, np.uint8), 0
    for y, band in bands:
        assert y == next_ and len(band)
        out[y : y + len(band)] = band
        next_ += len(band)
    assert next_ == size[0]
    return out


@given(side, side, side, side, st.lists(side, max_size=4), st.integers(0, 99))
def test_every_rule_is_what_the_whole_label_would_give(height, width, rows, columns, cuts, seed):
    labels = np.random.default_rng(seed).choice([0, 1, 2, 255], (height, width)).astype(np.uint8)
    size, out, bands = (height, width), (rows, columns), bands_of(labels, cuts)
    rules = ("nearest", "center", "majority")
    got = {rule: whole(resized(bands, size, out, rule, [0, 1, 2, 255]), out) for rule in rules}
    for rule, shift in (("nearest", 0), ("center", Fraction(1, 2))):
        expected = [[labels[int((y + shift) * height / rows), int((x + shift) * width / columns)]
                     for x in range(columns)] for y in range(rows)]  # fmt: skip
        assert got[rule].tolist() == expected
    # Each pixel as rows x columns equal parts, each of the result as height x width of them.
    fine = labels.repeat(rows, 0).repeat(columns, 1).reshape(rows, height, columns, width)
    areas = np.stack([(fine == label).sum((1, 3)) for label in (0, 1, 2, 255)])
    assert (got["majority"] == np.array([0, 1, 2, 255])[areas.argmax(0)]).all()


@pytest.mark.parametrize(
    ("size", "out"), [((1400, 2100), (350, 525)), ((1024, 1024), (256, 256)), ((97, 61), (40, 90))]
)
def test_nearest_is_opencvs_and_center_is_pils(size, out):
    labels = np.random.default_rng(0).integers(0, 9, size).astype(np.uint8)
    bands = bands_of(labels, [10, 60])
    cv, pil = (whole(resized(bands, size, out, rule, range(9)), out) for rule in ("nearest", "center"))
    assert (cv == cv2.resize(labels, out[::-1], interpolation=cv2.INTER_NEAREST)).all()
    assert (pil == np.array(Image.fromarray(labels).resize(out[::-1], Image.Resampling.NEAREST))).all()
    assert (cv != pil).any()


def test_majority_costs_the_memory_of_some_rows(monkeypatch):
    band = np.ones((64, 4000), np.uint8)
    peaks = []
    for count, together in ((20, 2**16), (80, 2**16), (20, 2**20)):  # pixels: 16 rows, or the whole band
        monkeypatch.setattr(resize, "AREA_PIXELS_AT_ONCE", together)
        tracemalloc.start()
        bands = ((64 * i, band) for i in range(count))
        for _ in resized(bands, (64 * count, 4000), (16 * count, 1000), "majority", [0, 1, 2]):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] and 2 * peaks[0] < peaks[2]


@given(side, side, st.lists(side, max_size=4), st.integers(0, 99), st.sampled_from(["row", "column"]))
def test_components_are_those_of_the_whole_mask(height, width, cuts, seed, order):
    rng = np.random.default_rng(seed)
    mask = (rng.random((height, width)) < rng.uniform(0.1, 0.7)).astype(np.uint8)
    found = Components(height, width, order)
    for y, band in bands_of(mask, cuts):
        found.push(y, band)
    count, at = cv2.connectedComponents(mask, connectivity=8)
    runs = list(found.finish())
    assert len(runs) == count - 1
    assert [r[0] for r in runs] == sorted(r[0] for r in runs)
    for ends in runs:
        assert (np.diff(ends) > 0).all(), "runs that touch are one"
        flat = np.zeros(height * width, bool)
        for start, end in ends.reshape(-1, 2):
            flat[start:end] = True
        one = flat.reshape(height, width) if order == "row" else flat.reshape(width, height).T
        label = at[one][0]
        assert label and (one == (at == label)).all()


def test_a_spiral_that_crosses_every_band_is_one_object(monkeypatch):
    monkeypatch.setattr(components, "COMPONENT_PIXELS_AT_ONCE", 1)
    mask = np.zeros((41, 41), np.uint8)
    for i in range(0, 20, 4):
        cv2.rectangle(mask, (i, i), (40 - i, 40 - i), 1)
    for i in range(0, 16, 4):
        mask[20, i : i + 5] = 1
    found = Components(41, 41, "column")
    found.push(0, mask)
    (one,) = found.finish()
    assert (one[1::2] - one[::2]).sum() == mask.sum()


def test_components_cost_their_runs_not_the_mask():
    height, width = 20_000, 2000  # 40 MB a mask
    band = np.zeros((100, width), np.uint8)
    band[:, 100:300], band[20:60, 900:950] = 1, 1
    found = Components(height, width, "row")
    tracemalloc.start()
    for y in range(0, height, 100):
        found.push(y, band)
    count = sum(1 for _ in found.finish())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1 + 200 and peak < 20e6
