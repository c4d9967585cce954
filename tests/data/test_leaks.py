"""Overlaps that were planted are found, however turned; look-alike textures are not merged."""

from itertools import combinations

import cv2
import numpy as np
import pytest

from benchmarks.folds import photograph, planted_pair, turned
from lib.data.leaks import find as leaks
from lib.data.leaks.candidates import best_pairs, learn_words
from lib.data.leaks.compare import compare
from lib.data.leaks.features import (
    COARSEST,
    DETAILS,
    MIRROR,
    FeatureFile,
    detail_for,
    extract_features,
    features_of_file,
    unit_vectors,
)
from lib.data.leaks.find import find_leaks
from lib.errors import UserError
from lib.imaging.reader import AS_THEY_ARE

EVERY_DETAIL = [detail for _, detail in DETAILS] + [COARSEST]


def features_at(image, detail):
    """Features of an image whose longest side becomes the detail's."""
    factor = detail.side / max(image.shape[:2])
    return extract_features(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), detail)


def write(folder, images):
    paths = [folder / f"{i:04}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image)
    return paths


@pytest.mark.parametrize("way", range(8))
@pytest.mark.parametrize("detail", EVERY_DETAIL, ids=lambda detail: str(detail.side))
def test_copies_turned_and_mirrored_are_found(detail, way):
    image = photograph(3, 400, 560)
    kind, agreement = compare(features_at(image, detail), features_at(turned(image, way), detail), detail)
    assert kind.startswith("copy") and ("mirrored" in kind) == (way >= 4) and agreement > 0.8


def test_a_mirrored_look_is_the_look_of_the_mirrored_image():
    image = photograph(4, 300, 400)
    made, real = extract_features(image).mirrored(), extract_features(np.ascontiguousarray(image[:, ::-1]))
    gaps = np.linalg.norm(made.points[:, None] - real.points[None], axis=2)
    near = gaps.argmin(1)
    same = gaps.min(1) < 1.5
    assert same.mean() > 0.9
    alike = (unit_vectors(made.descriptors) * unit_vectors(real.descriptors)[near]).sum(1)[same]
    plain = (unit_vectors(made.descriptors[:, MIRROR]) * unit_vectors(real.descriptors)[near]).sum(1)[same]
    assert np.median(alike) > 0.95 > np.median(plain) + 0.1
    assert (made.descriptors[:, MIRROR] == extract_features(image).descriptors).all()


def test_a_feature_and_its_mirror_image_have_the_same_word():
    descriptors = extract_features(photograph(5, 400, 400)).descriptors
    words = learn_words(descriptors, 10_000)
    assert (words.of(descriptors) == words.of(descriptors[:, MIRROR])).all()
    assert len(np.unique(words.of(descriptors))) > 100


@pytest.mark.parametrize("detail", [DETAILS[1][1], COARSEST], ids=lambda detail: str(detail.side))
def test_planted_overlaps_are_found_among_240_images(tmp_path, capsys, detail):
    """30 to 60 % of the area, or smaller copies, all 8 ways: see benchmarks/folds.py, which plants 5,000 and more."""
    pairs = [planted_pair(number, 256) for number in range(48)]
    others = [photograph(1000 + i, 256, 256) for i in range(144)]
    paths = write(tmp_path, [image for pair in pairs for image in pair] + others)
    found = {(leak.a, leak.b) for leak in find_leaks(paths, AS_THEY_ARE, 1, detail=detail)}
    true = {(2 * i, 2 * i + 1) for i in range(48)}
    assert len(found & true) >= 0.95 * 48 and not found - true
    out = capsys.readouterr().out
    assert f"looked at 240 images ({detail.side} pixels a side" in out and "of 28680 pairs" in out


def wells(seed, n=512):
    """A plate of wells, filled by chance: the same pattern everywhere."""
    rng = np.random.default_rng(seed)
    image = np.full((n, n), 60, np.float32)
    for y in range(32, n, 64):
        for x in range(32, n, 64):
            cv2.circle(image, (x, y), 24, float(rng.uniform(80, 230)), -1)
            cv2.circle(image, (x, y), 26, 20.0, 2)
    return np.clip(image + rng.normal(0, 5, (n, n)), 0, 255).astype(np.uint8)


def bricks(seed, n=512):
    rng = np.random.default_rng(seed)
    image = np.full((n, n), 120, np.float32)
    top, left = rng.integers(0, 24), rng.integers(0, 60)
    for row, y in enumerate(range(int(top) - 24, n, 24)):
        for x in range(int(left) - 120 + row % 2 * 30, n, 60):
            cv2.rectangle(image, (x + 2, y + 2), (x + 58, y + 22), float(150 + rng.normal() * 15), -1)
    return np.clip(image + rng.normal(0, 6, (n, n)), 0, 255).astype(np.uint8)


def weave(seed, n=512):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:n, :n] / 7
    image = 128 + 60 * np.sin(x + rng.uniform(0, 6)) * np.sin(y + rng.uniform(0, 6)) + rng.normal(0, 5, (n, n))
    return np.clip(image, 0, 255).astype(np.uint8)


def logo(seed, n=512):
    """Bright ground with a few discs, and the scanner's words in a corner."""
    rng = np.random.default_rng(seed)
    image = np.full((n, n), 235, np.uint8)
    cv2.putText(image, "SCANNER 12 um", (5, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0, 2)
    for _ in range(6):
        centre = tuple(int(v) for v in rng.integers(100, n, 2))
        cv2.circle(image, centre, int(rng.integers(8, 30)), int(rng.integers(60, 200)), -1)
    return image


@pytest.mark.parametrize("texture", [wells, bricks, weave, logo])
@pytest.mark.parametrize("detail", EVERY_DETAIL, ids=lambda detail: str(detail.side))
def test_textures_that_look_alike_are_not_merged(texture, detail):
    described = [features_at(texture(seed), detail) for seed in range(7)]
    assert all(len(one.points) for one in described)
    assert [(i, j) for (i, a), (j, b) in combinations(enumerate(described), 2) if compare(a, b, detail)] == []


@pytest.mark.parametrize("texture", [wells, bricks])
def test_a_true_copy_of_a_repeated_pattern_is_found(texture):
    image, detail = texture(0), DETAILS[0][1]
    packed = cv2.imencode(".jpg", turned(image, 5), [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
    assert compare(features_at(image, detail), features_at(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), detail), detail)


def test_few_images_are_compared_pair_by_pair_without_a_word(tmp_path, capsys):
    images = [photograph(i, 200, 200) for i in range(4)]
    found = find_leaks(write(tmp_path, [*images, turned(images[2], 6)]), AS_THEY_ARE, 1)
    assert [(leak.a, leak.b) for leak in found] == [(2, 4)] and "mirrored" in found[0].kind
    assert "leak check looked" not in capsys.readouterr().out
    assert find_leaks([], AS_THEY_ARE, 1) == [] and find_leaks(write(tmp_path, images[:1]), AS_THEY_ARE, 1) == []


def test_images_without_features_share_nothing(tmp_path):
    flat = [np.full((64, 64, 3), 3 * i, np.uint8) for i in range(leaks.MAX_IMAGES_FOR_ALL_PAIRS + 5)]
    assert find_leaks(write(tmp_path, flat), AS_THEY_ARE, 1, detail=COARSEST) == []


@pytest.fixture
def six_copies(tmp_path, monkeypatch):
    """Six copies of one image; every pair is likely, two are compared at a time."""
    monkeypatch.setattr(leaks, "SKIP_CONNECTED_AFTER", 0)
    monkeypatch.setattr(leaks, "REGROUP_AFTER", 2)
    image = photograph(7, 160, 160)
    return write(tmp_path, [image] * 6)


def test_pairs_of_one_group_are_not_compared_again_where_there_are_many(six_copies):
    """5 pairs would do; those of the same two or three pairs that are in flight together may be more."""
    found = find_leaks(six_copies, AS_THEY_ARE, 1, detail=COARSEST)
    assert 5 <= len(found) < 15
    assert len(set(leaks._connected(found, 6, frozenset()))) == 1


def test_images_that_join_no_group_connect_no_others(six_copies):
    """0 and 1 are both copies of 2, a test image: this alone puts them into no group, so they are compared, too."""
    everything = find_leaks(six_copies, AS_THEY_ARE, 1, detail=COARSEST, ungrouped=frozenset(range(6)))
    assert len(everything) == 15


def test_each_image_has_its_likeliest_pairs_and_one_word_is_no_reason():
    from scipy import sparse

    words = np.zeros((6, 40))
    words[0, :10] = words[1, :10] = words[2, 8:12] = 1  # 0 and 1 share ten words, each shares two with 2
    words[3, 20] = words[4, 20] = 1  # one word
    held = sparse.csr_matrix(words)
    weight = np.log(6 / np.maximum(words.sum(0), 2)).astype(np.float32)
    assert best_pairs(held, weight, 5).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert best_pairs(held, weight, 1).tolist()[0] == [0, 1] and len(best_pairs(held, weight, 1)) == 2
    assert best_pairs(sparse.csr_matrix((6, 0)), weight[:0], 5).shape == (0, 2)


def test_looks_come_back_from_their_file_as_they_were(tmp_path):
    paths = write(tmp_path, [photograph(i, 150 + 20 * i, 220) for i in range(3)])
    file = FeatureFile(tmp_path / "features", DETAILS[2][1], 3)
    file.path.touch()
    file.write(2, paths[2:], AS_THEY_ARE)
    file.write(0, paths[:2], AS_THEY_ARE)
    for i, path in enumerate(paths):
        made, read = features_of_file(path, AS_THEY_ARE, file.detail), file.read(i)
        assert (made.grey == read.grey).all() and (made.points == read.points).all()
        assert (made.descriptors == read.descriptors).all() and len(read.points) > 20


def test_a_jpeg_is_decoded_at_a_smaller_size_and_looks_the_same(tmp_path):
    image = photograph(8, 640, 496)
    cv2.imwrite(str(tmp_path / "a.jpg"), image)
    detail = detail_for(10**6)
    fast = features_of_file(tmp_path / "a.jpg", AS_THEY_ARE, detail)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    whole = features_of_file(tmp_path / "a.png", AS_THEY_ARE, detail)
    assert fast.grey.shape == whole.grey.shape == (80, 62)
    assert np.abs(fast.grey.astype(int) - whole.grey).mean() < 4
    assert compare(fast, whole, detail)


def test_a_damaged_jpeg_is_a_sentence(tmp_path):
    packed = cv2.imencode(".jpg", photograph(9, 900, 900))[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(packed[: len(packed) // 3])
    with pytest.raises(UserError, match=r"a.jpg is damaged"):
        features_of_file(tmp_path / "a.jpg", AS_THEY_ARE, COARSEST)
