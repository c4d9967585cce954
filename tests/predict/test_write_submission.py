"""What 05 does with an answer that is not what the sample submission asks for."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.competition.codecs.common import Codec
from lib.competition.scoring import open_codec
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.predict.write_submission import check_answers

SIZE = (6, 8)
ROWS = {
    "rle": ({}, ["a", "b"], "c"),
    "rle by class": ({"class_column": "class"}, ["a", "b"], "c"),
    "rle by object": ({"instances": True}, ["a", "b"], "c"),
    "pixels": ({"codec": "pixels", "size": [2, 3]}, ["a", "b"], "c"),
    "patches": ({"codec": "patches", "id_template": "{id}_{x}_{y}"}, ["a_0_0", "b_0_0"], "b_16_0"),
}


def written(tmp_path, options, rows, answered="ab"):
    settings = CompetitionSettings(submission=options)
    sample = pd.DataFrame({"id": rows, "class": "object", "predicted": ""})
    sample = sample if settings.submission.class_column else sample.drop(columns="class")
    competition = SimpleNamespace(
        settings=settings, sample=sample, label_names=["background", "object"], ids=lambda _: ["a", "b"]
    )
    codec = open_codec(competition)
    for image_id in answered:
        codec.add(image_id, *SIZE, [(0, np.full(SIZE, image_id == "a", np.uint8))])
    codec.write(tmp_path / "out.csv")
    return competition, codec


@pytest.mark.parametrize("kind", ROWS)
def test_every_row_of_the_sample_has_an_answer_of_a_test_image(tmp_path, kind):
    options, rows, stranger = ROWS[kind]
    sizes = dict.fromkeys("ab", SIZE)
    competition, codec = written(tmp_path, options, rows)
    check_answers(tmp_path / "out.csv", codec, sizes, competition)
    competition, codec = written(tmp_path, options, [*rows, stranger])
    with pytest.raises(UserError, match=rf"asks for '{stranger}.*' \(1 such rows\), which no test image answers"):
        check_answers(tmp_path / "out.csv", codec, sizes, competition)


def test_a_sliver_answers_a_part(tmp_path):
    competition, codec = written(tmp_path, {}, ["a", "b"], answered="a")
    check_answers(tmp_path / "out.csv", codec, {"a": SIZE}, competition)


def test_hidden_test_images_leave_rows_blank(tmp_path):
    competition, codec = written(tmp_path, {}, ["a", "b"], answered="")
    competition.ids = lambda _: []
    check_answers(tmp_path / "out.csv", codec, {}, competition)


def test_files_of_a_table_that_lists_them(tmp_path):
    options = {"codec": "tif", "id_template": "{id}.tif"}
    competition, codec = written(tmp_path, options, ["a.tif", "b.tif"])
    codec.write(tmp_path / "out.zip")
    check_answers(tmp_path / "out.zip", codec, dict.fromkeys("ab", SIZE), competition)
    competition, codec = written(tmp_path, options, ["a.tif", "b.tif", "c.tif"])
    codec.write(tmp_path / "out.zip")
    with pytest.raises(UserError, match="asks for 'c.tif'"):
        check_answers(tmp_path / "out.zip", codec, dict.fromkeys("ab", SIZE), competition)


def test_a_codec_of_a_plugin_need_not_know():
    assert Codec(CompetitionSettings(), pd.DataFrame(), []).unanswered() == []
