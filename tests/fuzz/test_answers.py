"""Run-lengths and every codec of answers on odd texts and damaged files; grids of windows."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fuzzing import bounded_memory, broken, fuzzed, only_sentences  # noqa: F401 (a fixture)
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.competition import coco_rle, rle
from lib.competition.integer_text import LETTERS, numbers_of_text
from lib.competition.scoring import open_codec
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.imaging.grid import grid

SIZE = (6, 8)
NUMBER = st.integers(-2, 60) | st.sampled_from([-(2**63), 2**31, 2**62, 2**63 - 1, 2**63, 10**30])
WORD = NUMBER.map(str) | st.sampled_from(["1_0", "+1", "1.0", "５", "٣", "", "x", "-", "1-2", "\u3000", "0x1", "1e3"])
TEXT = st.lists(WORD, max_size=12).map(" ".join) | st.text(max_size=30)


@fuzzed(TEXT, st.sampled_from([0, 1]), st.booleans(), st.booleans())
def test_texts_are_runs_inside_the_image_or_refused(text, base, relative, as_bytes):
    given = text.encode(errors="replace") if as_bytes else text
    with only_sentences():
        starts, lengths = rle.parse(given, 48, "a.csv, image a", base, relative)
        assert not given.strip() or set(given if as_bytes else given.encode()) <= set(LETTERS)
        ends = starts + lengths
        assert (lengths > 0).all() and (starts >= 0).all() and (ends <= 48).all() and (starts[1:] >= ends[:-1]).all()
        for order in ("row", "column"):
            mask = rle.window_of_runs(starts, lengths, SIZE, order, (0, 0, *SIZE))
            assert mask.sum() == lengths.sum() == rle.pixels_in_window(starts, lengths, SIZE, order, (0, 0, *SIZE))


@fuzzed(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.sampled_from(["row", "column"]))
def test_what_is_encoded_is_decoded(mask, order):
    assert (rle.decode(rle.encode(mask, order), *mask.shape, order) == mask).all()


@fuzzed(st.text(max_size=20) | st.text(alphabet=[chr(i) for i in range(48, 112)], max_size=20))
def test_compressed_texts_of_coco_are_numbers_or_refused(text):
    try:
        assert coco_rle.counts_of_text(text).dtype == np.int64
    except ValueError as error:
        assert str(error)


@fuzzed(st.binary(max_size=30) | TEXT)
def test_texts_are_numbers_or_refused(text):
    try:
        numbers = numbers_of_text(text)
    except (ValueError, OverflowError):
        return
    assert numbers.tolist() == [int(word) for word in text.split()]


CODECS = {
    "rle": {},
    "objects": {"instances": True},
    "word": {"empty": "-1", "relative": True, "base": 0, "order": "row"},
    "pixels": {"codec": "pixels", "size": SIZE},
    "patches": {"codec": "patches", "patch": 4, "id_template": "{id}_{y}_{x}"},
    "tif": {"codec": "tif", "sample": "", "id_template": "{id}.tif"},
    "png": {"codec": "png", "sample": "", "id_template": "{id}.png"},
    "colours": {
        "codec": "files",
        "sample": "",
        "id_template": "{id}.png",
        "palette": {"background": [9, 0, 0], "road": [0, 0, 255]},
    },
    "h5": {"codec": "files", "sample": "", "id_template": "{id}.h5"},
    "npy": {"codec": "files", "sample": "", "id_template": "{id}.npy"},
    "geojson": {"codec": "files", "sample": "", "id_template": "{id}.geojson"},
}
LABELS = np.zeros(SIZE, np.uint8)
LABELS[1:3, 1:6] = LABELS[4, 0] = 1


class Folder:
    """What `open_codec` asks a competition for."""

    def __init__(self, name):
        self.settings = CompetitionSettings(classes=["road"], submission=CODECS[name])
        self.label_names = ["background", "road"]
        ids = [f"{i}_{y}_{x}" for i in "ab" for y in (0, 4) for x in (0, 4)] if name == "patches" else ["a", "b"]
        self.sample = pd.DataFrame({"id": ids, "predicted": ""})


@functools.cache
def answer(name):
    """The bytes of a right answer."""
    codec = open_codec(Folder(name))
    for image_id in "ab":
        codec.add(image_id, *SIZE, [(0, LABELS)])
    with tempfile.TemporaryDirectory() as folder:
        codec.write(Path(folder, "answer"))
        return Path(folder, "answer").read_bytes()


@pytest.mark.parametrize("name", CODECS)
@fuzzed(st.data())
def test_damaged_answers_are_checked_and_read_or_refused(tmp_path, name, data):
    path, sizes = tmp_path / "answer", dict.fromkeys("ab", SIZE)
    path.write_bytes(data.draw(broken(answer(name))))
    codec = open_codec(Folder(name))
    with only_sentences():
        assert set(codec.check(path, sizes)) <= {"a", "b"}
    with only_sentences():
        for label in codec.read(path, sizes).values():
            assert label.read(0, 0, *codec.answer_size(*SIZE)).max() <= 1


@pytest.mark.parametrize("name", CODECS)
def test_the_answers_that_are_damaged_are_right(tmp_path, name):
    (tmp_path / "answer").write_bytes(answer(name))
    assert all(open_codec(Folder(name)).check(tmp_path / "answer", dict.fromkeys("ab", SIZE)).values())


@fuzzed(st.integers(1, 300), st.integers(1, 300), st.integers(1, 80), st.integers(-1, 90))
def test_windows_cover_an_image_and_stay_inside(height, width, window, stride):
    if not 0 < stride <= window:
        with pytest.raises(ValueError, match="must be in 1"):
            grid(height, width, window, stride)
        return
    covered, places = np.zeros((height, width), bool), grid(height, width, window, stride)
    for y, x in places:
        assert 0 <= y <= max(0, height - window) and 0 <= x <= max(0, width - window)
        covered[y : y + window, x : x + window] = True
    assert covered.all() and len(set(places)) == len(places)


def test_a_refused_run_is_a_sentence():
    with pytest.raises(UserError, match="a.csv, image a: the run-length holds something that is not an integer"):
        rle.parse("1_0 5", 48, "a.csv, image a")
