"""Windows around boxes: what they hold, and how few they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.imaging.grid import grid
from lib.imaging.roi_windows import windows_around


def drawn(boxes, height, width):
    mask = np.zeros((height, width), bool)
    for y, x, h, w in boxes:
        mask[y : y + h, x : x + w] = True
    return mask


box = st.tuples(st.integers(0, 90), st.integers(0, 110), st.integers(1, 40), st.integers(1, 40))


@given(st.lists(box, max_size=12), st.integers(8, 140), st.sampled_from([1.0, 0.5, 0.37]))
def test_every_box_is_covered_and_one_that_stands_alone_and_fits_is_whole(boxes, window, scale):
    height, width = 100, 120
    boxes = [(y, x, min(h, height - y), min(w, width - x)) for y, x, h, w in boxes]
    size = max(1, round(height * scale)), max(1, round(width * scale))
    factors = size[0] / height, size[1] / width
    gap = int(np.ceil(2 / min(factors)))  # what rounding to shrunken pixels does not close
    corners = windows_around(boxes, factors, size, window, max(1, window // 2))
    assert corners == sorted(set(corners))
    seen = np.zeros(size, bool)
    for y, x in corners:
        assert 0 <= y <= max(0, size[0] - window) and 0 <= x <= max(0, size[1] - window)
        seen[y : y + window, x : x + window] = True
    for y, x, h, w in boxes:
        top, left = int(y * factors[0]), int(x * factors[1])
        bottom, right = (min(size[i], int(np.ceil(end * factors[i]))) for i, end in enumerate((y + h, x + w)))
        assert seen[top:bottom, left:right].all()
        near = drawn(boxes, height, width)[max(0, y - gap) : y + h + gap, max(0, x - gap) : x + w + gap].sum()
        if near == h * w and bottom - top <= window >= right - left:
            whole = [cy <= top and bottom <= cy + window and cx <= left and right <= cx + window for cy, cx in corners]
            assert any(whole)


@pytest.mark.parametrize("seed", range(3))
def test_a_few_small_things_need_fewer_windows_than_the_grid_has_on_them(seed):
    rng = np.random.default_rng(seed)
    boxes = [(*map(int, rng.integers(0, 960, 2)), 30, 30) for _ in range(25)]
    around = windows_around(boxes, (1.0, 1.0), (1000, 1000), 128, 96)
    mask = drawn(boxes, 1000, 1000)
    touched = [corner for corner in grid(1000, 1000, 128, 96) if mask[tuple(slice(c, c + 128) for c in corner)].any()]
    assert len(around) * 1.5 < len(touched)
    assert len({y for y, _ in around}) <= len(around)


def test_boxes_that_overlap_are_things_of_their_own():
    chain = [(100, 40 + 50 * i, 60, 60) for i in range(5)]  # each overlaps the next; together longer than a window
    around = windows_around(chain, (1.0, 1.0), (400, 400), 128, 64)
    assert len(around) == 3 and not set(around) & set(grid(400, 400, 128, 64))


def test_a_thing_larger_than_a_window_is_looked_at_by_the_grid_where_it_is():
    boxes = [(10, 10, 5, 300), (15, 10, 200, 5)]  # they touch: a corner of two bars
    corners = windows_around(boxes, (1.0, 1.0), (400, 400), 64, 48)
    assert set(corners) <= set(grid(400, 400, 64, 48)) and 8 < len(corners) < 16
    assert windows_around([], (1.0, 1.0), (400, 400), 64, 48) == []
