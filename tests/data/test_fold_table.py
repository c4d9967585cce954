"""02's choices of groups and folds from tables, the check of folds.csv, and loops that stay linear."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from lib import tables
from lib.config.folds import Folds
from lib.config.pseudo import Pseudo
from lib.config.training import Sampling
from lib.data.folds import assign_folds, folds_of_column, make_folds, merge_groups, name_groups
from lib.data.sampler import BalancedSampler
from lib.errors import UserError
from lib.pseudo.select import select
from lib.tables import read_folds
from lib.workspace import write_table

IDS = ["a", "b", "c", "d", "e", "f"]


def table_of(column, cells):
    return pd.DataFrame({column: cells}, index=IDS)


@pytest.mark.parametrize("blank", ["", "  ", "\t", "NaN", "nan", "null", "None", "<NA>", float("nan"), None, pd.NA])
def test_a_blank_cell_is_a_group_of_its_own_and_is_counted(blank, capsys):
    table = table_of("patient", ["p1", blank, "p1 ", blank, "p2", blank])
    groups = name_groups(IDS, table, Folds(group_column="patient"))
    assert groups == ["p1", "b", "p1", "d", "p2", "f"]
    assert "blank for 3 of 6 images; each of them is a group of its own" in capsys.readouterr().out


def test_an_image_alone_does_not_join_a_group_of_its_name():
    groups = name_groups(IDS, table_of("patient", ["b", "", "b", "q", "q", "q"]), Folds(group_column="patient"))
    assert groups.count("b") == 2 and groups[1] not in ("b", "q")


@pytest.mark.parametrize("strangers", ["z", "zy"])
def test_images_that_the_metadata_lack_are_counted_and_the_first_is_named(strangers):
    table = table_of("patient", list("xxyyzz"))
    with pytest.raises(UserError, match=rf"image 'z' is not in the metadata \({len(strangers)} such images\)"):
        name_groups([*IDS, *strangers], table, Folds(group_column="patient"))


def test_a_full_column_says_nothing(capsys):
    assert name_groups(IDS, table_of("patient", list("xxyyzz")), Folds(group_column="patient")) == list("xxyyzz")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("pattern", ["^x(.*)", "^([b-z]*)", "^(?:a|(.))", "^( *)"])
def test_a_pattern_that_names_no_group_for_an_id_is_refused(pattern):
    with pytest.raises(UserError, match=r"does not match the id 'a', or names no group for it \(\d of 6 images\)"):
        name_groups(IDS, pd.DataFrame(), Folds(group_regex=pattern))


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"folds.group_regex '\(a' is not a regular expression: "):
        name_groups(IDS, pd.DataFrame(), Folds(group_regex="(a"))


def test_whole_floats_are_folds():
    table = table_of("fold", ["0.0", "1", " 2 ", "1.0", "-1.0", "1e0"])
    assert folds_of_column(table, "fold", IDS).tolist() == [0, 1, 2, 1, -1, 1]
    assert folds_of_column(table_of("fold", [0.0, 1.0, 2.0, 1.0, -1.0, 1.0]), "fold", IDS).tolist()[-2:] == [-1, 1]


@pytest.mark.parametrize("cell", ["0.5", "", "nan", "train", "-2", "inf", "-inf", "99", "1,0"])
def test_other_cells_are_no_folds(cell):
    with pytest.raises(UserError, match=r"folds.column fold: image 'b' has .* \(1 such images\); expected the number"):
        folds_of_column(table_of("fold", ["0", cell, "1", "1", "0", "0"]), "fold", IDS)


def test_one_group_gets_no_fold_and_is_told_what_to_do(capsys):
    assert make_folds(["g"] * 4, np.ones((4, 1)), Folds(k=2)).tolist() == [-1] * 4
    assert "never validated" in capsys.readouterr().out
    assert make_folds(["g"], np.ones((1, 1)), Folds(scheme="holdout")).tolist() == [-1]
    assert set(make_folds(["g", "h"], np.ones((2, 1)), Folds(k=2)).tolist()) == {0, 1}


@pytest.mark.parametrize("groups", [2, 3, 7])
def test_the_advice_for_too_few_groups_is_accepted(groups):
    """The largest k that the sentence names works, and it never names one below 2."""
    names, content = [f"g{i}" for i in range(groups)], np.ones((groups, 1))
    with pytest.raises(UserError) as refused:
        assign_folds(names, content, Folds(k=groups + 1))
    advice = str(refused.value).split("set folds.k to ")[1].split(",")[0]
    numbers = [int(word) for word in advice.split() if word.isdigit()]
    assert min(numbers) == 2 and max(numbers) == groups
    for k in numbers:
        assert len(set(assign_folds(names, content, Folds(k=k)).tolist())) == k


def folds_csv(path, **columns):
    images = pd.DataFrame({"image_id": list("abct"), "split": ["train", "train", "train", "test"]})
    rows = {"image_id": list("abc"), "group": list("abc"), "fold": [0, 1, -1], "kept_from": ""} | columns
    write_table(path / "folds.csv", pd.DataFrame(rows))
    return path / "folds.csv", images


def test_a_right_table_is_read(tmp_path):
    path, images = folds_csv(tmp_path)
    assert read_folds(path, images)["fold"].tolist() == [0, 1, -1]
    path, images = folds_csv(tmp_path, fold=[-1, -1, -1])  # one group: nothing is validated
    assert list(read_folds(path, images)) == list(tables.FOLDS)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"image_id": list("abx")}, "a row for 'x', which is not a training image"),
        ({"image_id": list("abt")}, "a row for 't', which is not a training image"),
        ({"image_id": list("aab")}, "more than one row for image 'a'"),
        ({"image_id": list("ab"), "group": list("ab"), "fold": [0, 1]}, "no row for the training image 'c'"),
        ({"group": list("aac")}, "group 'a' is in more than one fold"),
        ({"fold": [0, 2, 0]}, r"the folds in use are \[0, 2\]"),
        ({"fold": [0, 1, -2]}, r"the folds in use are \[-2, 0, 1\]"),
        ({"fold": ["0", "1", "0.5"]}, "is damaged"),
    ],
)
def test_a_table_that_does_not_fit_is_a_sentence(tmp_path, columns, sentence):
    path, images = folds_csv(tmp_path, **columns)
    with pytest.raises(UserError, match=sentence) as refused:
        read_folds(path, images)
    assert str(path) in str(refused.value)


def hashed(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def test_folds_are_those_of_earlier_versions():
    """Trained members are bound to their folds: the same table must give the same split for ever."""
    found = []
    for case in range(40):
        rng = np.random.default_rng(case)
        n, f = int(rng.integers(20, 300)), int(rng.integers(1, 14))
        groups = [f"g{v}" for v in rng.integers(0, max(8, n // int(rng.integers(1, 9))), n)]
        content = rng.integers(0, 10 ** int(rng.integers(1, 9)), (n, f)).astype(float)
        content *= rng.random((n, f)) < rng.random()
        for config in (Folds(k=int(rng.integers(2, 7)), seed=case), Folds(scheme="holdout", seed=case)):
            found.append(assign_folds(groups, content, config).tolist())
    assert hashed(found) == "55d5b6a22fcd3f0e"


def test_samples_are_those_of_earlier_versions():
    """Training trajectories depend on the sampler's every draw."""
    rng, n = np.random.default_rng(5), 400
    tiles = pd.DataFrame({"image_id": [f"i{v}" for v in rng.integers(0, 37, n)], "object": rng.random(n) < 0.3})
    tiles = tiles.assign(pseudo=rng.random(n) < 0.2, group=tiles["image_id"].str[:2], px_background=1)
    tiles = tiles.assign(px_a=rng.integers(0, 2, n), px_b=rng.integers(0, 2, n), px_ignore=0)
    tiles["difficulty"] = tiles["image_id"].map(lambda name: int(name[1:]) / 40)
    found = []
    for options in (
        {}, {"balance": "images"}, {"balance": "groups"}, {"balance": "classes"}, {"difficulty": "base"},
        {"balance": "images", "foreground_share": 0.5, "foreground_share_end": 0.1, "samples_per_epoch": 333},
    ):  # fmt: skip
        sampler = BalancedSampler(tiles, Sampling(**options), 0.25, 7)
        found += [sampler.keys(0), sampler.keys(3, 0.6)]
    assert hashed(found) == "cd9bed41b45db36e"


def test_selected_pseudo_labels_are_those_of_earlier_versions():
    found = []
    for case in range(60):
        rng = np.random.default_rng(case)
        rows = [
            {
                "confidence": float(rng.integers(0, 50) / 50), "has_object": bool(rng.random() < 0.5),
                "classes": [c for c in "abcd" if rng.random() < 0.4], "stored": bool(rng.random() < 0.7),
            }
            for _ in range(200)
        ]  # fmt: skip
        config = Pseudo(min_confidence=0.5, max_tiles=int(rng.integers(0, 60)), class_quota=int(rng.integers(0, 9)))
        found.append(select(rows, config, bool(case % 2), case))
    assert hashed(found) == "54e43dd7b61dfc5d"


class Name(str):
    """A text that counts how often it is compared."""

    compared = 0

    def __eq__(self, other):
        Name.compared += 1
        return str.__eq__(self, other)

    def __ne__(self, other):
        Name.compared += 1
        return str.__ne__(self, other)

    __hash__ = str.__hash__


@pytest.fixture
def compared():
    Name.compared = 0
    return lambda: Name.compared


def test_folds_and_samples_do_not_compare_every_image_with_every_group(compared):
    names = [Name(f"g{i:05}") for i in range(2000)]
    assign_folds(names * 2, np.ones((4000, 1)), Folds(k=5))
    tiles = pd.DataFrame({"object": False, "pseudo": False, "image_id": pd.Series(names * 2, dtype=object)})
    BalancedSampler(tiles, Sampling(balance="images"), 0.0, 1).keys(0)
    assert compared() < 100 * 4000


def test_a_long_chain_of_copies_is_merged_in_few_steps(compared):
    """Without shorter paths this one takes half of n² steps."""
    n = 2000
    names = [Name(f"g{i:05}") for i in range(n)]
    merged = merge_groups(names, [(i, i + 1) for i in reversed(range(n - 1))])
    assert set(merged) == {"g00000"}
    assert compared() < 100 * n


def test_the_surest_pseudo_labels_are_looked_up_once(monkeypatch):
    """`set` is made a fixed number of times, whatever the number of tiles."""
    made = []

    class Counted(set):
        def __init__(self, *items):
            made.append(1)
            super().__init__(*items)

    monkeypatch.setattr("lib.pseudo.select.set", Counted, raising=False)
    rows = [{"confidence": 0.9, "has_object": True, "classes": ["a"], "stored": True} for _ in range(500)]
    assert len(select(rows, Pseudo(max_tiles=100, class_quota=5), True, 0)) == 100
    assert len(made) < 10
