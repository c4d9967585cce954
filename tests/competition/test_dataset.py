import cv2
import numpy as np
import pandas as pd
import pytest

from lib.competition.dataset import Competition, check_class_pixels
from lib.config.competition import CompetitionSettings
from lib.errors import UserError

LABELS = {"class_column": "class"}
SUBMISSION = {"class_column": "class", "empty": "-1"}
ROWS = [("a", "road", "1 3"), ("a", "tree", "7 2"), ("a", "road", "5 1"), ("b", "road", ""), ("b", "tree", "-1")]


@pytest.fixture
def folder(tmp_path):
    """Two training images of 4 x 6 and 5 x 3, one test image with an upper-case suffix."""
    for name, shape in (("train/a.png", (4, 6)), ("train/b.png", (5, 3)), ("test/c.PNG", (4, 4))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(cv2.imencode(".png", np.full((*shape, 3), 9, np.uint8))[1].tobytes())
    pd.DataFrame(ROWS, columns=["id", "class", "encoding"]).to_csv(tmp_path / "train.csv", index=False)
    write_sample(tmp_path, [("c", "road"), ("c", "tree")])
    return tmp_path


def write_sample(folder, rows):
    table = pd.DataFrame(rows, columns=["id", "class"]).assign(predicted="")
    table.to_csv(folder / "sample_submission.csv", index=False)


def competition(folder, only_test=False, **changes):
    options = {"root": str(folder), "classes": ["road", "tree"], "labels": LABELS, "submission": SUBMISSION}
    return Competition(CompetitionSettings(**options | changes), only_test)


def test_images_names_channels_and_labels(folder):
    here = competition(folder)
    here.check()
    assert [(i.image_id, i.split) for i in here.images] == [("a", "train"), ("b", "train"), ("c", "test")]
    assert here.label_names == ["background", "road", "tree"] and here.channels == 3
    # Columns of 4 pixels: road 1-3 and 5, tree 7-8; rows of one class add up; both words for empty.
    expected = np.zeros((4, 6), np.uint8)
    expected[:3, 0] = expected[0, 1] = 1
    expected[2:, 1] = 2
    assert (here.labels.open("a", 4, 6).read(0, 0, 4, 6) == expected).all()
    assert not here.labels.open("b", 5, 3).read(0, 0, 5, 3).any()


def test_without_background_a_pixel_without_run_is_not_scored(folder):
    label = competition(folder, background=False).labels.open("a", 4, 6).read(0, 0, 4, 3)
    assert label.T.tolist() == [[0, 0, 0, 255], [0, 255, 1, 1], [255] * 4]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([("c", "road"), ("c", "river")], "asks for the class 'river'; competition.classes has road, tree"),
        ([("c", "road"), ("c", "road")], "two rows for c, road"),
        ([("c", "road"), ("z", "road")], "asks for 'z', but there is no such test image"),
    ],
)
def test_a_sample_that_does_not_fit_is_named(folder, rows, what):
    write_sample(folder, rows)
    with pytest.raises(UserError, match=what):
        competition(folder).check()


def test_two_rows_an_image_hint_at_the_class_column_unless_a_plugin_reads_them(folder):
    with pytest.raises(UserError, match=r"two rows for c; check competition.submission.class_column"):
        competition(folder, submission={}).check()
    competition(folder, submission={"codec": "mine"}).check()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"root": "/no/such"}, "there is no folder"),
        ({"test_images": "nothing/*"}, "matches no image"),
        ({"test_images": "/data/test/*"}, "competition.test_images: '/data/test/.*' is not a pattern"),
        ({"train_images": ""}, "competition.train_images: '' is not a pattern"),
        ({"unlabeled_images": "test/*"}, "two images with the id 'c'"),
        ({"metadata": "train.csv"}, "two rows for 'a'"),
        ({"metadata": "no.csv"}, "there is no file"),
        ({"labels": {"class_column": "kind"}}, "has no column 'kind'; it has id, class, encoding"),
        ({"classes": ["road"]}, "unknown class 'tree'"),
    ],
)
def test_a_mistake_is_one_sentence(folder, changes, what):
    with pytest.raises(UserError, match=what):
        competition(folder, **changes).check()


def test_label_without_image_and_image_without_label_are_named(folder):
    (folder / "train/b.png").rename(folder / "train/d.png")
    with pytest.raises(UserError, match="has a label for 'b'"):
        competition(folder).check()
    pd.DataFrame(ROWS[:3], columns=["id", "class", "encoding"]).to_csv(folder / "train.csv", index=False)
    with pytest.raises(UserError, match="'d' has no label"):
        competition(folder).check()


def test_a_run_past_the_image_names_file_and_image(folder):
    with pytest.raises(UserError, match=r"train.csv, a: the run 7 2 lies outside the image of 6 pixels"):
        competition(folder).labels.open("a", 2, 3)


def test_an_empty_class_is_named_but_an_empty_background_is_not():
    check_class_pixels(["background", "road"], {"background": 0, "road": 1})
    with pytest.raises(UserError, match="class 'tree' has not a single"):
        check_class_pixels(["background", "road", "tree"], {"background": 5, "road": 1})


def test_what_both_patterns_match_is_parted_by_the_sample(folder):
    (folder / "test/c.PNG").rename(folder / "train/c.PNG")
    here = competition(folder, test_images="train/*")
    here.check()
    assert here.ids("train") == ["a", "b"] and here.ids("test") == ["c"]
    write_sample(folder, [("b", "road"), ("b", "tree")])
    assert competition(folder, test_images="train/*").ids("train") == ["a", "c"]
    (folder / "train.csv").unlink()
    assert competition(folder, only_test=True, test_images="train/*").ids("test") == ["b"]
    (folder / "list.txt").write_text("elsewhere/train/a.png\nc\n")
    listed = {"test_images": "train/*", "test_list": "list.txt", "submission": {"sample": ""}}
    assert competition(folder, only_test=True, **listed).ids("test") == ["c"]
    (folder / "list.txt").write_text("train/a.png\n")
    assert competition(folder, only_test=True, **listed).ids("test") == ["a"]
    (folder / "list.csv").write_text("b\nc\n")  # no header
    assert competition(folder, only_test=True, **listed | {"test_list": "list.csv"}).ids("test") == ["b", "c"]


def test_images_that_labels_do_not_name_may_be_empty(folder):
    pd.DataFrame(ROWS[:3], columns=["id", "class", "encoding"]).to_csv(folder / "train.csv", index=False)
    with pytest.raises(UserError, match="'b' has no label.*set competition.labels.missing to empty"):
        competition(folder).check()
    here = competition(folder, labels=LABELS | {"missing": "empty"})
    here.check()
    assert not here.labels.open("b", 5, 3).read(0, 0, 5, 3).any() and here.labels.open("a", 4, 6).read(0, 0, 4, 6).any()


def test_rows_are_named_by_the_template(folder):
    def check(template, names, codec="rle"):
        pd.DataFrame({"id": names, "predicted": ""}).to_csv(folder / "sample_submission.csv", index=False)
        competition(folder, submission={"id_template": template, "codec": codec}).check()

    check("{id}.PNG_{class}", ["c.PNG_road", "c.PNG_tree"])
    with pytest.raises(UserError, match="asks for 'c.PNG_sea', but .*id_template, {id}.PNG_{class}"):
        check("{id}.PNG_{class}", ["c.PNG_road", "c.PNG_sea"])
    with pytest.raises(UserError, match="asks for 'c.PNG_road'"):
        check("{id}", ["c.PNG_road", "c.PNG_tree"])
    with pytest.raises(UserError, match="no number in 'c'"):
        check("{number}", ["1"])
    check("{id}_{x}_{y}", ["c_0_0", "c_16_0"], codec="patches")
    with pytest.raises(UserError, match="test image 'c' does not occur"):
        check("{id}_{x}_{y}", ["d_0_0", "d_16_0"], codec="patches")
    (folder / "test/c1.png").write_bytes((folder / "test/c.PNG").read_bytes())
    (folder / "test/d1.png").write_bytes((folder / "test/c.PNG").read_bytes())
    (folder / "test/c.PNG").unlink()
    with pytest.raises(UserError, match="makes '1' of two images, 'c1' and 'd1'"):
        check("{number}", ["1"])


def test_an_answer_without_rows_needs_no_sample(folder):
    (folder / "sample_submission.csv").unlink()
    competition(folder, submission={"preset": "drivendata"}).check()
    with pytest.raises(UserError, match="there is no file .*sample_submission.csv"):
        competition(folder).check()


def test_hidden_test_images_are_no_mistake_where_the_sample_is_a_head_alone(folder):
    (folder / "test/c.PNG").unlink()
    with pytest.raises(UserError, match=r"test/\* matches no image .* sample submission has no row, or .* is empty"):
        competition(folder)
    write_sample(folder, [])
    here = competition(folder)
    here.check()
    assert here.ids("train") == ["a", "b"] and not here.ids("test")
    write_sample(folder, [("z", "road")])  # a placeholder
    here = competition(folder, test_images="")
    here.check()
    assert not here.ids("test")
    with pytest.raises(UserError, match="competition.train_images: '' is not a pattern"):
        competition(folder, test_images="", train_images="")


@pytest.mark.parametrize("name", ["background", "Background", "_background_", "__ignore__", "ignore"])
def test_words_for_no_class_are_no_classes(name):
    with pytest.raises(ValueError, match=f"competition.classes names '{name}', but"):
        CompetitionSettings(classes=["cell", name])
    if "ack" in name:
        assert CompetitionSettings(classes=["cell", name], background=False).classes == ["cell", name]


def test_rows_of_background_and_of_ignored_pixels(folder):
    rows = [("a", "_background_", "1 24"), ("a", "road", "1 3"), ("a", "__ignore__", "3 2"), ("b", "ignore", "1 15")]
    pd.DataFrame(rows, columns=["id", "class", "encoding"]).to_csv(folder / "train.csv", index=False)
    labels = competition(folder).labels
    assert labels.open("a", 4, 6).read(0, 0, 4, 2).T.tolist() == [[1, 1, 255, 255], [0, 0, 0, 0]]
    assert (labels.open("b", 5, 3).read(0, 0, 5, 3) == 255).all()
    joined = [(f"{name}.jpg_{kind}", runs) for name, kind, runs in rows]
    pd.DataFrame(joined, columns=["id", "encoding"]).to_csv(folder / "train.csv", index=False)
    labels = competition(folder, labels={"id_template": "{id}.jpg_{class}"}).labels
    assert labels.open("a", 4, 6).read(0, 0, 4, 2).T.tolist() == [[1, 1, 255, 255], [0, 0, 0, 0]]
