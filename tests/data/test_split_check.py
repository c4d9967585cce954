"""What the real tables cannot fill is told before long work; what they can fill passes."""

import re

import pandas as pd
import pytest
import yaml

from lib import tables
from lib.competition.dataset import Competition
from lib.config import load
from lib.data.split_check import check_split
from lib.errors import UserError
from lib.workspace import Workspace, write_table

PLACES = ["a", "b", "c", "d", "e", "a", "t", "t"]  # the first and last training image are of one group


def with_five_groups(tiny):
    """The tiny competition with five groups, folds of the organiser's, and a weight that needs an evaluation."""
    root = tiny.parent / "raw"
    metadata = pd.read_csv(root / "metadata.csv").assign(place=PLACES)
    metadata["fold"] = [1.0, 0.0, 2.0, 0.0, -1.0, 1.0, None, None]
    metadata.to_csv(root / "metadata.csv", index=False)
    config = yaml.safe_load(tiny.read_text())
    config["pseudo"]["rounds"] = 0
    tiny.write_text(yaml.safe_dump(config))
    return tiny


@pytest.fixture
def five_groups(tiny):
    return with_five_groups(tiny)


def checked(path, *flags):
    config = load(path, flags)
    return check_split(config, Competition(config.competition))


CAN_BE_FILLED = [
    ["--folds.k", "5"],
    ["--folds.scheme", "column"],
    ["--folds.scheme", "holdout", "--train.folds", "0"],
    ["--folds.k", "5", "--train.folds", "4", "all"],
    ["--folds.group_column", "", "--folds.k", "6", "--folds.stratify_column", "place"],
]


@pytest.mark.parametrize("flags", CAN_BE_FILLED)
def test_what_the_real_tables_can_fill_passes(five_groups, flags):
    checked(five_groups, *flags)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--folds.k", "8"], "5 groups cannot fill 8 folds; set folds.k to a number from 2 to 5"),
        (["--folds.k", "7", "--folds.group_column", ""], "6 groups cannot fill 7 folds"),
        (["--folds.group_column", "patient"], "folds.group_column: the metadata have no column 'patient'"),
        (["--folds.stratify_column", "stain"], "folds.stratify_column: the metadata have no column 'stain'"),
        (["--folds.scheme", "column", "--folds.column", "place"], "folds.column place: image 'im0' has 'a'"),
        (["--folds.group_column", "", "--folds.group_regex", "im([0-3])"], "does not match the id 'im4'"),
        (["--train.folds", "2"], r"train.folds names fold 2, but there are \[0, 1\]"),
        (["--folds.scheme", "holdout", "--train.folds", "1"], r"train.folds names fold 1, but there are \[0\]"),
        (["--folds.group_column", "", "--folds.group_regex", "i"], "one image or one group cannot be validated"),
    ],
)
def test_what_they_cannot_fill_is_refused(five_groups, flags, sentence):
    with pytest.raises(UserError, match=sentence):
        checked(five_groups, *flags)


def test_an_organisers_group_in_two_folds_is_refused(five_groups):
    path = five_groups.parent / "raw/metadata.csv"
    path.write_text(re.sub("im5,a,1.0", "im5,a,0.0", path.read_text()))
    with pytest.raises(UserError, match="group 'a' is in more than one fold"):
        checked(five_groups, "--folds.scheme", "column")


def test_one_group_passes_where_nothing_is_validated(five_groups):
    checked(five_groups, "--folds.group_column", "", "--folds.group_regex", "i", "--train.folds", "all",
            "--infer.folds", "all")  # fmt: skip


def test_a_class_that_one_group_alone_holds_is_said(five_groups, capsys):
    config = load(five_groups)
    row = {name: "" if kind == "str" else 0 for name, (kind, _) in tables.IMAGES.items()}
    rows = [row | {"image_id": f"im{i}", "px_disc": 9 * (i in (0, 5))} for i in range(6)]
    write_table(Workspace(config.workspace).images, pd.DataFrame(rows))
    checked(five_groups)
    assert "only one group holds class 'disc' (2 images, the first is 'im0')" in capsys.readouterr().out
    rows[1]["px_disc"] = 1
    write_table(Workspace(config.workspace).images, pd.DataFrame(rows))
    checked(five_groups)
    assert capsys.readouterr().out == ""
