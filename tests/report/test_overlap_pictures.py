"""Pictures of classes that overlap: colours are mixed, errors are those of any class, outlines are those of one."""

import re

import numpy as np

from lib.imaging.draw import colour_of_class, error_map, outline, overlay
from lib.report.findings import save_panels
from lib.tables import IGNORE


def test_where_classes_overlap_their_colours_are_mixed():
    image, planes = np.full((2, 2, 3), 100, np.uint8), np.zeros((2, 2, 2), np.uint8)
    planes[0, 0], planes[:, 0, 1], planes[1, 1, 1] = 1, 1, IGNORE
    drawn = overlay(image, planes, True, strength=1.0)
    assert (drawn[0, 0] == colour_of_class(0)).all() and (drawn[1] == 100).all(), "ignored is not shown"
    assert (drawn[0, 1] == (colour_of_class(0).astype(int) + colour_of_class(1)) // 2).all()


def test_a_pixel_is_wrong_where_any_class_is():
    image, truth, guess = (
        np.full((1, 5, 3), 100, np.uint8),
        np.zeros((2, 1, 5), np.uint8),
        np.zeros((2, 1, 5), np.uint8),
    )
    truth[0, 0] = [1, 1, 0, 1, IGNORE]
    guess[0, 0] = [1, 0, 0, 1, 1]
    truth[1, 0], guess[1, 0] = [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]
    picture, wrong = error_map(image, truth, guess, True)
    assert wrong.tolist() == [[False, True, False, True, False]]
    right, missed, nothing, invented, ignored = picture[0].astype(int)
    assert right[1] > right[0] and missed[2] > 200 and invented[0] > 200, "green, blue, red"
    assert (nothing == nothing[0]).all() and (ignored == nothing).all()


def test_an_outline_holds_its_class_and_leaves_out_holes():
    mask = np.zeros((20, 30), np.uint8)
    mask[3:17, 4:25], mask[8:12, 10:20] = 1, 0
    path = outline(mask)
    assert path.count("M") == path.count("Z") == 2, "a border and a hole"
    points = [tuple(map(int, point)) for point in re.findall(r"(\d+) (\d+)", path)]
    assert {(4, 3), (24, 3), (24, 16), (4, 16)} <= set(points)


def test_panels_return_the_outlines_of_each_class_only_where_they_overlap(tmp_path):
    image, planes = np.zeros((40, 60, 3), np.uint8), np.zeros((2, 40, 60), np.uint8)
    planes[1, 10:20, 10:20] = 1
    layers = save_panels(tmp_path, "a", image, planes, 1 - planes, True)
    assert layers["size"] == (60, 40) and layers["truth"][0] == "" and layers["truth"][1].startswith("M10 10")
    assert all(layers["prediction"])
    assert save_panels(tmp_path, "b", image, planes[1], planes[1], True) == {}
