from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.imaging.blend import window_weights
from lib.imaging.grid import grid, window_starts
from lib.imaging.stitch import Canvas, Resizer, panel_edges, stitch
from lib.system.disk_cache import DiskCache


@given(st.integers(1, 300), st.integers(1, 60), st.data())
def test_every_pixel_is_covered_no_window_twice_none_outside(length, window, data):
    starts = window_starts(length, window, data.draw(st.integers(1, window)))
    assert starts == sorted(set(starts)) and starts[0] == 0
    assert length <= window or starts[-1] + window == length
    assert {p for s in starts for p in range(s, s + window)} >= set(range(length))


def test_weights_of_a_window_have_their_values():
    middle = np.array([3.5, 2.5, 1.5, 0.5, 0.5, 1.5, 2.5, 3.5])  # distances from it
    lines = {
        "constant": np.ones(8), "linear": 1 - middle / 4, "center": (middle < 2).astype(float),
        "gaussian": np.exp(-0.5 * middle**2),  # sigma is an eighth of the side
    }  # fmt: skip
    for kind, line in lines.items():
        weights = window_weights(8, kind)
        assert np.allclose(weights, np.maximum(np.outer(line, line), 1e-3), rtol=1e-6) and weights.dtype == np.float32
    assert [(window_weights(8, "center", margin) == 1).sum() for margin in (0, 0.125, 0.25)] == [64, 36, 16]
    with pytest.raises(ValueError, match="unknown blend 'hann'"):
        window_weights(8, "hann")


@pytest.mark.parametrize("stride", [0, -1, 5])
def test_a_stride_must_leave_no_gap(stride):
    with pytest.raises(ValueError, match=rf"stride {stride} must be in 1..window \(4\)"):
        window_starts(10, 4, stride)


def put_together(blocks, channels, height, width):
    """The map (C, h, w) of blocks, which must cover it once."""
    out, covered = np.full((channels, height, width), np.nan, np.float32), np.zeros((height, width), int)
    for y, x, values in blocks:
        place = slice(y, y + values.shape[1]), slice(x, x + values.shape[2])
        out[:, *place] = values
        covered[place] += 1
    assert (covered == 1).all()
    return out


@pytest.mark.parametrize("kind", ["gaussian", "constant", "linear", "center"])
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 80),
    stride=st.integers(1, 16),
    panel=st.integers(0, 40),
    budget=st.sampled_from([0, 3000, np.inf]),
)
@settings(max_examples=30, deadline=None)
def test_stitching_gives_the_image_and_panels_change_no_bit(kind, height, width, stride, panel, budget):
    size = 16
    rng = np.random.default_rng(height * 41 + width)
    image = rng.random((2, height, width)).astype(np.float32)
    padded = np.pad(image, ((0, 0), (0, size), (0, size)))
    weights = window_weights(size, kind)
    corners = grid(height, width, size, stride)
    corners = [corner for corner in corners if rng.random() < 0.9]  # blank windows are left out
    windows = [padded[:, y : y + size, x : x + size] for y, x in corners]
    outside = np.array([0.25, 0.75], np.float32)
    blocks = stitch(Canvas((height, width), outside, panel, DiskCache(budget)), corners, windows, weights)
    result = put_together(blocks, 2, height, width)
    total = np.zeros((2, height + size, width + size), np.float32)
    weight = np.zeros((height + size, width + size), np.float32)
    for (y, x), values in zip(corners, windows, strict=True):
        total[:, y : y + size, x : x + size] += values * weights
        weight[y : y + size, x : x + size] += weights
    whole = np.where(weight > 0, total / np.maximum(weight, 1e-12), outside[:, None, None])[:, :height, :width]
    assert (result == whole).all()
    covered = weight[:height, :width] > 0
    assert np.abs(result - image)[:, covered].max(initial=0) < 1e-5


def test_pixels_without_window_get_the_outside_value():
    windows = [np.full((2, 8, 8), 0.5, np.float32)]
    blocks = list(stitch(Canvas((40, 20), np.array([1.0, 0.0])), [(16, 4)], windows, window_weights(8, "constant")))
    assert max(values.shape[1] for _, _, values in blocks) <= 8, "empty rows must not come all at once"
    expected = np.zeros((2, 40, 20))
    expected[0] = 1
    expected[:, 16:24, 4:12] = 0.5
    assert (put_together(blocks, 2, 40, 20) == expected).all()


def test_a_constant_network_leaves_no_seams():
    corners = grid(50, 70, 16, 5)
    windows = [np.full((1, 16, 16), 0.3, np.float32)] * len(corners)
    blocks = stitch(Canvas((50, 70), np.zeros(1), 20), corners, windows, window_weights(16, "gaussian"))
    assert np.abs(put_together(blocks, 1, 50, 70) - 0.3).max() < 1e-6


def test_what_a_spool_cannot_hold_waits_in_a_file(tmp_path):
    spool = DiskCache(100, tmp_path)
    arrays = {key: np.full((5, key + 1), key, np.float32) for key in range(6)}
    for _ in range(3):
        for key, array in arrays.items():
            spool.put(key, array)
        assert spool._bytes <= 100 and spool._file is not None
        assert all((spool.pop(key) == array).all() for key, array in arrays.items())
    assert spool.pop(0) is None
    assert spool._end == sum(array.nbytes for array in arrays.values()) - 20 - 40 - 0, "places are not used again"
    assert not list(tmp_path.iterdir()), "the file has a name, and stays behind after a kill"


def blocks_of(image, cuts, columns):
    """An image (C, h, w) in blocks: rows as high as `cuts` say in turn, panels `columns` wide."""
    y, edges = 0, panel_edges(image.shape[2], columns)
    while y < image.shape[1]:
        step = cuts[y % len(cuts)]
        for x0, x1 in pairwise(edges):
            yield y, x0, image[:, y : y + step, x0:x1]
        y += step


@given(
    st.integers(2, 20),
    st.integers(1, 50),
    st.integers(1, 40),
    st.lists(st.integers(1, 6), min_size=1, max_size=20),
    st.integers(1, 9),
    st.integers(1, 4),
    st.booleans(),
)
@settings(deadline=None)
def test_resizing_does_not_depend_on_the_blocks(height, rows, columns, cuts, panel, step, by_area):
    rows, columns = (min(rows, height), min(columns, 9)) if by_area else (rows, columns)
    image = np.random.default_rng(height).random((1, height, 9)).astype(np.float32)
    ((_, _, whole),) = Resizer((height, 9), (rows, columns), by_area).push(0, 0, image, height)
    resizer = Resizer((height, 9), (rows, columns), by_area)
    pieces = [piece for block in blocks_of(image, cuts, panel) for piece in resizer.push(*block, step)]
    assert whole.shape == (1, rows, columns)
    assert (put_together(pieces, 1, rows, columns) == whole).all()


def test_resizing_is_bilinear_with_half_pixel_centres():
    import cv2

    image = np.random.default_rng(0).random((7, 9)).astype(np.float32)
    ((_, _, mine),) = Resizer((7, 9), (21, 18)).push(0, 0, image[None], 7)
    assert np.abs(mine[0] - cv2.resize(image, (18, 21), interpolation=cv2.INTER_LINEAR)).max() < 1e-5


@pytest.mark.parametrize("size", [(7, 9), (5, 4), (3, 9), (1, 1)])
def test_averaging_is_opencvs_by_area(size):
    import cv2

    image = np.random.default_rng(0).random((14, 18)).astype(np.float32)
    ((_, _, mine),) = Resizer((14, 18), size, by_area=True).push(0, 0, image[None], 14)
    assert np.abs(mine[0] - cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)).max() < 1e-5
