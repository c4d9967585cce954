"""`competition.pixels.channels`: the grammar, what follows from it alone, and a sentence for every mistake."""

import pytest

from lib.config import load
from lib.config.competition import Pixels
from lib.config.formula import parsed_formula
from lib.errors import UserError

NDVI = {"name": "ndvi", "formula": "(B08 - B04) / (B08 + B04)"}


def test_without_channels_all_is_as_before():
    pixels = Pixels()
    assert (pixels.count, pixels.dtype, pixels.ending) == (3, "uint8", "")
    assert pixels.colour_indices == pixels.shown_indices == (0, 1, 2)
    assert pixels.normalisation == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert pixels.shown_range == (0, 1)
    assert Pixels(files=("B04", "B03", "B02")).ending == "B04"
    assert hash(pixels) == hash(Pixels()) != hash(Pixels(channels=["B02"])), "decoded images are cached by them"


def test_a_name_alone_is_a_file_and_a_band_is_of_the_images_own():
    pixels = Pixels(
        channels=["B02", {"name": "nir", "file": "B08"}, {"name": "red", "band": 2}, {"name": "x", "range": [0, 1]}]
    )
    assert [channel.file for channel in pixels.channels] == ["B02", "B08", "", "x"]
    assert pixels.ending == "B02"
    assert Pixels(channels=[{"name": "after", "file": "../after/{stem}.png"}]).ending == ""
    assert Pixels(channels=[{"name": "after", "file": "pre -> post"}, "B01"]).ending == "B01"
    assert Pixels(channels=[{"name": "ct", "dataset": "ct"}]).channels[0].file == ""


def test_channels_count_once_for_each_slice():
    pixels = Pixels(channels=["B04", {"name": "B08", "input": False}, "B03", "B02", NDVI], slices=(-2, 0, 2), depth=8)
    assert [channel.name for channel in pixels.inputs] == ["B04", "B03", "B02", "ndvi"]
    assert (pixels.count, pixels.dtype) == (12, "uint8")
    assert pixels.colour_indices is None
    assert pixels.shown_indices == (4, 6, 7), "of the image's own slice: the first, the middle and the last"
    named = Pixels(channels=["B02", "B03", "B04", "B08"], slices=(0, 1), colours=("B04", "B03", "B02"))
    assert named.colour_indices == named.shown_indices == (2, 1, 0) and named.dtype == "uint16"
    assert Pixels(channels=["B02", "B03"], show=("B03",)).shown_indices == (1, 1, 1)
    assert Pixels(channels=["ct"], slices=(-2, -1, 0, 1, 2)).shown_indices == (0, 2, 4)
    assert Pixels(channels=["ct"]).shown_indices == (0, 0, 0)


def test_networks_normalise_by_what_each_channel_is():
    scaled = {"name": "sar", "file": "sar", "scaling": "mean_std"}
    pixels = Pixels(channels=["B02", "B03", "B04", "B08", scaled], colours=("B04", "B03", "B02"))
    assert pixels.normalisation == ((0.406, 0.456, 0.485, 0.449, 0.5), (0.225, 0.224, 0.229, 0.226, 0.1))
    assert len(Pixels(channels=["ct"], slices=(-1, 0, 1)).normalisation[0]) == 3
    assert Pixels(channels=["ct"], scaling="mean_std").shown_range == (0.3, 0.7)
    fixed = Pixels(channels=[{"name": "ct", "range": [0, 9]}], scaling="mean_std")
    assert fixed.scaling_of(fixed.channels[0]) == "range" and fixed.normalisation == ((0.449,), (0.226,))


@pytest.mark.parametrize(
    "text", ["__import__('os')", "a.b", "a[0]", "a if b else c", "a ** 2", "lambda: a", "a(1)", "max(a)", "sqrt(a, b)",
             "log(x=a)", "max(*a)", "'a'", "True + a", "a < b", "a;b", "(a", "", "3 + 4", "[a]", "(a, b)",
             "+" * 600 + "a"],
)  # fmt: skip
def test_a_formula_is_arithmetic_and_nothing_else(text):
    with pytest.raises(ValueError, match="the formula"):
        parsed_formula(text)


def test_the_names_of_a_formula():
    assert parsed_formula("sqrt(abs(-a)) + max(b, c, 1.5e3) * log(min(a, 2))")[1] == {"a", "b", "c"}


WRONG = {
    "range: [3, 3]": "range is .* two rising values",
    "channels: [B02], range: [0, 9]": "range is for red, green and blue; .*leave range out",
    "channels: [B02], bands: [0, 1, 2]": "bands is for red, green and blue",
    "channels: [B02, B02]": "names 'B02' twice",
    "channels: [{name: a b, band: 0}]": "channels.0.name: .*pattern",
    "channels: [{band: 0}]": "channels.0.name",
    "channels: [{name: a, bands: 0}]": "unknown key competition.pixels.channels.0.bands",
    "channels: [{name: a, band: -1}]": "greater than or equal to 0",
    "channels: [{name: a, range: [5, 1]}]": r"a: range is \[5.0, 1.0\]; two rising values",
    "channels: [{name: max, band: 1}]": "'max' is a function of formulas",
    "channels: [{name: a, formula: b, band: 1}]": "a has a formula and band",
    "channels: [{name: a, formula: b, file: c}]": "a has a formula and file",
    "channels: [{name: a, formula: b, band: 0}]": "a has a formula and band",
    "channels: [{name: a, formula: b, nodata: 0}]": "a has a formula and nodata",
    "channels: [B04, {name: a, formula: B04 - B05}]": "names 'B05', which is no channel .*B04.*input: false",
    "channels: [B04, {name: a, formula: B04 ** 2}]": r"a: the formula 'B04 \*\* 2' holds",
    "channels: [{name: a, band: 0, input: false}]": "every channel has input: false",
    "channels: [{name: a, file: '{id}/a.png'}]": "the only placeholder is {stem}",
    "channels: [{name: a, file: a -> b -> c}]": "write one arrow",
    "channels: [B02, B03], colours: [B02, B03, B04]": "colours is .*three of these channels are expected: B02, B03",
    "channels: [B02, B03], show: [B02, B03]": "show is .*three, or one, of these channels",
    "channels: [B02], slices: [0, 0]": "name each slice once",
    "channels: [B02], stack: '{stack}/a'": "must hold {number} once",
    "channels: [B02], stack: '{id}/{number}'": "must hold {number} once",
    "channels: [B02], scaling: minmax": "scaling: .*quantiles",
    "channels: [B02], depth: 12": "depth: ",
    "channels: B02": "channels: .*(list|tuple)",
    "slices: [-1, 0, 1]": "slices is about competition.pixels.channels, which is empty",
    "ignore_nodata: true": "ignore_nodata is about competition.pixels.channels",
    "show: [B02]": "show is about competition.pixels.channels",
    "nodata: 0": "nodata is about competition.pixels.channels",
    "scaling: mean_std": "scaling is about competition.pixels.channels",
    "stack: '{stack}/{number}'": "stack is about competition.pixels.channels",
    "gaps: nearest": "gaps is about competition.pixels.channels",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_one_sentence_for_each_mistake(text, tmp_path):
    (tmp_path / "a.yaml").write_text(f"competition: {{pixels: {{{text}}}}}\n")
    with pytest.raises(UserError, match=WRONG[text]) as told:
        load(tmp_path / "a.yaml")
    assert "\n" not in str(told.value) and "competition.pixels" in str(told.value)


def test_channels_on_the_command_line():
    config = load(
        None,
        ["--competition.pixels.channels", "[B02, {name: nir, band: 3}]", "--competition.pixels.slices", "-1", "0", "1"],
    )
    assert config.competition.pixels.channels[1].band == 3 and config.competition.pixels.slices == (-1, 0, 1)
    assert load(None, ["--competition.pixels.channels", "B02", "B03"]).competition.pixels.count == 2
