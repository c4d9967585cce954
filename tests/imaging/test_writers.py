"""Label images of any size to TIFF and PNG."""

import tracemalloc

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from lib.imaging.readers.tiff import TiffReader
from lib.imaging.writers import pyramid_tiff
from lib.imaging.writers.png import write_png
from lib.imaging.writers.pyramid_tiff import geo_tags_of, level_size, write_pyramid_tiff
from lib.imaging.writers.spool import Spool


def filled(planes, folder=None, rows=100):
    spool = Spool(*planes.shape, folder)
    for y in range(0, planes.shape[1], rows):
        spool.write(y, planes[:, y : y + rows])
    return spool


def random_planes(*shape):
    return np.random.default_rng(3).integers(0, 255, shape).astype(np.uint8)


@given(st.tuples(*[st.integers(1, 40)] * 3), st.integers(1, 5), st.data())
def test_a_spool_gives_back_what_was_written(shape, step, data):
    planes = random_planes(*shape)
    top, left = data.draw(st.integers(0, shape[1] - 1)), data.draw(st.integers(0, shape[2] - 1))
    with filled(planes, rows=7) as spool:
        for plane, values in enumerate(planes):
            part = spool.read(plane, (top, shape[1]), (left, shape[2]), step)
            assert np.array_equal(part, values[top::step, left::step])


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_tiff_is_tiled_compressed_and_has_levels(tmp_path, count):
    planes = random_planes(count, 1301, 1100)
    with filled(planes) as spool:
        write_pyramid_tiff(tmp_path / "a.tif", spool)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        levels, page = file.series[0].levels, file.pages.first
        assert len(file.pages) == 1 and page.tile == (512, 512) and page.compression == 8
        assert page.photometric == 1 and page.samplesperpixel == count
        assert len(levels) == 3 and len(page.subifds) == 2
        for number, level in enumerate(levels):
            expected = planes[:, :: 2**number, :: 2**number]
            assert expected.shape[1:] == level_size(1301, 1100, number)
            assert np.array_equal(level.asarray().reshape(expected.shape), expected)
    with TiffReader(tmp_path / "a.tif", None) as reader:  # 01 could read it as a mask
        assert np.array_equal(reader.read(700, 500, 90, 600), planes.transpose(1, 2, 0)[700:790, 500:1100])


def test_a_tiff_of_more_than_a_classic_one_holds_is_a_bigtiff(tmp_path, monkeypatch):
    for most, expected in ((1199, True), (1200 + 1, False)):
        monkeypatch.setattr(pyramid_tiff, "LARGEST_CLASSIC_TIFF", most)
        with filled(random_planes(1, 30, 40)) as spool:
            write_pyramid_tiff(tmp_path / "a.tif", spool)
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            assert file.is_bigtiff == expected


def test_a_png_is_grey_and_holds_the_labels(tmp_path):
    planes = random_planes(1, 300, 431)
    with filled(planes) as spool:
        write_png(tmp_path / "a.png", spool)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), planes[0])


def test_only_a_tiff_has_a_place_on_earth(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4), np.uint8))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    assert geo_tags_of(tmp_path / "a.png") == geo_tags_of(tmp_path / "a.tif") == []


def test_memory_does_not_grow_with_the_image(tmp_path):
    def peak(height):
        rows = (np.arange(4000) // 64 % 3).astype(np.uint8)[None, None].repeat(200, 1)
        with Spool(1, height, 4000, tmp_path) as spool:
            for y in range(0, height, 200):
                spool.write(y, rows)
            tracemalloc.start()
            write_pyramid_tiff(tmp_path / "a.tif", spool)
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return found

    small, large = peak(8000), peak(24000)  # 32 and 96 MB of labels, both more than is compressed together
    assert large < 1.2 * small and large < 0.6 * 24000 * 4000
