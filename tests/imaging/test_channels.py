"""Channels of bands, files, slices and formulas: each pixel as it is written, scaled by hand here."""

import tracemalloc

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.channels.formulas import computed
from lib.imaging.channels.ranges import range_of
from lib.imaging.channels.reader import sampled_values
from lib.imaging.reader import Cutout, Scaled, files_of, open_image

RANDOM = np.random.default_rng(1)
DEEP = RANDOM.integers(0, 10_000, (14, 60, 90)).astype(np.uint16)


def scaled(values, low, high, most=65535):
    """Rounded to nearest, clipped: written otherwise than in the project."""
    share = (np.asarray(values, np.float64) - low) / (high - low)
    return np.floor(np.clip(share, 0, 1) * most + 0.5)


def agree(seen, wanted):
    """float32 may round one step otherwise."""
    assert seen.dtype == np.uint16 and np.abs(seen.astype(int) - wanted).max() <= 1


def channels(*chosen, **options):
    chosen = [{"range": [0, 9999], **one} if isinstance(one, dict) and "formula" not in one else one for one in chosen]
    return Pixels(channels=chosen, **options)


@pytest.mark.parametrize("form", ["interleaved", "planar", "pages", "npy", "npy, channels first", "tiled"])
def test_bands_of_one_file(tmp_path, form):
    path = tmp_path / ("a.npy" if "npy" in form else "a.tif")
    last = np.ascontiguousarray(np.moveaxis(DEEP, 0, -1))
    if "npy" in form:
        np.save(path, DEEP if "first" in form else last)
    elif form == "planar":
        tifffile.imwrite(path, DEEP, photometric="minisblack", planarconfig="separate")
    elif form == "pages":
        with tifffile.TiffWriter(path) as file:
            for plane in DEEP:
                file.write(plane, photometric="minisblack", contiguous=False)
    else:
        tile = {"tile": (32, 32), "compression": "zlib"} if form == "tiled" else {}
        tifffile.imwrite(path, last, photometric="minisblack", planarconfig="contig", **tile)
    pixels = channels(
        {"name": "a", "band": 11}, {"name": "b", "band": 0}, {"name": "c", "band": 13}, {"name": "d", "band": 3}
    )
    with open_image(path, pixels) as image:
        assert (image.height, image.width, image.count, image.dtype) == (60, 90, 4, "uint16")
        agree(image.read(7, 20, 40, 33), scaled(DEEP[[11, 0, 13, 3], 7:47, 20:53], 0, 9999).transpose(1, 2, 0))
        assert image.thumbnail(30).shape == (20, 30, 4)
        assert abs(image.thumbnail(30).mean() / image.read(0, 0, 60, 90).mean() - 1) < 0.01
        assert (Cutout(image, (5, 6, 20, 30)).read(1, 1, 9, 9) == image.read(6, 7, 9, 9)).all()
        assert Scaled(image, 0.5).read(0, 0, 9, 9).shape == (9, 9, 4) and Scaled(image, 0.5).dtype == "uint16"
    with pytest.raises(
        UserError, match=rf"{path.name} lacks the channel a: .* names band 14, and it has 14, counted from 0"
    ):
        open_image(path, channels({"name": "a", "band": 14}))


TYPES = {"uint8": (0, 255), "uint16": (0, 65535), "int16": (-3000, 3000), "float32": (-1, 1), "float64": (0, 1e-3)}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("depth", [8, 16])
def test_every_type_is_scaled_from_its_range(tmp_path, dtype, depth):
    low, high = TYPES[dtype]
    values = (low + RANDOM.random((40, 50, 2)) * (high - low)).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    given = low + 0.1 * (high - low), low + 0.9 * (high - low)
    pixels = channels(
        {"name": "x", "band": 1, "range": given}, {"name": "y", "band": 0, "range": [low, high]}, depth=depth
    )
    most = 65535 if depth == 16 else 255
    with open_image(tmp_path / "a.npy", pixels) as image:
        seen = image.read(3, 4, 30, 40)
    wanted = [scaled(values[3:33, 4:44, 1], *given, most), scaled(values[3:33, 4:44, 0], low, high, most)]
    assert seen.dtype == f"uint{depth}" and np.abs(seen.astype(int) - np.stack(wanted, -1)).max() <= 1
    assert len(np.unique(seen)) > 200, "not crushed"
    if dtype == "uint8" and depth == 8:
        assert (seen[..., 1] == values[3:33, 4:44, 0]).all(), "8 bits stay as they are"


def bands_in_files(folder, sizes):
    folder.mkdir(exist_ok=True)
    for i, (name, (h, w)) in enumerate(sizes.items()):
        tifffile.imwrite(folder / f"{name}.tif", DEEP[i, :h, :w])


def test_files_of_their_own_are_brought_to_the_finest(tmp_path):
    bands_in_files(tmp_path / "chip1", {"B02": (60, 90), "B08": (60, 90), "B11": (30, 45), "B01": (10, 15)})
    pixels = channels(*({"name": name, "file": name} for name in ("B02", "B08", "B11", "B01")))
    path = tmp_path / "chip1/B02.tif"
    with open_image(path, pixels) as image:
        assert (image.height, image.width) == (60, 90)
        whole = image.read(0, 0, 60, 90)
        windows = {(y, x): image.read(y, x, 20, 40) for y in range(12, 24) for x in (30, 31)}
    agree(whole[..., 1], scaled(DEEP[1], 0, 9999))
    large = cv2.resize(scaled(DEEP[2, :30, :45], 0, 9999).astype(np.float32), (90, 60), interpolation=cv2.INTER_LINEAR)
    assert np.abs(whole[..., 2] - large).max() < 2
    for (y, x), window in windows.items():
        assert np.abs(whole.astype(int)[y : y + 20, x : x + 40] - window).max() <= 1, "no seam between windows"
    assert [file.name for file in files_of(path, pixels)] == ["B02.tif", "B08.tif", "B11.tif", "B01.tif"]
    (tmp_path / "chip1/B08.tif").unlink()
    with pytest.raises(
        UserError, match=r"B02.tif lacks the channel B08: there is no image .*chip1/B08.tif; restore it"
    ):
        open_image(path, pixels)
    with pytest.raises(UserError, match=r"B11.tif does not end in B02, the first file of competition.pixels.channels"):
        open_image(tmp_path / "chip1/B11.tif", pixels)
    bands_in_files(tmp_path / "odd", {"B02": (60, 90), "B08": (37, 60)})
    with pytest.raises(
        UserError, match=r"sizes without a whole ratio: B08.tif has 37 x 60 pixels, and B02.tif 60 x 90"
    ):
        open_image(tmp_path / "odd/B02.tif", channels({"name": "B02"}, {"name": "B08"}))


FILES = {
    "../nir/{stem}.png": "nir/a_1.png", "{stem}_dem.npy": "rgb/a_1_dem.npy", "../nir/{stem}": "nir/a_1.tif",
    "rgb -> nir": "nir/a_1.tif", "a_1 -> b_1": "rgb/b_1.tif",
}  # fmt: skip


@pytest.mark.parametrize("file", FILES)
def test_paths_of_other_files(tmp_path, file):
    other = tmp_path / FILES[file]
    for folder in ("rgb", "nir"):
        (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / "rgb/a_1.tif", np.full((20, 30), 100, np.uint8))
    if other.suffix == ".npy":
        np.save(other, np.full((20, 30), 200, np.uint8))
    else:
        (tifffile.imwrite if other.suffix == ".tif" else lambda p, v: Image.fromarray(v).save(p))(
            other, np.full((20, 30), 200, np.uint8)
        )
    pixels = channels(
        {"name": "own", "band": 0, "range": [0, 255]}, {"name": "other", "file": file, "range": [0, 255]}, depth=8
    )
    with open_image(tmp_path / "rgb/a_1.tif", pixels) as image:
        assert image.read(0, 0, 1, 1).tolist() == [[[100, 200]]]
    assert len(files_of(tmp_path / "rgb/a_1.tif", pixels)) == 2
    other.unlink()
    with pytest.raises(UserError, match=f"a_1.tif lacks the channel other: there is no image .*{other.name}"):
        open_image(tmp_path / "rgb/a_1.tif", pixels)


def test_formulas_are_computed_from_stored_values(tmp_path):
    values = RANDOM.integers(1, 3000, (20, 30, 2)).astype(np.uint16)
    values[4, 5] = 0
    np.save(tmp_path / "a.npy", values)
    ndvi = {"name": "ndvi", "formula": "(nir - red) / (nir + red)", "range": [-1, 1]}
    pixels = Pixels(
        channels=[{"name": "red", "band": 0, "input": False}, {"name": "nir", "band": 1, "input": False}, ndvi]
    )
    with open_image(tmp_path / "a.npy", pixels) as image:
        seen = image.read(0, 0, 20, 30)
        assert image.count == 1 and not image.measured(0, 0, 20, 30)[4, 5] and image.measured(0, 0, 20, 30).sum() == 599
    red, nir = values[..., 0].astype(float), values[..., 1].astype(float)
    red[4, 5], nir[4, 5] = 1, 1
    wanted = scaled((nir - red) / (nir + red), -1, 1)
    wanted[4, 5] = round(0.449 * 65535)
    agree(seen[..., 0], wanted)


NODATA = [("a.npy", {"nodata": -9999}, -9999), ("a.npy", {}, np.nan), ("a.npy", {}, np.inf), ("a.tif", {}, -9999)]


@pytest.mark.parametrize(("name", "options", "void"), NODATA)
def test_what_was_not_measured_is_the_mean_that_networks_see(tmp_path, name, options, void):
    values = RANDOM.normal(5, 1, (2, 40, 60)).astype(np.float32)
    values[:, :7] = void
    values[1, 10] = void
    if name == "a.npy":
        np.save(tmp_path / name, values)
    else:
        tags = [(42113, "s", 0, "-9999", True)]
        tifffile.imwrite(tmp_path / name, values, photometric="minisblack", planarconfig="separate", extratags=tags)
    pixels = Pixels(channels=[{"name": n, "band": i, "range": [0, 10]} for i, n in enumerate("xy")], **options)
    with open_image(tmp_path / name, pixels) as image:
        seen, measured = image.read(0, 0, 40, 60), image.measured(0, 0, 40, 60)
    assert (seen[:7] == round(0.449 * 65535)).all() and (seen[10, :, 1] == round(0.449 * 65535)).all()
    agree(seen[11:], scaled(values[:, 11:], 0, 10).transpose(1, 2, 0))
    assert not measured[:7].any() and measured[7:].all(), "a pixel that one channel lacks was measured"


def stack(folder, numbers, size=(20, 30)):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        tifffile.imwrite(folder / f"slice_{number:04}_266.tif", np.full(size, number, np.uint8))


def slices(*offsets, **options):
    pixels = {"stack": "{stack}/scans/slice_{number}_*", "slices": offsets, "depth": 8, **options}
    return Pixels(channels=[{"name": "ct", "band": 0, "range": [0, 255]}], **pixels)


def test_neighbouring_slices_and_edges_that_repeat(tmp_path):
    stack(tmp_path / "day1/scans", range(1, 6))
    stack(tmp_path / "day2/scans", range(1, 30))

    def seen(number, pixels):
        with open_image(tmp_path / f"day1/scans/slice_{number:04}_266.tif", pixels) as image:
            return image.read(2, 3, 1, 1).ravel().tolist()

    assert [seen(n, slices(-2, 0, 2)) for n in (1, 2, 3, 5)] == [[1, 1, 3], [1, 2, 4], [1, 3, 5], [3, 5, 5]]
    (tmp_path / "day1/scans/slice_0003_266.tif").unlink()
    assert seen(2, slices(-2, 0, 2)) == [1, 2, 4]
    with pytest.raises(
        UserError, match=r"the stack of .*slice_0001_266.tif has a gap: it has no slice 3, between 1 and 5"
    ):
        seen(1, slices(0, 2))
    assert seen(1, slices(0, 2, gaps="nearest")) == [1, 2]
    stack(tmp_path / "day1/scans", range(10, 70, 10))
    for path in (tmp_path / "day1/scans").glob("slice_000*"):
        path.unlink()
    assert seen(30, slices(-1, 0, 1)) == [20, 30, 40], "numbers in steps of 10"
    with pytest.raises(UserError, match="is not named like competition.pixels.stack, {stack}/x_{number}"):
        seen(30, slices(0, 1, stack="{stack}/x_{number}"))
    with pytest.raises(UserError, match="does not say how .* names its stack and number: set competition.pixels.stack"):
        seen(30, slices(0, 1, stack=""))
    tifffile.imwrite(tmp_path / "day1/scans/slice_0030_other.tif", np.zeros((20, 30), np.uint8))
    with pytest.raises(UserError, match="slice_0030_266.tif and .*slice_0030_other.tif are both slice 30 of one stack"):
        seen(30, slices(0, 1))


def test_a_channel_from_another_slice_and_slices_of_several_channels(tmp_path):
    stack(tmp_path / "day1/scans", range(1, 6))
    now = {"name": "now", "band": 0, "range": [0, 255]}
    before = {**now, "name": "before", "slice": -1, "input": False}
    change = {"name": "change", "formula": "now - before", "range": [0, 255]}
    pixels = Pixels(channels=[now, before, change], stack="{stack}/scans/slice_{number}_*", slices=(0, 1), depth=8)
    path = tmp_path / "day1/scans/slice_0004_266.tif"
    with open_image(path, pixels) as image:
        assert image.read(0, 0, 1, 1).tolist() == [[[4, 1, 5, 1]]]
    assert [file.name[6:10] for file in files_of(path, pixels)] == ["0004", "0003", "0005"]


def test_ranges_of_an_image_a_stack_and_a_type(tmp_path):
    for number, scale in enumerate((1, 3), 1):
        np.save(tmp_path / f"s_{number}.npy", (RANDOM.random((300, 400)) * 1000 * scale).astype(np.int16))

    def seen(scaling):
        pixels = Pixels(channels=[{"name": "x", "band": 0}], scaling=scaling, stack="{stack}_{number}")
        with open_image(tmp_path / "s_1.npy", pixels) as image:
            return image.read(0, 0, 300, 400)

    values = np.load(tmp_path / "s_1.npy")
    agree(seen("type")[..., 0], scaled(values, -32768, 32767))
    own = seen("image")
    assert own.mean() == pytest.approx(32767, rel=0.02) and (own == 0).mean() == pytest.approx(0.005, abs=0.003)
    assert seen("stack").mean() == pytest.approx(65535 / 2980 * 500, rel=0.1), "of both slices"
    with pytest.raises(UserError, match="the range of the channel x is not fitted yet .*01_preprocess.py"):
        seen("quantiles")
    np.save(tmp_path / "s_1.npy", values.astype(np.float32))
    with pytest.raises(UserError, match="has float32 values, which have no whole range"):
        seen("type")


def test_an_image_of_another_depth_is_refused(tmp_path):
    np.save(tmp_path / "deep.npy", DEEP[0])
    np.save(tmp_path / "flat.npy", (DEEP[0] // 40).astype(np.uint8))
    for name, bits, what in (("deep", 8, "was fitted on images of 8 bits"), ("flat", 16, "images of more than 8 bits")):
        fitted = Pixels(channels=[{"name": "x", "band": 0, "fitted": [0, 100], "fitted_bits": bits}])
        with pytest.raises(UserError, match=f"{name}.npy has uint.* values, but the channel x .*{what}; convert it"):
            open_image(tmp_path / f"{name}.npy", fitted)
    with pytest.raises(UserError, match="flat.npy has 8 bits a value, but the range .* is of deeper files"):
        open_image(tmp_path / "flat.npy", channels({"name": "x", "band": 0}))


def test_of_a_pyramid_only_a_small_level_is_read_for_a_thumbnail(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(np.full((1200, 1500, 4), 9000, np.uint16), photometric="minisblack", planarconfig="contig",
                   tile=(256, 256), subifds=1)  # fmt: skip
        file.write(np.full((300, 375, 4), 3000, np.uint16), photometric="minisblack", planarconfig="contig",
                   tile=(256, 256), subfiletype=1)  # fmt: skip
    with open_image(path, channels(*({"name": f"c{i}", "band": i} for i in range(4)))) as image:
        assert round(image.thumbnail(100).mean() / 65535 * 9999) == 3000
        assert round(image.read(0, 0, 50, 50).mean() / 65535 * 9999) == 9000


def test_rounding_is_to_nearest_and_the_whole_range_is_exact(tmp_path):
    np.save(tmp_path / "a.npy", np.uint16([[0, 1, 2]]))
    for depth, middle in ((8, 128), (16, 32768)):
        with open_image(tmp_path / "a.npy", channels({"name": "x", "band": 0, "range": [0, 2]}, depth=depth)) as image:
            assert image.read(0, 0, 1, 3).ravel().tolist() == [0, middle, 2**depth - 1]
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.save(tmp_path / "b.npy", every)
    with open_image(tmp_path / "b.npy", channels({"name": "x", "band": 0, "range": [0, 65535]})) as image:
        assert (image.read(0, 0, 256, 256)[..., 0] == every).all(), "no value of 16 bits is lost"


@pytest.mark.parametrize(("own", "of_all", "void"), [(None, None, 3), (None, 2, 2), (1, 2, 1)])
def test_nodata_of_a_channel_goes_before_that_of_all_and_of_the_file(tmp_path, own, of_all, void):
    tifffile.imwrite(tmp_path / "a.tif", np.int16([[1, 2, 3, 4]]), extratags=[(42113, "s", 0, "3", True)])
    pixels = channels({"name": "x", "band": 0, "range": [0, 4], "nodata": own}, nodata=of_all)
    with open_image(tmp_path / "a.tif", pixels) as image:
        assert image.measured(0, 0, 1, 4).tolist() == [[value != void for value in (1, 2, 3, 4)]]


PICTURES = {
    "rgb.png": (np.uint8, "RGB"), "grey.png": (np.uint8, "L"),
    "deep.png": (np.uint16, "I;16"), "a.jpg": (np.uint8, "RGB"),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_channels_too(tmp_path, name):
    dtype, mode = PICTURES[name]
    shape = (40, 60, 3) if mode == "RGB" else (40, 60)
    values = np.broadcast_to(np.arange(60)[None, :, None] if len(shape) == 3 else np.arange(60)[None], shape).astype(
        dtype
    )
    values = np.ascontiguousarray(values * (900 if dtype == np.uint16 else 4))
    picture = Image.fromarray(values)
    exif = Image.Exif()
    exif[274] = 6
    picture.save(tmp_path / name, **({"exif": exif, "quality": 98} if name == "a.jpg" else {}))
    most = 65535 if dtype == np.uint16 else 255
    last = {"name": "x", "band": 2 if mode == "RGB" else 0, "range": [0, most]}
    with open_image(tmp_path / name, channels(last, exif=False)) as image:
        assert (image.height, image.width) == (40, 60)
        seen = image.read(0, 0, 40, 60)[..., 0] / 65535 * most
    assert np.abs(seen - (values[..., 2] if mode == "RGB" else values)).max() < (4 if name == "a.jpg" else 0.01)
    with open_image(tmp_path / name, channels(last)) as image:
        assert (image.height, image.width) == ((60, 40) if name == "a.jpg" else (40, 60))


def test_of_a_huge_array_only_windows_are_read(tmp_path):
    huge = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint16, (20_000, 20_000, 2))
    huge[9000:9010, 9000:9010] = 7
    del huge
    pixels = Pixels(channels=[{"name": "x", "band": 1, "fitted": [0, 7]}, {"name": "y", "band": 0, "scaling": "image"}])
    tracemalloc.start()
    with open_image(tmp_path / "a.npy", pixels) as image:
        assert (image.read(9000, 9000, 512, 512)[:10, :10, 0] == 65535).all()
        values, depths = sampled_values(tmp_path / "a.npy", pixels)
    assert tracemalloc.get_traced_memory()[1] < 32e6, "a thousandth of the file's 1.6 GB at a time"
    tracemalloc.stop()
    assert len(values["x"]) > 60_000 and depths == {"x": "uint16", "y": "uint16"}


def test_the_range_of_an_image_or_stack_is_found_once_for_all_channels_and_slices(tmp_path, monkeypatch):
    sampled = []

    def counted(path, pixels):
        sampled.append(path)
        return sampled_values(path, pixels)

    monkeypatch.setattr("lib.imaging.channels.reader.sampled_values", counted)
    np.save(tmp_path / "a.npy", DEEP)
    many = Pixels(channels=[{"name": f"c{i}", "band": i, "scaling": "image"} for i in range(14)])
    with open_image(tmp_path / "a.npy", many) as image:
        image.read(0, 0, 9, 9)
    assert sampled == [tmp_path / "a.npy"]
    sampled.clear()
    stack(tmp_path / "day1/scans", range(1, 13))
    pixels = Pixels(channels=[{"name": "ct", "band": 0, "scaling": "stack"}], stack="{stack}/scans/slice_{number}_*")
    for path in sorted((tmp_path / "day1/scans").iterdir()):
        with open_image(path, pixels) as image:
            image.read(0, 0, 9, 9)
    assert len(sampled) == len(set(sampled)) == 9


def test_values_below_0_of_8_bits_are_not_crushed(tmp_path):
    values = RANDOM.integers(-128, 128, (40, 50)).astype(np.int8)
    np.save(tmp_path / "a.npy", values)
    with open_image(tmp_path / "a.npy", Pixels(channels=[{"name": "x", "band": 0, "scaling": "type"}])) as image:
        agree(image.read(0, 0, 40, 50)[..., 0], scaled(values, -128, 127))
    fitted = Pixels(channels=[{"name": "x", "band": 0, "fitted": [0, 255], "fitted_bits": 8}])
    with pytest.raises(UserError, match="a.npy has int8 values, but the channel x was fitted on images of 8 bits"):
        open_image(tmp_path / "a.npy", fitted)


FORMULAS = {
    "min(a, b, 0)": [-4, 0], "max(a, b, 3)": [3, 9], "abs(a)": [4, 9], "sqrt(abs(a))": [2, 3], "log(b)": [0, 0.6931472],
    "-a + +b * 2 - 1": [5, -6], "a / (b + 1)": [-2, 3], "log(a)": [np.nan, 2.1972246], "sqrt(a)": [np.nan, 3],
}  # fmt: skip


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_arithmetic_of_formulas(formula):
    found = computed(formula, {"a": np.float32([-4, 9]), "b": np.float32([1, 2])})
    assert found.dtype == np.float32 and np.allclose(found, FORMULAS[formula], equal_nan=True)


def test_a_channel_of_one_value_has_a_range_around_it():
    assert range_of(np.full(9, 7.0), "quantiles") == range_of(np.full(9, 7.0), "mean_std") == (6.5, 7.5)


def test_nan_is_not_measured_beside_a_value_for_it(tmp_path):
    np.save(tmp_path / "a.npy", np.float32([[1, np.nan, -9999, 2]]))
    with open_image(tmp_path / "a.npy", channels({"name": "x", "band": 0, "nodata": -9999})) as image:
        assert image.measured(0, 0, 1, 4).tolist() == [[True, False, False, True]]


def test_a_picture_that_is_decoded_whole_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.imaging.readers.plain.DECODED_BYTES", 100)
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", progressive=True)
    with pytest.raises(UserError, match="a.jpg can only be decoded whole; convert it to a tiled TIFF"):
        open_image(tmp_path / "a.jpg", channels({"name": "x", "band": 0, "range": [0, 255]}))
