"""What is kept of maps to be shown."""

import numpy as np
import pytest

from lib.oof import previews
from lib.oof.previews import WORST_CROP, Preview, PreviewFile, PreviewMaker, PreviewWriter


def preview_of(values: np.ndarray, wrong: np.ndarray, tall: int, wide: int) -> Preview:
    planes, height, width = values.shape
    maker = PreviewMaker(height, width, planes)
    for y in range(0, height, tall):
        for x in range(0, width, wide):
            here = np.s_[y : y + tall, x : x + wide]
            maker.add(y, x, values[:, y : y + tall, x : x + wide], wrong[here])
            assert len(maker._strips) * 128 <= tall + WORST_CROP + 128, "never much more than a spot's rows"
    return maker.preview()


@pytest.mark.parametrize(
    ("tall", "wide", "planes", "memory"),
    [(3000, 2100, 1, 2**26), (1000, 700, 1, 0), (52, 2100, 1, 2**20), (129, 311, 3, 2**20)],
)
def test_the_worst_spot_has_the_errors_in_its_middle_whatever_the_blocks_are(tall, wide, planes, memory, monkeypatch):
    monkeypatch.setattr(previews, "STRIP_BYTES", memory)
    rng = np.random.default_rng(0)
    values, wrong = rng.integers(0, 255, (planes, 3000, 2100)).astype(np.uint8), np.zeros((3000, 2100), bool)
    wrong[40:60, 40:60] = True
    wrong[1700:1800, 1250:1300] = True
    found = preview_of(values, wrong, tall, wide)
    y, x = found.corner
    assert (
        found.worst_crop.shape == (planes, WORST_CROP, WORST_CROP)
        and (found.worst_crop == values[:, y : y + WORST_CROP, x : x + WORST_CROP]).all()
    )
    assert 1700 - y > 100 and 1800 - y < WORST_CROP - 100 and 1250 - x > 100 and 1300 - x < WORST_CROP - 100
    assert (found.map == values[:, ::4, ::4]).all()


@pytest.mark.parametrize(("height", "width"), [(1000, 300), (300, 1000), (901, 901), (1300, 128)])
def test_of_narrow_images_the_spot_is_narrow(height, width):
    values, wrong = (
        np.arange(height * width).reshape(1, height, width).astype(np.uint8),
        np.zeros((height, width), bool),
    )
    wrong[-1, -1] = True
    found = preview_of(values, wrong, 100, 100)
    y, x = found.corner
    _, tall, wide = found.worst_crop.shape
    assert min(height, WORST_CROP) - 128 < tall <= WORST_CROP and wide == min(width, WORST_CROP)
    assert (found.worst_crop == values[:, y:, x:]).all(), "the last pixel is in it"


def test_an_image_that_is_not_shrunk_has_no_spot_and_albums_give_back_what_they_got(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (1, 40, 60)).astype(np.uint8)
    small = preview_of(values, values[0] > 9, 7, 11)
    assert (small.map == values).all() and small.worst_crop.size == 0
    large = Preview(values, values[:, :9], (1, 2))
    for name, some in {"one": {"a/b": small}, "two": {"c": large}}.items():
        with PreviewWriter(tmp_path / name) as album:
            for image_id, preview in some.items():
                album.add(image_id, preview)
    album = PreviewFile([tmp_path / "one", tmp_path / "two"])
    assert set(album) == {"a/b", "c"} and album["c"].corner == (1, 2) and (album["c"].worst_crop == values[:, :9]).all()
    assert (album["a/b"].map == values).all()
