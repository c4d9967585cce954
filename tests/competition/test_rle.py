import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

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


@given(masks, orders, st.data())
def test_bands_give_the_same_text(mask, order, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(mask)), max_size=4)) | {0, len(mask)})
    encoder = rle.BandEncoder(*mask.shape, order)
    for a, b in zip(cuts, cuts[1:], strict=False):
        encoder.push(a, mask[a:b])
    assert encoder.finish() == rle.encode(mask, order)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("1 2 3", "pairs"),
        ("1 x", "no integer"),
        ("1 9", "outside"),
        ("0 1", "outside"),
        ("1 0", "length 0"),
        ("1 3 2 2", "overlap"),
        ("2 9223372036854775807", "outside"),
        ("1 99 6 1", "run 1 99 lies outside"),
    ],
)
def test_bad_text_is_one_sentence_that_names_the_row(text, what):
    with pytest.raises(UserError, match=what) as error:
        rle.parse(text, 6, "train.csv, im3")
    assert "train.csv, im3" in str(error.value)
