"""Groups that `init` finds: folders of persons, and folders that are no groups."""

import pytest
from layouts import save, scene, table

from lib.competition import rle
from lib.competition.dataset import Competition
from lib.config import load
from lib.data.folds import name_groups
from lib.errors import UserError
from lib.propose.found import Notes
from lib.propose.groups import _of_folders
from lib.propose.propose import propose


def hands(root, below=""):
    """Two hands of each person, whose names tell nothing; persons' folders, perhaps with one more folder `below`."""
    rows, sample, persons = [], [], {}
    for i in range(16):
        person, split = f"ID{i // 2:03}", "train" if i < 12 else "test"
        picture, label = scene(i, 90, 120)
        name = f"image{1661319000000 + 7777 * i}_{'RL'[i % 2]}"
        save(root / split / "DCM" / person / below / f"{name}.png", picture)
        if split == "train":
            rows.append((name, rle.encode(label)))
            persons[name] = person
        else:
            sample.append((f"{name}.png", ""))
    table(root / "train.csv", ["id", "rle"], rows)
    table(root / "sample_submission.csv", ["image_name", "rle"], sample)
    return persons


@pytest.mark.parametrize("below", ["", "png"])
def test_images_in_the_folder_of_one_person_stay_together(tmp_path, capsys, below):
    persons = hands(tmp_path / "raw", below)
    propose(tmp_path / "raw", "mine", tmp_path / "mine.yaml")
    assert "groups: 6 folders, such as ID000; none of them holds a test image" in capsys.readouterr().out
    config = load(tmp_path / "mine.yaml")
    competition = Competition(config.competition)
    ids = competition.ids("train")
    groups = name_groups(ids, competition.metadata, config.folds, competition.files)
    assert dict(zip(ids, groups, strict=True)) == persons


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ([f"part_{i % 3}/{i}" for i in range(12)], ["part_9/a"]),  # a few parts of the data set
        ([f"part_{i % 5}/{i}" for i in range(15)], ["part_2/a"]),  # test images lie there, too
        ([f"id{i}/{i}" for i in range(12)], ["id99/a"]),  # a folder for each image
        ([f"{i}" for i in range(12)], ["a"]),  # no folder at all
    ],
)
def test_other_folders_are_no_groups(train, test):
    files = {name.split("/")[-1]: f"{name}.png" for name in (*train, *test)}
    assert _of_folders(files, {name.split("/")[-1] for name in train}, {"a"}, Notes()) is None


def test_a_pattern_with_a_slash_reads_paths():
    files = {"a": "train/p1/left/a.png", "b": "train/p1/right/b.png", "c": "train/p2/left/c.png"}
    expected = {r"([^/]+)/[^/]+/[^/]+$": ["p1", "p1", "p2"], r"([^/]+)/[^/]+$": ["left", "right", "left"]}
    for regex, groups in expected.items():
        config = load(None, ["--folds.group_regex", regex]).folds
        assert name_groups(list("abc"), None, config, files) == groups
    with pytest.raises(UserError, match="does not match the path 'top.png', or names no group for it"):
        name_groups(["d"], None, config, {"d": "top.png"})
