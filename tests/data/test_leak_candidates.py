"""Parts of the leak check by their values: words, tables of words, matches, agreement."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from lib.data.leaks import candidates, compare
from lib.data.leaks.candidates import learn_words
from lib.data.leaks.compare import agreement_of, best_shifted_correlation, describe_leak, match
from lib.data.leaks.features import COARSEST, DESCRIPTOR_VALUES, DETAILS, detail_for, extract_features, unit_vectors
from lib.data.leaks.report import save_pair
from lib.imaging.reader import AS_THEY_ARE

RNG = np.random.default_rng


def test_more_images_are_looked_at_less_closely():
    numbers = (2, 1000, 1001, 20_000, 20_001, 60_000, 60_001)
    details = [detail for _, detail in DETAILS for _ in range(2)]
    assert [detail_for(n) for n in numbers] == [*details, COARSEST]
    assert all(a.side > b.side and a.features > b.features for a, b in pairwise([*details[::2], COARSEST]))


def test_what_a_transform_is_called():
    assert describe_leak(1.04, -3.0, 0.9) == "shared ground, 90% of the smaller image"
    assert describe_leak(1.06, 3.6, 0.91, "mirrored") == "copy, mirrored, 1.06 times the size, rotated by 4 degrees"
    assert describe_leak(0.94, -91.2, 0.5) == (
        "shared ground, 0.94 times the size, rotated by 91 degrees, 50% of the smaller image"
    )


def directions(*degrees):
    """Unit vectors (n, 2)."""
    angles = np.radians(degrees)
    return np.column_stack([np.cos(angles), np.sin(angles)])


def test_matches_are_mutual_and_clearly_nearer_than_the_next():
    assert match(directions(0), directions(10, 12)).tolist() == [], "distances of 10 to 12 are no less than 0.8"
    assert match(directions(0), directions(13, 10)).tolist() == [[0, 1]]
    assert match(directions(0, 4), directions(5, 90)).tolist() == [[1, 0]], "0 degrees is not the nearest of 5"
    assert match(directions(0, 90, 180), directions(91, 178, 1)).tolist() == [[0, 2], [1, 0], [2, 1]]


def test_roots_of_shares_have_length_1():
    values = np.array([[0, 4, 12], [0, 0, 0]], np.uint8)
    assert np.allclose(unit_vectors(values), [[0, 0.5, 0.75**0.5], [0, 0, 0]])


def shifted(by):
    return np.array([[1.0, 0, by], [0, 1, 0]])


def test_agreement_is_told_of_enough_shared_ground_and_of_its_share():
    image = cv2.GaussianBlur(RNG(0).integers(0, 256, (100, 200)).astype(np.uint8), (0, 0), 2)
    whole, share, common = agreement_of(image, image, shifted(0))
    assert whole == pytest.approx(1) and (share, common) == (1, 20_000)
    right = np.ascontiguousarray(image[:, 150:])
    found, share, common = agreement_of(image, right, shifted(-150))
    assert found > 0.9 and (share, common) == (1, 5000), "of the smaller image"
    assert agreement_of(image, image, shifted(150))[1:] == (0.25, 5000)
    assert agreement_of(image, image, shifted(150))[0] < 0.5
    for by, enough in ((188, True), (189, False)):  # 12 columns of 100 pixels are 1200
        found, _, common = agreement_of(np.roll(image, -by, 1), image, shifted(by))
        assert common == (200 - by) * 100 and (found != 0) == enough


@pytest.mark.parametrize(
    ("side", "zoom", "enough"), [(400, 0.14, False), (400, 0.16, True), (80, 5.9, True), (80, 6.1, False)]
)
def test_images_of_very_different_sizes_are_not_compared(side, zoom, enough):
    image = cv2.GaussianBlur(RNG(0).random((side, side)).astype(np.float32), (0, 0), 10 if zoom < 1 else 0.6)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    other = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    found, share, _ = agreement_of(image, other, np.array([[zoom, 0, 0], [0, zoom, 0.0]]))
    assert (found != 0) == enough and share == pytest.approx(1, abs=0.03)


def test_a_pattern_agrees_elsewhere_and_chance_does_not():
    y, x = np.mgrid[:96, :128]
    waves, noise, everywhere = np.sin(2 * np.pi * x / 16), RNG(0).normal(size=(96, 128)), np.ones((96, 128), bool)
    normal = [compare._normalized(values, everywhere) for values in (waves, noise)]
    assert all(abs(one.mean()) < 1e-9 and one.std() == pytest.approx(1) for one in normal)
    assert best_shifted_correlation(normal[0], normal[0], everywhere) == pytest.approx(1, abs=0.01)
    assert best_shifted_correlation(normal[1], normal[1], everywhere) < 0.1
    half = x < 64
    part = compare._normalized(noise + 9, half)
    assert not part[~half].any() and part[half].mean() == pytest.approx(0) and part[half].std() == pytest.approx(1)
    assert not compare._normalized(np.full((4, 4), 3.0), np.ones((4, 4), bool)).any()


def test_evidence_shows_both_images_side_by_side(tmp_path):
    for name, shape, value in (("a", (40, 80), 200), ("b", (100, 30), 90)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((*shape, 3), value, np.uint8))
    save_pair(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "leaks/pair.png", AS_THEY_ARE)
    picture = cv2.imread(str(tmp_path / "leaks/pair.png"))
    assert picture.shape == (512, 1024, 3)
    left, right = picture[:, :512, 0], picture[:, 512:, 0]
    assert set(np.unique(left)) == {0, 200} and set(np.unique(right)) == {0, 90}
    assert left[0, 0] == 200 and right[0, 0] == 90


# ---- words -----------------------------------------------------------------------------------------------------------


def test_the_nearest_entry_of_a_codebook_is_found_in_steps_of_any_size():
    values, book = RNG(0).normal(size=(50, 6)), RNG(1).normal(size=(9, 6))
    wanted = ((values[:, None] - book[None]) ** 2).sum(2).argmin(1)
    for step in (1, 7, 50, 1024):
        assert (candidates._nearest_entry(values, book, step) == wanted).all()


@pytest.mark.parametrize(("asked", "size"), [(1, 16), (10_000, 256), (10**9, 1024)])
def test_books_grow_with_the_features_that_need_rare_words_and_with_the_sample(asked, size):
    descriptors = RNG(0).integers(0, 256, (3000, DESCRIPTOR_VALUES)).astype(np.uint8)
    words = learn_words(descriptors, asked)
    shape = min(size, 188), DESCRIPTOR_VALUES // 2
    assert [book.shape for book in words.books] == [shape] * 2, "16 of the sample to an entry"
    assert words.of(descriptors).max() < len(words.books[0]) * len(words.books[1])
    parts = np.divmod(words.of(descriptors), len(words.books[1]))
    assert all(len(np.unique(part)) == len(book) for part, book in zip(parts, words.books, strict=True))


def test_words_that_one_image_alone_holds_and_the_commonest_are_left_out(monkeypatch):
    image = np.array([0, 0, 1, 1, 2, 2, 0, 3])
    word = np.array([5, 5, 5, 8, 8, 7, 8, 3])  # 5 is in two images, 8 in three, 7 and 3 in one each
    for products, held in ((14, [[1], [1], [0], [0]]), (15, [[1, 1], [1, 1], [0, 1], [0, 0]])):
        monkeypatch.setattr(candidates, "MAX_WORD_PAIRS", products)  # 1 + 1 + 4, and 9 more
        table, weight = candidates._word_table(image, word, 4)
        assert table.toarray().tolist() == held
        assert np.allclose(weight, np.log([4 / 2, 4 / 3])[: len(held[0])])


def test_rows_are_worked_off_in_ranges_of_about_equal_work(monkeypatch):
    monkeypatch.setattr(candidates, "WORD_PAIRS_PER_BLOCK", 10)
    work = RNG(0).integers(0, 9, 60)
    ranges = candidates._row_ranges(np.cumsum(work).astype(float))
    assert ranges[0][0] == 0 and ranges[-1][1] == 60 and all(a[1] == b[0] for a, b in pairwise(ranges))
    assert all(start < stop for start, stop in ranges) and len(ranges) > 20
    assert max(work[start:stop].sum() for start, stop in ranges) <= 10 + 8


def test_features_are_the_strongest_and_an_even_image_has_none():
    image = cv2.GaussianBlur(RNG(0).integers(0, 256, (200, 200)).astype(np.uint8), (0, 0), 2)
    few, many = (extract_features(image, detail) for detail in (COARSEST, DETAILS[0][1]))
    assert len(few.points) == COARSEST.features < len(many.points)
    assert few.descriptors.shape == (COARSEST.features, DESCRIPTOR_VALUES)
    colours = np.dstack([image, image // 2, image // 3])
    assert (extract_features(colours).grey == cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)).all()
    none = extract_features(np.zeros((50, 50), np.uint8))
    assert none.points.shape == (0, 2) and none.descriptors.shape == (0, DESCRIPTOR_VALUES)
