"""The options of a package, and where it finds a competition below a notebook's input folder."""

import pytest

from lib.competition.dataset import Competition
from lib.competition.metadata import zoom_of
from lib.config import load
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.package.build import _portable
from lib.package.infer import parsed, placed
from lib.package.layout import check_package, found_in


def competition(images, sample="sample_submission.csv", listed=""):
    return CompetitionSettings(test_images=images, submission={"sample": sample}, test_list=listed)


def lay(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize("depth", ["", "discs", "competitions/discs", "datasets/someone/discs"])
@pytest.mark.parametrize("images, names, inside", [
    ("test/*", ["test/a.png"], "test"), ("*", ["a.png"], "."), ("*.tif", ["a.tif"], "."),
    ("*_rgb.png", ["a_rgb.png"], "."), ("test/*/images/*.png", ["test/a/images/a.png"], "test"),
    ("*/a.png", ["x/a.png"], "."),
])  # fmt: skip
@pytest.mark.parametrize("sample, listed", [("sample_submission.csv", ""), ("", ""), ("", "test.txt")])
def test_images_are_found_beside_their_sample_or_list_or_alone(tmp_path, depth, images, names, inside, sample, listed):
    package = lay(tmp_path / "datasets/me/package", "infer.py", "lib/a.py", "pictures/a.png", "a.png", "test/a.png")
    home = lay(tmp_path / depth, *names, *(name for name in (sample, listed) if name))
    found = found_in(tmp_path, package, competition(images, sample, listed))
    assert found == (home / inside, home / sample if sample else None, home / listed if listed else None)


def test_a_folder_with_images_goes_before_one_without_and_nothing_is_said(tmp_path):
    lay(tmp_path / "a", "sample_submission.csv", "test/readme.txt")
    home = lay(tmp_path / "b", "sample_submission.csv", "test/x.png")
    package = tmp_path / "package"
    assert found_in(tmp_path, package, competition("test/*"))[0] == home / "test"
    (home / "test/x.png").unlink()
    assert found_in(tmp_path, package, competition("test/*"))[0] == tmp_path / "a/test", "hidden images come later"
    with pytest.raises(UserError, match=r"--input: no folder in .* holds other.csv, test/\*; add the"):
        found_in(tmp_path, package, competition("test/*", "other.csv"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out"], "--out: expected one argument; python infer.py --help shows the options"),
        (["--began", "soon"], "--began: invalid float value: 'soon'; python"),
        (["--share", "1"], "--share: expected 2 arguments; python"),
        (["--devices"], "--devices: expected at least one argument; python"),
        (["--out", "."], r"--out: \. is a folder; give the name of a file"),
    ],
)  # fmt: skip
def test_a_wrong_option_of_a_package_is_one_sentence(words, says):
    with pytest.raises(UserError, match=says):
        parsed(words)


def test_a_folder_that_lacks_a_part_of_a_package_is_none(tmp_path):
    lay(tmp_path, "config.yaml", "decision.json")
    with pytest.raises(UserError, match="is not a package, because it has no members.json"):
        check_package(tmp_path)


def test_images_of_which_the_sample_names_none_are_the_wrong_folder(tmp_path):
    lay(tmp_path, "im0.png", "im1.png")
    (tmp_path / "sample.csv").write_text("id,predicted\nim6,\n")
    settings = CompetitionSettings(root=str(tmp_path), test_images="*", submission={"sample": "sample.csv"})
    with pytest.raises(UserError, match="holds 2 images, im0.png for one, and sample.csv names none of them"):
        Competition(settings, only_test=True)


def test_pixel_sizes_are_found_beside_the_images_or_named(tmp_path):
    measured = ["--preprocess.pixel_size_column", "um", "--preprocess.target_pixel_size", "0.5"]
    metadata = ["--competition.metadata", "{train,test}.csv", "--competition.test_images", "test/*"]
    config = _portable(load(None, [*measured, *metadata, "--competition.submission.sample", ""]), tmp_path)
    assert _portable(load(None, metadata), tmp_path).competition.metadata == "", "nothing else needs it"
    data = lay(tmp_path / "data", "test/a.png", "test/b.png")
    images = ["--images", str(data / "test")]
    with pytest.raises(UserError, match=r"--metadata: beside the images there is no {train,test}.csv; .*column um"):
        placed(config, parsed(images)[0], tmp_path)
    for name, row in (("train", "t,1"), ("test", "a,1.5"), ("other", "a,2")):
        (data / f"{name}.csv").write_text(f"id,um\n{row}\n")
    assert zoom_of(placed(config, parsed(images)[0], tmp_path), "a") == 3
    named = parsed([*images, "--metadata", str(data / "other.csv")])[0]
    assert zoom_of(placed(config, named, tmp_path), "a") == 4
    with pytest.raises(UserError, match="pixel_size_column: .*pixel_sizes.csv has no row for image 'b'"):
        zoom_of(placed(config, named, tmp_path), "b")
    with pytest.raises(UserError, match="there is no file .*none.csv"):
        placed(config, parsed([*images, "--metadata", str(data / "none.csv")])[0], tmp_path)
