"""What is kept of maps to be shown."""

import numpy as np
import pytest

from lib.oof.previews import SPOT, Album, AlbumWriter, Glimpse, Glimpser


def glimpse_of(values: np.ndarray, wrong: np.ndarray, tall: int, wide: int) -> Glimpse:
    height, width = values.shape
    glimpser = Glimpser(height, width)
    for y in range(0, height, tall):
        for x in range(0, width, wide):
            here = np.s_[y : y + tall, x : x + wide]
            glimpser.add(y, x, values[here], wrong[here])
            assert len(glimpser._strips) * 128 <= tall + SPOT + 128, "never much more than a spot's rows"
    return glimpser.glimpse()


@pytest.mark.parametrize(("tall", "wide"), [(3000, 2100), (1000, 700), (52, 2100), (129, 311)])
def test_the_worst_spot_has_the_errors_in_its_middle_whatever_the_blocks_are(tall, wide):
    rng = np.random.default_rng(0)
    values, wrong = rng.integers(0, 255, (3000, 2100)).astype(np.uint8), np.zeros((3000, 2100), bool)
    wrong[40:60, 40:60] = True
    wrong[1700:1800, 1250:1300] = True
    found = glimpse_of(values, wrong, tall, wide)
    y, x = found.place
    assert found.spot.shape == (SPOT, SPOT) and (found.spot == values[y : y + SPOT, x : x + SPOT]).all()
    assert 1700 - y > 100 and 1800 - y < SPOT - 100 and 1250 - x > 100 and 1300 - x < SPOT - 100
    assert (found.map == values[::4, ::4]).all()


@pytest.mark.parametrize(("height", "width"), [(1000, 300), (300, 1000), (901, 901), (1300, 128)])
def test_of_narrow_images_the_spot_is_narrow(height, width):
    values, wrong = np.arange(height * width).reshape(height, width).astype(np.uint8), np.zeros((height, width), bool)
    wrong[-1, -1] = True
    found = glimpse_of(values, wrong, 100, 100)
    y, x = found.place
    assert min(height, SPOT) - 128 < found.spot.shape[0] <= SPOT and found.spot.shape[1] == min(width, SPOT)
    assert (found.spot == values[y:, x:]).all(), "the last pixel is in it"


def test_an_image_that_is_not_shrunk_has_no_spot_and_albums_give_back_what_they_got(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (40, 60)).astype(np.uint8)
    small = glimpse_of(values, values > 9, 7, 11)
    assert (small.map == values).all() and small.spot.size == 0
    large = Glimpse(values, values[:9], (1, 2))
    for name, some in {"one": {"a/b": small}, "two": {"c": large}}.items():
        with AlbumWriter(tmp_path / name) as album:
            for image_id, glimpse in some.items():
                album.add(image_id, glimpse)
    album = Album([tmp_path / "one", tmp_path / "two"])
    assert set(album) == {"a/b", "c"} and album["c"].place == (1, 2) and (album["c"].spot == values[:9]).all()
    assert (album["a/b"].map == values).all()
