import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.imaging.blend import window_weights
from lib.imaging.grid import grid, window_starts
from lib.imaging.stitch import RowResizer, RowStitcher


@given(st.integers(1, 300), st.integers(1, 60), st.data())
def test_every_pixel_is_covered_no_window_twice_none_outside(length, window, data):
    starts = window_starts(length, window, data.draw(st.integers(1, window)))
    assert starts == sorted(set(starts)) and starts[0] == 0
    assert length <= window or starts[-1] + window == length
    assert {p for s in starts for p in range(s, s + window)} >= set(range(length))


@pytest.mark.parametrize("kind", ["gaussian", "constant", "linear", "center"])
@given(height=st.integers(1, 40), width=st.integers(1, 40), stride=st.integers(1, 16))
@settings(max_examples=30, deadline=None)
def test_stitching_the_image_gives_the_image_and_bands_change_no_bit(kind, height, width, stride):
    size = 16
    rng = np.random.default_rng(height * 41 + width)
    image = rng.random((2, height, width)).astype(np.float32)
    padded = np.pad(image, ((0, 0), (0, size), (0, size)))
    weights = window_weights(size, kind)
    by_row = RowStitcher(height, width, 2, weights, np.zeros(2))
    corners = grid(height, width, size, stride)
    bands = []
    for i, (y, x) in enumerate(corners):
        by_row.add(y, x, padded[:, y : y + size, x : x + size])
        below = height if i + 1 == len(corners) else corners[i + 1][0]
        bands.append(by_row.finish_rows(below)[1])
    result = np.concatenate(bands, axis=1)
    assert np.abs(result - image).max() < 1e-5
    total, weight = (
        np.zeros((2, height + size, width + size), np.float32),
        np.zeros((height + size, width + size), np.float32),
    )
    for y, x in corners:
        total[:, y : y + size, x : x + size] += padded[:, y : y + size, x : x + size] * weights
        weight[y : y + size, x : x + size] += weights
    whole = (total / np.maximum(weight, 1e-12))[:, :height, :width]
    assert (result == whole).all()


def test_pixels_without_window_get_the_fill():
    stitcher = RowStitcher(40, 20, 2, window_weights(8, "constant"), np.array([1.0, 0.0]))
    _, above = stitcher.finish_rows(16)  # no window touched the first rows
    stitcher.add(16, 4, np.full((2, 8, 8), 0.5, np.float32))
    _, below = stitcher.finish_rows(40)
    band = np.concatenate([above, below], axis=1)
    expected = np.zeros((2, 40, 20))
    expected[0] = 1
    expected[:, 16:24, 4:12] = 0.5
    assert (band == expected).all()


@given(st.integers(2, 20), st.integers(1, 50), st.lists(st.integers(1, 6), min_size=1, max_size=20))
@settings(deadline=None)
def test_resizing_does_not_depend_on_the_bands(height, target, cuts):
    rng = np.random.default_rng(height)
    image = rng.random((1, height, 9)).astype(np.float32)
    _, whole = RowResizer((height, 9), (target, 14)).push(image)
    resizer, pieces, y = RowResizer((height, 9), (target, 14)), [], 0
    while y < height:
        step = cuts[y % len(cuts)]
        pieces.append(resizer.push(image[:, y : y + step])[1])
        y += step
    assert whole.shape == (1, target, 14)
    assert (np.concatenate(pieces, axis=1) == whole).all()


def test_resizing_is_bilinear_with_half_pixel_centres():
    import cv2

    image = np.random.default_rng(0).random((7, 9)).astype(np.float32)
    _, mine = RowResizer((7, 9), (21, 18)).push(image[None])
    assert np.abs(mine[0] - cv2.resize(image, (18, 21), interpolation=cv2.INTER_LINEAR)).max() < 1e-5
