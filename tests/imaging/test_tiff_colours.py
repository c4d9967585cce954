"""TIFFs whose values are no grey or RGB of whole bytes: converted as other readers do, or refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.imaging.readers.base import WHOLE_RANGE

COLOURS = np.random.default_rng(3).integers(0, 256, (40, 50, 3)).astype(np.uint8)
GREY = COLOURS[..., 0]
SMOOTH = np.dstack(np.meshgrid(np.linspace(0, 255, 50), np.linspace(0, 255, 40)))  # (40, 50, 2)
SMOOTH = np.dstack([SMOOTH, np.full((40, 50), 90)]).astype(np.uint8)
LAYOUTS = [{}, {"compression": "deflate", "tile": (16, 32)}, {"compression": "lzw", "rowsperstrip": 7}]


def read(path, **pixels):
    with open_image(path, Pixels(**pixels)) as image:
        assert image.channels == 3 and (image.height, image.width) == (40, 50)
        whole = image.read(0, 0, 40, 50)
        assert (image.read(5, 6, 20, 30) == whole[5:25, 6:36]).all()
    return whole


@pytest.mark.parametrize("options", LAYOUTS)
def test_ink_becomes_the_colours_that_pillow_gives(tmp_path, options):
    ink = np.dstack([COLOURS, GREY[::-1] // 2])
    tifffile.imwrite(tmp_path / "a.tif", ink, photometric="separated", **options)
    expected = np.asarray(Image.frombytes("CMYK", (50, 40), ink.tobytes()).convert("RGB"))
    assert np.abs(read(tmp_path / "a.tif").astype(int) - expected).max() <= 1
    assert (read(tmp_path / "a.tif", bands=(2, 1, 0)) == read(tmp_path / "a.tif")[..., ::-1]).all()
    planes = np.ascontiguousarray(ink.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "b.tif", planes, photometric="separated", planarconfig="separate", **options)
    assert (read(tmp_path / "b.tif") == read(tmp_path / "a.tif")).all()
    tifffile.imwrite(tmp_path / "c.tif", np.dstack([ink, GREY]), photometric="separated", extrasamples=[2], **options)
    assert (read(tmp_path / "c.tif") == read(tmp_path / "a.tif")).all(), "the fifth channel is alpha"
    tifffile.imwrite(tmp_path / "d.tif", ink.astype(np.uint16) * 257, photometric="separated", **options)
    assert np.abs(read(tmp_path / "d.tif", range=(0, 65535)).astype(int) - read(tmp_path / "a.tif")).max() <= 1


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_ycbcr_becomes_the_colours_that_pillow_gives(tmp_path, compression):
    image = Image.fromarray(COLOURS).convert("YCbCr")
    image.save(tmp_path / "a.tif", compression=compression)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].photometric == 6
    assert (read(tmp_path / "a.tif") == np.asarray(image.convert("RGB"))).all()


def test_ycbcr_that_the_codec_converts_is_converted_once(tmp_path):
    options = {"photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 98}}
    tifffile.imwrite(tmp_path / "a.tif", SMOOTH, tile=(16, 16), **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].photometric == 6
    assert np.abs(read(tmp_path / "a.tif").astype(int) - SMOOTH).mean() < 3


@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize("kind", ["cielab", "icclab"])
def test_lab_becomes_srgb(tmp_path, kind, options):
    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    lab = ImageCms.profileToProfile(Image.fromarray(SMOOTH), *profiles, outputMode="LAB")
    values = np.asarray(lab)
    values = values ^ np.array([0, 128, 128], np.uint8) if kind == "icclab" else values
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=kind, **options)
    assert np.abs(read(tmp_path / "a.tif").astype(int) - SMOOTH).mean() < 3
    if kind == "cielab":  # white, mid grey, and red as others know them
        known = np.tile(np.array([[255, 0, 0], [137, 0, 0], [138, 81, 70]], np.uint8), (40, 17, 1))[:, :50]
        tifffile.imwrite(tmp_path / "b.tif", known, photometric=kind)
        expected = np.array([[255, 255, 255], [128, 128, 128], [255, 0, 0]])
        assert np.abs(read(tmp_path / "b.tif")[0, :3].astype(int) - expected).max() <= 6


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "what"),
    [
        ((40, 50, 3), np.uint16, {"photometric": "cielab"}, "CIELAB, 3 channels of 16 bits"),
        ((40, 50, 3), np.uint8, {"photometric": "itulab"}, "ITULAB"),
        ((40, 50), np.uint8, {"photometric": "cfa", "extratags": [(33421, 3, 2, (2, 2), True)]}, "CFA"),
        ((40, 50, 3), np.uint8, {"photometric": "logluv"}, "LOGLUV"),
        ((40, 50, 4), np.float32, {"photometric": "separated"}, "SEPARATED, 4 channels of 32 bits"),
        ((40, 50, 4), np.uint8, {"photometric": "separated", "extratags": [(332, 3, 1, 2, True)]}, "SEPARATED"),
    ],
)
def test_what_cannot_be_converted_is_refused(tmp_path, shape, dtype, options, what):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, dtype), **options)
    sentence = f"a.tif has colours of a kind that is not converted .{what}.*; convert the file to RGB"
    with pytest.raises(UserError, match=sentence):
        open_image(tmp_path / "a.tif", Pixels(range=(0, 65535)))


@pytest.mark.parametrize(("tag", "value"), [(530, (2, 2)), (532, (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1))])
def test_ycbcr_of_another_kind_is_refused(tmp_path, tag, value):
    Image.fromarray(COLOURS).convert("YCbCr").save(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[0].tags[tag].overwrite(value)
    with pytest.raises(UserError, match=r"a.tif has colours of a kind that is not converted \(YCBCR"):
        open_image(tmp_path / "a.tif")


def test_complex_numbers_and_uneven_depth_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.complex64))
    with pytest.raises(UserError, match="pixels of a type that is not read .complex64.; convert them"):
        open_image(tmp_path / "a.tif", Pixels(range=(0, 1)))
    tifffile.imwrite(tmp_path / "b.tif", COLOURS, photometric="rgb", metadata=None)
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+") as file:
        file.pages[0].tags[258].overwrite((8, 8, 16))
    with pytest.raises(UserError, match="channels of different depth .8, 8, 16 bits.; convert them to one depth"):
        open_image(tmp_path / "b.tif")


def test_a_file_that_does_not_say_what_its_values_mean_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", COLOURS, photometric="rgb", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    tag = data.index((262).to_bytes(2, "little") + (3).to_bytes(2, "little"))
    data[tag : tag + 2] = (60000).to_bytes(2, "little")
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match="does not say what its values mean .tag 262 is missing."):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_stretched_to_eight_as_others_do(tmp_path, bits, white):
    top = 2**bits - 1
    values = GREY >> (8 - bits)
    stored = values.astype(bool) if bits == 1 else values
    photometric = "miniswhite" if white else "minisblack"
    nodata = [(42113, "s", 0, "255", True)]  # no value that is stored: what is shown is not compared with it
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=photometric, bitspersample=bits, extratags=nodata)
    expected = np.asarray(Image.open(tmp_path / "a.tif").convert("L")) if bits != 2 else None
    with open_image(tmp_path / "a.tif") as image:
        seen = image.read(0, 0, 40, 50)
    assert (seen[..., 0] == (top - values if white else values) * (255 // top)).all()
    assert expected is None or (seen[..., 0] == expected).all()
    for given in ((0, top), WHOLE_RANGE):  # who gives the range gets the same
        with open_image(tmp_path / "a.tif", Pixels(range=given)) as image:
            assert (image.read(0, 0, 40, 50) == seen).all()


def test_a_palette_that_lacks_colours_is_refused(tmp_path):
    colours = np.random.default_rng(5).integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="palette", colormap=colours, metadata=None)
    assert (read(tmp_path / "a.tif") == (colours >> 8).astype(np.uint8).T[GREY]).all()
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[0].tags[320].overwrite(tuple(range(3)))
    with pytest.raises(UserError, match="a.tif"):
        open_image(tmp_path / "a.tif")


def test_colours_in_one_large_compressed_piece_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.imaging.readers.tiff.TiffReader.CACHE_BYTES", 1000)
    options = {"photometric": "separated", "compression": "deflate"}
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([COLOURS, GREY]), rowsperstrip=40, **options)
    with pytest.raises(UserError, match="colours other than RGB in one compressed piece; convert it to RGB tiles"):
        open_image(tmp_path / "a.tif")
