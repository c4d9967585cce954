"""Boxes of any size, shrunk to windows, back in their places."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.imaging.stitch import Canvas, Resizer
from lib.imaging.stitch_boxes import stitch_boxes
from lib.system.disk_cache import DiskCache


def assembled(size, places, channels):
    out, covered = np.full((channels, *size), np.nan, np.float32), np.zeros(size, int)
    for y, x, values in places:
        h, w = values.shape[1:]
        out[:, y : y + h, x : x + w] = values
        covered[y : y + h, x : x + w] += 1
    assert (covered == 1).all()
    return out


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_every_pixel_is_the_mean_of_the_boxes_over_it_however_blocks_are_cut(data):
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    boxes = []
    for _ in range(data.draw(st.integers(0, 5))):
        y, x = (int(rng.integers(0, n)) for n in size)
        boxes.append((y, x, int(rng.integers(1, size[0] - y + 1)), int(rng.integers(1, size[1] - x + 1))))
    boxes.sort()
    maps = [rng.random((2, *rng.integers(1, 12, 2)), np.float32) for _ in boxes]
    sums, counts = np.zeros((2, *size)), np.zeros(size)
    for (y, x, h, w), values in zip(boxes, maps, strict=True):
        resizer = Resizer(values.shape[1:], (h, w))
        whole = assembled((h, w), resizer.push(0, 0, values, 1 + int(rng.integers(9))), 2)
        sums[:, y : y + h, x : x + w] += whole
        counts[y : y + h, x : x + w] += 1
    expected = np.where(counts, sums / np.maximum(counts, 1), [[[0.25]], [[0.75]]])
    found = []
    for cache in (DiskCache(), DiskCache(100)):
        panel, step = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 50))
        found.append(
            assembled(size, stitch_boxes(Canvas(size, np.array([0.25, 0.75]), panel, cache), boxes, maps, step), 2)
        )
    assert np.allclose(found[0], expected, atol=1e-6)
    assert (found[0] == found[1]).all()


def test_maps_are_asked_for_when_their_rows_come_and_let_go_after():
    cache, asked = DiskCache(), []

    def maps():
        for number in range(100):
            asked.append(number)
            yield np.ones((1, 4, 4), np.float32)

    boxes = [(10 * i, 0, 10, 10) for i in range(100)]
    for y, _, values in stitch_boxes(Canvas((1000, 10), np.zeros(1), 10, cache), boxes, maps(), 5):
        assert values.min() == 1
        assert len(asked) == y // 10 + 1
        assert cache._bytes <= 4 * 4 * 4
    assert len(asked) == 100


@pytest.mark.parametrize("boxes", [[], [(0, 0, 3, 3)]])
def test_what_no_box_covers_is_filled(boxes):
    maps = [np.ones((1, 3, 3), np.float32) for _ in boxes]
    out = assembled((6, 6), stitch_boxes(Canvas((6, 6), np.array([0.5]), 6), boxes, maps, 6), 1)
    assert (out[:, 3:] == 0.5).all()
