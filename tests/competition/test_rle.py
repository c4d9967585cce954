import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.competition import integer_text as digits
from lib.competition import rle
from lib.errors import UserError

masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)
orders = st.sampled_from(["row", "column"])


def naive(mask, order, base):
    """Pixel by pixel, as the rule is written."""
    flat = (mask.T if order == "column" else mask).ravel().tolist()
    words, start = [], None
    for i, value in enumerate([*flat, 0]):
        if value and start is None:
            start = i
        if not value and start is not None:
            words += [start + base, i - start]
            start = None
    return " ".join(map(str, words))


@given(masks, orders, st.integers(0, 1))
def test_encode_is_the_rule_and_decode_undoes_it(mask, order, base):
    text = rle.encode(mask, order, base)
    assert text == naive(mask, order, base)
    assert (rle.decode(text, *mask.shape, order, base) == mask).all()


@given(masks, orders, st.data())
def test_window_is_the_cut_of_the_whole(mask, order, data):
    h, w = mask.shape
    y, x = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    box = (y, x, data.draw(st.integers(1, h - y)), data.draw(st.integers(1, w - x)))
    runs = rle.parse(rle.encode(mask, order), mask.size, "here")
    window = rle.window_of_runs(*runs, mask.shape, order, box)
    assert (window == mask[y : y + box[2], x : x + box[3]]).all()
    assert rle.pixels_in_window(*runs, mask.shape, order, box) == window.sum()


@given(masks, orders, st.data())
def test_bands_give_the_same_text(mask, order, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(mask)), max_size=4)) | {0, len(mask)})
    encoder = rle.BandEncoder(*mask.shape, order)
    for a, b in zip(cuts, cuts[1:], strict=False):
        encoder.push(a, mask[a:b])
    assert encoder.finish() == rle.encode(mask, order)


@pytest.mark.parametrize("order", ["column", "row"])
def test_places_that_wait_in_a_file_are_the_same(order, monkeypatch):
    monkeypatch.setattr(rle, "EDGE_BYTES_IN_MEMORY", 64)
    mask = np.random.default_rng(0).random((60, 40)) < 0.4
    encoder = rle.BandEncoder(*mask.shape, order)
    for y in range(0, 60, 7):
        encoder.push(y, mask[y : y + 7])
    assert encoder._places._rolled, "it is on disk"
    assert encoder.finish() == rle.encode(mask, order)


@given(orders, st.integers(1, 20), st.integers(1, 20), st.integers(1, 200), st.data())
def test_chunks_and_strips_of_any_size_give_the_same(order, height, width, size, data):
    mask = data.draw(arrays(np.uint8, (height, width), elements=st.sampled_from([0, 0, 1, 2, 255])))
    text = naive(mask, order, 1)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RUN_PIXELS_AT_ONCE", "TRANSPOSED_COLUMNS"):
            patch.setattr(rle, name, size)
        for name in ("LETTERS_AT_ONCE", "NUMBERS_AT_ONCE"):
            patch.setattr(digits, name, size)
        assert rle.encode(mask, order) == text
        assert (rle.decode(text, *mask.shape, order) == (mask > 0)).all()


@pytest.mark.parametrize("kind", [bool, np.int8, np.int32, np.float32])
def test_any_number_but_0_is_the_object(kind):
    mask = np.array([[0, 3, 0, 0, -2, 0, 0, 7, 256, 0]]).astype(kind)
    assert rle.encode(mask) == naive(mask != 0, "column", 1)


edges = [0, 9, 10, 99, 100, 999, 1000, 999_999, 10**6, 10**18 - 1, 10**18, 2**63 - 2, 2**63 - 1]
whole_numbers = st.integers(0, 18).flatmap(lambda count: st.integers(0, 10**count)) | st.sampled_from(edges)


@given(st.lists(whole_numbers))
def test_text_of_numbers(numbers):
    assert b"".join(digits.text_of_numbers(np.array(numbers, np.int64))).decode() == " ".join(map(str, numbers))


@pytest.mark.parametrize(
    "count",
    [
        0,
        1,
        digits.NUMBERS_AT_ONCE - 1,
        digits.NUMBERS_AT_ONCE,
        digits.NUMBERS_AT_ONCE + 1,
        2 * digits.NUMBERS_AT_ONCE + 1,
    ],
)
def test_text_of_numbers_around_a_chunk(count):
    numbers = np.resize([*edges, *edges[::-1]], count)
    assert b"".join(digits.text_of_numbers(numbers)).decode() == " ".join(map(str, numbers.tolist()))


words = st.one_of(
    whole_numbers.map(str),
    whole_numbers.map("000{}".format),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["+3", "1_0", "1.5", "1,2", "x", "0x1", "1e3", "٣", "1\0", "-", "nan", "9" * 5000]),
)
blanks = st.text(" \t\n\r", min_size=1, max_size=2) | st.sampled_from(["\v", "\f", "\x1c", "\xa0", "\u2003", "\0", ","])


@given(st.lists(st.tuples(words, blanks)), st.sampled_from(["", " ", "\n\t"]))
def test_numbers_of_text_are_those_of_int_in_plain_digits(pieces, front):
    text = front + "".join(word + blank for word, blank in pieces)
    try:
        if set(text) - set(digits.LETTERS.decode()):
            raise ValueError("int() reads 1_0, +3 and digits of other scripts")
        expected = np.array([int(word) for word in text.split()], np.int64).tolist()
    except (ValueError, OverflowError):
        with pytest.raises(UserError, match="here: the run-length holds something that is not an integer"):
            rle.parse(text, 9, "here")
    else:
        assert digits.numbers_of_text(text).tolist() == expected


@given(st.lists(whole_numbers), st.text(" \t\n\r", min_size=1, max_size=2), st.sampled_from(["", " ", "\r\n"]))
def test_sound_text_of_numbers(numbers, blank, end):
    found = digits.numbers_of_text(end + blank.join(map(str, numbers)) + end)
    assert found.dtype == np.int64 and found.tolist() == numbers


def test_blank_text_has_no_runs():
    for text in ("", " ", "\n", "\t \r\n"):
        starts, lengths = rle.parse(text, 6, "here")
        assert len(starts) == len(lengths) == 0 and starts.dtype == np.int64


def peak(call):
    """Bytes held at most during the call, and its result."""
    tracemalloc.start()
    result = call()
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return held, result


def test_no_object_per_number():
    """A Python number or word and its place in a list take 40 to 65 bytes."""
    mask = np.random.default_rng(0).integers(0, 2, (1000, 2000), np.uint8)
    encoder = rle.BandEncoder(*mask.shape)
    encoder.push(0, mask)
    held, text = peak(encoder.finish)
    count = len(text.split())
    assert count > 900_000 and held < 25 * count
    held, _ = peak(lambda: digits.numbers_of_text(text))
    assert held < 25 * count
    held, _ = peak(lambda: rle.encode(mask))
    assert held < 60 * count


def test_runs_are_put_in_order_and_relative_starts_count_from_the_run_before():
    starts, lengths = rle.parse("5 1 1 2", 6, "here")
    assert (starts.tolist(), lengths.tolist()) == ([0, 4], [2, 1])
    for base in (0, 1):
        starts, lengths = rle.parse(f"{base} 2 2 1 0 1", 6, "here", base, relative=True)
        assert (starts.tolist(), lengths.tolist()) == ([0, 4, 5], [2, 1, 1])


@given(st.lists(masks, min_size=1, max_size=4))
def test_united_runs_are_those_of_the_united_mask(some):
    size = max(mask.size for mask in some)
    flat = [np.pad(mask.ravel(), (0, size - mask.size)) for mask in some]
    runs = [rle.parse(rle.encode(one[None]), size, "here") for one in flat]
    starts, lengths = rle.united(runs)
    expected = rle.parse(rle.encode(np.any(flat, axis=0)[None]), size, "here")
    assert (starts.tolist(), lengths.tolist()) == tuple(part.tolist() for part in expected)


def test_bands_come_in_order_and_whole():
    encoder = rle.BandEncoder(4, 3)
    encoder.push(0, np.ones((2, 3), np.uint8))
    for y, width in ((1, 3), (3, 3), (2, 2), (2, 4)):
        with pytest.raises(ValueError, match=rf"at row {y}; expected row 2, width 3"):
            encoder.push(y, np.ones((1, width), np.uint8))
    with pytest.raises(ValueError, match="2 of 4 rows were pushed"):
        encoder.finish()


def test_places_beyond_four_bytes_are_told_apart():
    """A mask of 5 x 10⁹ pixels: one row of few columns of it is object."""
    height = 10**9
    encoder = rle.BandEncoder(height, 5, "row")
    encoder._next = height - 1  # as if the rows above had been pushed, all blank
    encoder.push(height - 1, np.array([[0, 1, 1, 0, 1]], np.uint8))
    assert encoder.finish() == f"{5 * height - 3} 2 {5 * height} 1"


@pytest.mark.parametrize("chunk", [1, 2, rle.RUN_PIXELS_AT_ONCE])
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("1 2 3", "has 3 numbers; pairs"),
        ("1 x", "not an integer"),
        ("a 1", "not an integer"),
        ("1.5 2", "not an integer"),
        ("1,2", "not an integer"),
        ("1 99999999999999999999", "not an integer"),
        ("9223372036854775808 1", "not an integer"),
        ("-1 1", "the run -1 1 lies outside"),
        ("1 9", "outside"),
        ("0 1", "outside"),
        ("1 0", "length 0"),
        ("1 3 2 2", "the runs at 1 and 2 overlap"),
        ("1 1 3 2 4 1", "the runs at 3 and 4 overlap"),
        ("4 1 3 2 1 1", "the runs at 3 and 4 overlap"),
        ("1 1 3 1 6 2", "the run 6 2 lies outside the image of 6"),
        ("x" * 99, "not an integer: '" + "x" * 40 + "'"),
        ("2 9223372036854775807", "outside"),
        ("1 99 6 1", "run 1 99 lies outside"),
    ],
)
def test_bad_text_is_one_sentence_that_names_the_row(text, what, chunk, monkeypatch):
    monkeypatch.setattr(rle, "RUN_PIXELS_AT_ONCE", chunk)
    with pytest.raises(UserError, match=what) as error:
        rle.parse(text, 6, "train.csv, im3")
    assert "train.csv, im3" in str(error.value)
