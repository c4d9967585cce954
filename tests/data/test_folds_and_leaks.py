import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.config.folds import Folds
from lib.data.folds import assign_folds, merge_groups, name_groups
from lib.data.leaks.compare import compare
from lib.data.leaks.features import extract_features
from lib.errors import UserError
from lib.tables import check_folds


@given(st.lists(st.integers(0, 12), min_size=6, max_size=60), st.integers(2, 5), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_groups_stay_together_and_no_fold_is_empty(numbers, k, seed):
    groups = [f"g{n}" for n in numbers]
    content = np.random.default_rng(seed).random((len(groups), 2))
    config = Folds(k=k, seed=seed)
    if len(set(groups)) < k:
        with pytest.raises(UserError, match="cannot fill"):
            assign_folds(groups, content, config)
        return
    folds = assign_folds(groups, content, config)
    table = pd.DataFrame({"image_id": range(len(groups)), "group": groups, "fold": folds})
    check_folds(table)
    assert set(folds) == set(range(k))
    assert (folds == assign_folds(groups, content, config)).all()


def test_a_rare_class_is_spread():
    content = np.zeros((30, 2))
    content[:, 0] = 1
    content[:6, 1] = 1  # six images hold the rare class
    folds = assign_folds([str(i) for i in range(30)], content, Folds(k=3))
    assert [int((folds[:6] == f).sum()) for f in range(3)] == [2, 2, 2]


def test_holdout_holds_out_about_its_share():
    folds = assign_folds([str(i) for i in range(40)], np.ones((40, 1)), Folds(scheme="holdout", holdout_share=0.1))
    assert set(folds) == {0, -1} and 3 <= (folds == 0).sum() <= 5


def test_groups_from_ids_and_their_errors():
    assert name_groups(["a_1", "a_2"], pd.DataFrame(), Folds(group_regex="^([a-z])_")) == ["a", "a"]
    with pytest.raises(UserError, match="does not match the id '1_a'"):
        name_groups(["1_a"], pd.DataFrame(), Folds(group_regex="^([a-z])_"))
    with pytest.raises(UserError, match="no column 'patient'"):
        name_groups(["a"], pd.DataFrame({"place": ["x"]}, index=["a"]), Folds(group_column="patient"))
    assert merge_groups(["a", "b", "c", "d"], [(2, 3), (1, 2)]) == ["a", "b", "b", "b"]


def test_a_group_in_two_folds_is_refused():
    table = pd.DataFrame({"image_id": ["a", "b"], "group": ["g", "g"], "fold": [0, 1]})
    with pytest.raises(UserError, match="'g' is in more than one fold"):
        check_folds(table)


def scene(seed):
    """A textured landscape of blobs and lines, (480, 640, 3)."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 255, (480, 640, 3)).astype(np.uint8), (0, 0), 6) * 2
    for _ in range(60):
        a, b = (tuple(int(v) for v in rng.integers(0, 480, 2)) for _ in range(2))
        cv2.line(image, a, b, rng.integers(0, 255, 3).tolist(), int(rng.integers(1, 6)))
        cv2.circle(image, b, int(rng.integers(4, 30)), rng.integers(0, 255, 3).tolist(), -1)
    return image


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


COPIES = {
    "recompressed": lambda i: jpeg(i, 30),
    "rotated": lambda i: np.ascontiguousarray(np.rot90(i)),
    "turned a little": lambda i: cv2.warpAffine(i, cv2.getRotationMatrix2D((320, 240), 12, 1.0), (640, 480)),
    "smaller": lambda i: cv2.resize(i, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "cropped": lambda i: i[60:400, 100:560],
    "brighter": lambda i: cv2.convertScaleAbs(i, alpha=0.7, beta=50),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found(kind):
    image = scene(1)
    assert compare(extract_features(image), extract_features(COPIES[kind](image))) is not None


def test_shared_ground_is_found_and_other_scenes_are_not():
    wide = np.hstack([scene(2), scene(3)])
    assert compare(extract_features(wide[:, :760]), extract_features(wide[:, 560:])) is not None
    assert compare(extract_features(wide[:, :640]), extract_features(wide[:, 640:])) is None
    described = [extract_features(scene(s)) for s in range(10, 15)]
    assert not any(compare(a, b) for i, a in enumerate(described) for b in described[i + 1 :])
