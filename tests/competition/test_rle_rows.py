import csv
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.competition.codecs import rle_rows
from lib.competition.codecs.rle_rows import RleRows
from lib.config.competition import CompetitionSettings
from lib.errors import UserError

CLASSES = ["road", "tree"]
SIZES = {"b": (4, 6), "c": (5, 3)}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    order=st.sampled_from(["row", "column"]),
    base=st.integers(0, 1),
    empty=st.sampled_from(["", "-1", "1 0", "-"]),
    background=st.booleans(),
    by_class=st.booleans(),
    data=st.data(),
)
def test_what_is_written_is_read_with_every_knob(tmp_path, shape, order, base, empty, background, by_class, data):
    classes = CLASSES if by_class else ["road"]
    background = background or not by_class
    seed, cut = data.draw(st.integers(0, 99)), data.draw(st.integers(1, shape[0]))
    labels = np.random.default_rng(seed).integers(0, len(classes) + background, shape).astype(np.uint8)
    rows = [(i, name) for i in "ba" for name in classes]  # the organiser's order, not ours
    sample = pd.DataFrame(rows, columns=["id", "kind"]).assign(mask="")[["id", *(["kind"] * by_class), "mask"]]
    submission = {"class_column": "kind" * by_class, "rle_column": "mask", "order": order, "base": base, "empty": empty}
    codec = RleRows(CompetitionSettings(classes=classes, background=background, submission=submission), sample, [])
    codec.add("a", *shape, [(y, labels[y:end]) for y, end in ((0, cut), (cut, shape[0])) if y < end])
    codec.write(tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == list(sample.columns) and list(table["id"]) == list(sample["id"])
    assert (table["mask"][: len(classes)] == empty).all(), "an image that was never added"
    found = codec.read(tmp_path / "out.csv", {"a": shape, "b": (3, 2)})
    assert (found["a"].read(0, 0, *shape) == labels).all()
    assert (found["b"].read(0, 0, 3, 2) == (0 if background else 255)).all()


ODD = st.text(st.sampled_from("ab,\"\n\r;\t' é\ufeff#"), min_size=1, max_size=6).filter(lambda s: s.strip() == s)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(ODD, min_size=2, max_size=4, unique=True), separator=st.sampled_from(",;\t|"), column=ODD)
def test_ids_may_hold_what_csv_uses(tmp_path, ids, separator, column):
    labels = np.eye(4, 6, dtype=np.uint8)
    sample = pd.DataFrame({"id": ids, "mask": "", f"{column}.": "x"})
    sample.attrs["separator"] = separator
    codec = RleRows(CompetitionSettings(submission={"rle_column": "mask"}), sample, [])
    codec.add(ids[1], 4, 6, [(0, labels)])
    codec.write(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:  # another reader
        head, *lines = csv.reader(file, delimiter=separator)
    assert head == ["id", "mask", f"{column}."] and [line[0] for line in lines] == ids
    assert codec.check(tmp_path / "out.csv", dict.fromkeys(ids, (4, 6))) == {one: 4 * (one == ids[1]) for one in ids}


def test_a_quote_that_is_not_closed_is_one_sentence(tmp_path):
    (tmp_path / "out.csv").write_text('id,class,predicted\nb,"road,\nb,tree,\n')
    codec = RleRows(CompetitionSettings(classes=CLASSES, submission={"class_column": "class"}), rows(*[""] * 4), [])
    with pytest.raises(UserError, match="out.csv is not a readable CSV: a row has 2 fields, the header 3"):
        codec.check(tmp_path / "out.csv", SIZES)


def rows(*texts):
    return pd.DataFrame({"id": [*"bbcc"], "class": CLASSES * 2, "predicted": texts})


def check(folder, table, sizes=SIZES):
    table.to_csv(folder / "out.csv", index=False)
    codec = RleRows(CompetitionSettings(classes=CLASSES, submission={"class_column": "class"}), rows(*[""] * 4), [])
    codec.check(folder / "out.csv", sizes)
    return dict(codec.runs(folder / "out.csv", sizes))


def test_a_sound_submission_passes(tmp_path):
    found = check(tmp_path, rows("1 3 7 2", "4 3", "", "15 1"))
    assert [(i, s.tolist(), n.tolist()) for i, s, n in found["b"]] == [(1, [0, 6], [3, 2]), (2, [3], [3])]


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        (["1 3", "3 2", "", ""], "out.csv: in b the class tree overlaps road at pixel 3"),
        (["9 2", "1 9", "", ""], "in b the class road overlaps tree at pixel 9"),
        (["24 1", "", "", "15 2"], "out.csv, c tree: the run 15 2 lies outside the image of 15 pixels"),
        (["1 2 3", "", "", ""], "b road: the run-length has 3 numbers"),
    ],
)
def test_bad_runs_are_named(tmp_path, texts, what):
    with pytest.raises(UserError, match=what):
        check(tmp_path, rows(*texts))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: t.iloc[[1, 0, 2, 3]], "row 2 is b tree, expected b road"),
        (lambda t: t.iloc[:3], "has 3 rows, the sample submission 4"),
        (lambda t: pd.concat([t, t.iloc[-1:]]), "has 5 rows, the sample submission 4"),
        (lambda t: t.assign(id=["b", "b", "c", "d"]), "row 5 is d tree, expected c tree"),
        (lambda t: t[["id", "predicted", "class"]], "columns id, predicted, class; expected id, class, predicted"),
        (lambda t: t.drop(columns="class"), "no column 'class'"),
    ],
)
def test_rows_and_columns_are_the_samples(tmp_path, change, what):
    with pytest.raises(UserError, match=what):
        check(tmp_path, change(rows(*[""] * 4)))


def test_ids_with_commas_and_columns_behind_the_run_lengths(tmp_path):
    sample = pd.DataFrame({"id": ['a, "b"', "c"], "predicted": "", "note": ["x,y", ""]})
    codec = RleRows(CompetitionSettings(classes=["road"]), sample, [])
    codec.add('a, "b"', 2, 2, [(0, np.array([[0, 1], [1, 1]], np.uint8))])
    codec.write(tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False).to_numpy().tolist() == [
        ['a, "b"', "2 3", "x,y"],
        ["c", "", ""],
    ]
    labels = codec.read(tmp_path / "out.csv", {'a, "b"': (2, 2), "c": (1, 1)})
    assert labels['a, "b"'].read(0, 0, 2, 2).tolist() == [[0, 1], [1, 1]]
    codec.add("c", 1, 1, [(0, np.ones((1, 1), np.uint8))])
    codec.write(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().endswith("c,1 1,\n")
    (tmp_path / "out.csv").write_text("id,predicted,note\nc\n")
    with pytest.raises(UserError, match="a row has 1 fields, the header 3"):
        codec.check(tmp_path / "out.csv", {})


def test_a_file_that_is_no_csv_is_named(tmp_path):
    codec = RleRows(CompetitionSettings(classes=["road"]), pd.DataFrame({"id": ["é"], "predicted": ""}), [])
    with pytest.raises(UserError, match=r"there is no file .*out.csv"):
        codec.check(tmp_path / "out.csv", {})
    for text in ("id,predicted\né,\n", "é,predicted\né,\n"):
        (tmp_path / "out.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(UserError, match="out.csv is not a CSV in UTF-8"):
            codec.check(tmp_path / "out.csv", {})
    for text in (b"id,predicted\r\xc3\xa9,\r", b'id,predicted\n\xc3\xa9,"1"\r2\n'):
        (tmp_path / "out.csv").write_bytes(text)
        with pytest.raises(UserError, match="out.csv is not a readable CSV: a carriage return alone ends no line"):
            codec.check(tmp_path / "out.csv", {})


@pytest.mark.parametrize("together", [1, 2, 3])
def test_overlaps_are_found_across_pieces(tmp_path, monkeypatch, together):
    monkeypatch.setattr(rle_rows, "RUNS_AT_ONCE", together)
    check(tmp_path, rows("1 1 3 1 5 1 7 4 20 2", "2 1 4 1 11 9", "", ""))
    with pytest.raises(UserError, match="in b the class road overlaps tree at pixel 20"):
        check(tmp_path, rows("1 1 3 1 5 1 7 4 20 2", "2 1 4 1 11 10", "", ""))


def test_a_speckled_mask_costs_little_more_than_its_numbers(tmp_path):
    side = 4000
    speckles = (np.random.default_rng(0).random((side, side)) > 0.5).astype(np.uint8)
    sample = pd.DataFrame({"id": ["a"], "predicted": ""})
    codec = RleRows(CompetitionSettings(classes=["road"]), sample, [])
    tracemalloc.start()
    codec.add("a", side, side, ((y, speckles[y : y + 500]) for y in range(0, side, 500)))
    codec.write(tmp_path / "out.csv")
    codec.check(tmp_path / "out.csv", {"a": (side, side)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out.csv").stat().st_size > 40e6
    assert peak < 300e6  # 64 MB of numbers and 41 MB of text, a few times


def test_memory_of_a_check_is_the_texts_not_the_masks(tmp_path):
    side = 20_000  # 400 MB a label map
    half = side * side // 2
    tracemalloc.start()
    check(tmp_path, rows(f"1 {half}", f"{half + 1} 5", "", ""), {"b": (side, side), "c": (side, side)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6
