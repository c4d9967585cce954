import os
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.channels.files import files_of
from lib.imaging.content import content_map
from lib.imaging.grid import grid
from lib.imaging.reader import Scaled, open_image
from lib.imaging.readers import plain, tiff
from lib.imaging.readers import tiled_copy as spool
from lib.imaging.readers.tiff import TiffReader
from lib.imaging.readers.tiled_copy import spooled
from lib.imaging.roi import regions

PIXELS = np.random.default_rng(3).integers(0, 255, (301, 467, 3)).astype(np.uint8)
LAYOUTS = {
    "tiled": {"tile": (64, 96)},
    "striped": {"rowsperstrip": 17},
    "one_strip": {"rowsperstrip": 301},
    "deflate": {"tile": (64, 64), "compression": "deflate", "predictor": True},
    "lzw": {"rowsperstrip": 32, "compression": "lzw"},
    "bigtiff": {"tile": (128, 128), "bigtiff": True},
    "planes": {"planarconfig": "separate"},
    "planes_striped": {"planarconfig": "separate", "rowsperstrip": 50, "compression": "lzw"},
    "planes_tiled": {"planarconfig": "separate", "tile": (64, 96), "compression": "deflate"},
    "pages": {"photometric": "minisblack"},
    "pages_tiled": {"photometric": "minisblack", "tile": (64, 64), "compression": "deflate"},
    "five_axes": {"photometric": "minisblack", "metadata": {"axes": "TZCYX"}, "ome": True},
    "eight_channels": {"photometric": "minisblack", "planarconfig": "contig"},
}
SHAPES = {
    "five_axes": lambda pixels: pixels.transpose(2, 0, 1)[None, None],
    "eight_channels": lambda pixels: np.dstack([pixels, pixels, pixels])[..., :8],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiff_windows_are_cuts_of_the_image(tmp_path, layout):
    path = tmp_path / "a.tif"
    planes = layout.startswith(("planes", "pages"))
    pixels = SHAPES.get(layout, lambda p: p.transpose(2, 0, 1) if planes else p)(PIXELS)
    tifffile.imwrite(path, pixels, **{"photometric": "rgb", **LAYOUTS[layout]})
    with open_image(path) as image:
        assert (image.height, image.width) == (301, 467)
        assert image.channels == (8 if layout == "eight_channels" else 3)
        for y, x, h, w in [(0, 0, 301, 467), (63, 95, 70, 110), (300, 466, 1, 1)]:
            assert (image.read(y, x, h, w) == PIXELS[y : y + h, x : x + w]).all()


@pytest.mark.parametrize(("passed_over", "columns"), [(tiff.PASSED_OVER, 467), (1000, 60)])
def test_of_an_uncompressed_strip_only_the_window_is_read(tmp_path, monkeypatch, passed_over, columns):
    """Narrow rows are read whole, of wide ones only the window's columns."""
    monkeypatch.setattr(tiff, "PASSED_OVER", passed_over)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", rowsperstrip=301)
    with open_image(path) as image:
        assert not image.undividable
        real, sizes = tifffile.FileHandle.read, []
        monkeypatch.setattr(tifffile.FileHandle, "read", lambda self, n=-1: sizes.append(n) or real(self, n))
        assert (image.read(7, 9, 50, 60) == PIXELS[7:57, 9:69]).all()
    assert sum(sizes) == 50 * columns * 3


def save_plain(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_large_png_and_jpeg_are_streamed(tmp_path, monkeypatch, name):
    monkeypatch.setattr(plain, "DECODED_BYTES", 1000)
    monkeypatch.setattr(plain.StreamReader, "HELD_BYTES", 20 * 467 * 3)
    path = save_plain(tmp_path / name, PIXELS)
    whole = np.asarray(Image.open(path))
    with open_image(path) as image:
        assert isinstance(image, plain.StreamReader) and not image.undividable and not image.windowed
        starts = []
        monkeypatch.setattr(image, "_start", lambda start=image._start: starts.append(1) or start())
        for y in range(0, 301 - 60, 25):
            for x in (0, 300):
                assert np.abs(image.read(y, x, 60, 100).astype(int) - whole[y : y + 60, x : x + 100]).max() <= 1
            assert len(image._rows) <= 60 + 20, "rows that are done are held"
        assert not starts, "windows that come row by row must not decode anything twice"
        assert np.abs(image.read(0, 0, 5, 467).astype(int) - whole[:5]).max() <= 1 and starts == [1]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"{name} is damaged"), open_image(path) as image:
        image.read(0, 0, 301, 467)


SCATTERED = {
    "progressive.jpg": lambda path: save_plain(path, PIXELS, progressive=True, quality=95),
    "turned.jpg": lambda path: save_plain(path, PIXELS, exif=orientation(6), quality=95),
    "mirrored.png": lambda path: save_plain(path, PIXELS, exif=orientation(2)),
    "a.bmp": lambda path: save_plain(path, PIXELS),
    "grey.bmp": lambda path: save_plain(path, PIXELS[..., 0]),
    "a.ppm": lambda path: save_plain(path, PIXELS),
    "deep.pgm": lambda path: save_plain(path, PIXELS[..., 0].astype(np.uint16) * 16),
    "a.webp": lambda path: save_plain(path, PIXELS, lossless=True),
    "a.gif": lambda path: save_plain(path, PIXELS),
    "deflate.tif": lambda path: tifffile.imwrite(path, PIXELS, photometric="rgb", compression="deflate"),
    "lzw.tiff": lambda path: tifffile.imwrite(path, PIXELS, photometric="rgb", compression="lzw", predictor=True),
    "deep.tif": lambda path: tifffile.imwrite(path, PIXELS.astype(np.uint16) * 16, compression="deflate"),
    "white.tif": lambda path: tifffile.imwrite(path, PIXELS[..., 0], photometric="miniswhite", compression="deflate"),
    "palette.tif": lambda path: tifffile.imwrite(
        path,
        PIXELS[..., 0],
        photometric="palette",
        compression="deflate",
        colormap=np.random.default_rng(5).integers(0, 65536, (3, 256)).astype(np.uint16),
    ),
}


def orientation(number):
    exif = Image.Exif()
    exif[274] = number
    return exif


@pytest.mark.parametrize("layout", [{"tile": (32, 64)}, {"tile": (96, 96)}, {"rowsperstrip": 17}])
@pytest.mark.parametrize(("window", "stride"), [(64, 48), (64, 64), (80, 30)])
def test_compressed_segments_are_decoded_once_and_only_kept_while_windows_need_them(
    tmp_path, monkeypatch, layout, window, stride
):
    path, decoded = tmp_path / "a.tif", []
    tifffile.imwrite(path, PIXELS, photometric="rgb", compression="deflate", **layout)
    real = TiffReader._decode_plane
    monkeypatch.setattr(TiffReader, "_decode_plane", lambda self, *args: decoded.append(args) or real(self, *args))
    height, width = layout.get("tile", (17, 467))
    across = -(-467 // width)
    with open_image(path) as image:
        for y, x in grid(301, 467, window, stride):
            assert (image.read(y, x, window, window) == PIXELS[y : y + window, x : x + window]).all()
            assert len(image._cache) <= across * (window // height + 2)
        assert len(decoded) == len(set(decoded)) == across * -(-301 // height)
        image.apart = True
        for y, x in grid(301, 467, 64, 64):
            image.read(y, x, 64, 64)
        assert len(image._cache) <= min(across, 2 * (64 // width + 2)) * (64 // height + 2)


@pytest.mark.parametrize("name", SCATTERED)
def test_what_can_only_be_decoded_whole_is_copied_once(tmp_path, monkeypatch, name):
    path, pixels = tmp_path / name, Pixels(range=(0, 4080)) if "deep" in name else Pixels()
    SCATTERED[name](path)
    assert spooled(path, pixels, tmp_path / "spool") == path, "small ones are read as they are"
    with open_image(path, pixels) as image:
        whole = image.read(0, 0, image.height, image.width)
    monkeypatch.setattr(plain, "DECODED_BYTES", 1000)
    monkeypatch.setattr(TiffReader, "CACHE_BYTES", 1000)
    monkeypatch.setattr(spool.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(UserError, match=rf"{name} can only be decoded whole, which takes .* has 0.0 GB left"):
        spooled(path, pixels, tmp_path / "spool")
    monkeypatch.undo()
    monkeypatch.setattr(plain, "DECODED_BYTES", 1000)
    monkeypatch.setattr(TiffReader, "CACHE_BYTES", 1000)
    copy = spooled(path, pixels, tmp_path / "spool")
    assert copy != path and spooled(path, pixels, tmp_path / "spool") == copy
    size = copy.stat().st_size
    os.truncate(copy, size // 2)
    assert spooled(path, pixels, tmp_path / "spool").stat().st_size == size, "one that is cut off is made again"
    assert [p.name for p in (tmp_path / "spool").iterdir()] == [copy.name]
    with open_image(copy, pixels) as image:
        assert image.windowed and not image.undividable and (image.height, image.width) == whole.shape[:2]
        assert np.abs(image.read(20, 30, 200, 200).astype(int) - whole[20:220, 30:230]).max() <= 1


def test_interlaced_png_is_copied(tmp_path, monkeypatch):
    pyvips = pytest.importorskip("pyvips")
    monkeypatch.setattr(plain, "DECODED_BYTES", 1000)
    pyvips.Image.new_from_array(PIXELS).pngsave(str(tmp_path / "a.png"), interlace=True)
    with open_image(spooled(tmp_path / "a.png", Pixels(), tmp_path)) as image:
        assert isinstance(image, TiffReader)
        assert (image.read(20, 30, 200, 200) == PIXELS[20:220, 30:230]).all()
    pyvips.Image.new_from_array(PIXELS).pngsave(str(tmp_path / "palette.png"), interlace=True, palette=True)
    whole = np.asarray(Image.open(tmp_path / "palette.png").convert("RGB"))
    with open_image(spooled(tmp_path / "palette.png", Pixels(), tmp_path)) as image:
        assert isinstance(image, TiffReader)
        assert (image.read(20, 30, 200, 200) == whole[20:220, 30:230]).all()


def test_ink_becomes_colours_in_a_copy_too(tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "DECODED_BYTES", 1000)
    for name, progressive in (("a.jpg", True), ("b.jpg", False)):
        Image.fromarray(PIXELS).convert("CMYK").save(tmp_path / name, progressive=progressive, quality=95)
    with open_image(spooled(tmp_path / "a.jpg", Pixels(), tmp_path)) as copy, open_image(tmp_path / "b.jpg") as stream:
        assert isinstance(copy, TiffReader) and isinstance(stream, plain.StreamReader)
        windows = [image.read(20, 30, 200, 200).astype(int) for image in (copy, stream)]
    assert np.abs(windows[0] - windows[1]).max() <= 1 and np.ptp(windows[0]) > 100


def test_whole_slides_are_read_through_openslide(tmp_path):
    pytest.importorskip("openslide")
    path = tmp_path / "a.svs"
    tifffile.imwrite(path, PIXELS, photometric="rgb", tile=(64, 64), compression="deflate")
    with open_image(path) as image:
        assert (image.height, image.width) == (301, 467) and image.windowed
        assert (image.read(63, 95, 70, 110) == PIXELS[63:133, 95:205]).all()
    path.write_text("no slide")
    with pytest.raises(UserError, match="a.svs is not a readable slide"):
        open_image(path)


def pyramid(path, **options):
    """An image of 1200 x 1500 pixels that are 200, with levels of half and a quarter the size that are 120 and 40."""
    with tifffile.TiffWriter(path) as file:
        for grey, size in ((200, (1200, 1500)), (120, (600, 750)), (40, (300, 375))):
            levels = {} if "description" in options or grey == 200 else {"subfiletype": 1}
            pixels = np.full((*size, 3), grey, np.uint8)
            file.write(pixels, photometric="rgb", tile=(256, 256), metadata=None, **levels, **options)


def test_of_a_slide_the_coarsest_level_that_is_large_enough_is_shrunk(tmp_path, monkeypatch):
    openslide = pytest.importorskip("openslide")
    about = "Aperio Image Library v10.0.51\r\n1500x1200 (256x256) JPEG/RGB Q=90|AppMag = 20"
    pyramid(tmp_path / "a.svs", description=about, compression="jpeg")
    read, levels = openslide.OpenSlide.read_region, []

    def counted(slide, place, level, size):
        levels.append(level)
        return read(slide, place, level, size)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", counted)
    with open_image(tmp_path / "a.svs") as image:
        for side, level, grey in ((1000, 0, 200), (751, 0, 200), (750, 1, 120), (376, 1, 120), (100, 2, 40)):
            levels.clear()
            small = image.thumbnail(side)
            assert small.shape == (round(side * 0.8), side, 3) and set(levels) == {level}
            assert np.abs(small.astype(int) - grey).max() <= 2
        levels.clear()
        coarse = image.overview(400)
        assert np.abs(coarse.read(550, 700, 50, 50).astype(int) - 120).max() <= 2, "its last rows, in its own pixels"
        assert np.abs(image.read(1100, 1400, 100, 100).astype(int) - 200).max() <= 2 and levels == [1, 0]
        coarse.close()


def test_of_a_tiff_pyramid_only_the_segments_of_one_level_are_decoded(tmp_path, monkeypatch):
    pyramid(tmp_path / "a.tif", compression="deflate")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.series[0].levels) == 3
    decoded, real = [], TiffReader._decode_plane
    monkeypatch.setattr(TiffReader, "_decode_plane", lambda s, p, i: decoded.append((s.width, i)) or real(s, p, i))
    with open_image(tmp_path / "a.tif") as image:
        for side, width, segments in ((1000, 1500, 30), (400, 750, 9), (375, 375, 4)):
            decoded.clear()
            image.thumbnail(side)
            assert {own for own, _ in decoded} == {width} and len(decoded) == segments


def test_georeferenced_rasters_are_read_through_rasterio(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    path, deep = tmp_path / "a.img", PIXELS.astype(np.uint16) * 16
    where = rasterio.transform.from_origin(500_000, 4_000_000, 0.5, 0.5)
    options = {"driver": "HFA", "height": 301, "width": 467, "count": 3, "dtype": "uint16"}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=where, **options) as raster:
        raster.write(deep.transpose(2, 0, 1))
    with pytest.raises(UserError, match="uint16 pixels"):
        open_image(path)
    with open_image(path, Pixels(range=(0, 4080), bands=(2, 1, 0))) as image:
        assert (image.height, image.width, image.channels) == (301, 467, 3)
        assert (image.read(63, 95, 70, 110) == PIXELS[63:133, 95:205, ::-1]).all()
    path.write_text("no raster")
    with pytest.raises(UserError, match="a.img is not a readable raster"):
        open_image(path)


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    (tmp_path / "a.svs").write_text("")
    with pytest.raises(UserError, match=r"a\.svs needs a package that is missing .*pip install openslide-python"):
        open_image(tmp_path / "a.svs")


def test_grey_and_multi_page_tiffs(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([PIXELS[..., 0], PIXELS[..., 1]]), photometric="minisblack")
    with open_image(path) as image:
        window = image.read(5, 6, 20, 30)
    assert (window == PIXELS[5:25, 6:36, :1]).all()


@pytest.mark.parametrize("options", [{}, {"compression": "deflate"}, {"compression": "deflate", "tile": (64, 64)}])
def test_tiffs_whose_0_is_white_and_those_with_a_palette_are_read_as_others_read_them(tmp_path, options):
    path, grey = tmp_path / "a.tif", PIXELS[..., 0]
    tifffile.imwrite(path, 255 - grey, photometric="miniswhite", **options)
    assert (np.asarray(Image.open(path)) == grey).all()
    with open_image(path) as image:
        assert (image.read(5, 6, 70, 80) == grey[5:75, 6:86, None]).all()
    tifffile.imwrite(path, 65535 - grey.astype(np.uint16) * 16, photometric="miniswhite", **options)
    with open_image(path, Pixels(range=(0, 4080))) as image:
        assert (image.read(5, 6, 70, 80) == grey[5:75, 6:86, None]).all()
    colours = np.random.default_rng(5).integers(0, 256, (3, 256))
    tifffile.imwrite(path, grey, photometric="palette", colormap=(colours * 257).astype(np.uint16), **options)
    with open_image(path) as image:
        assert image.channels == 3 and (image.read(5, 6, 70, 80) == colours.T[grey[5:75, 6:86]]).all()


def test_exif_orientation_turns_size_and_pixels(tmp_path):
    path = tmp_path / "a.png"
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[274] = 6
    image.save(path, exif=exif)
    with open_image(path) as opened:
        assert (opened.height, opened.width) == (467, 301)
        assert (opened.read(0, 0, 467, 301) == np.rot90(PIXELS, -1)).all() and opened.orientation == 6
    with open_image(path, Pixels(exif=False)) as opened:
        assert (opened.read(0, 0, *PIXELS.shape[:2]) == PIXELS).all() and opened.orientation == 6


def test_large_photographs_are_copied_turned_or_as_stored(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    save_plain(path, PIXELS, exif=orientation(6), quality=95)
    monkeypatch.setattr(plain, "DECODED_BYTES", 1000)
    with open_image(path, Pixels(exif=False)) as image:
        assert not image.undividable and (image.height, image.width) == PIXELS.shape[:2]
        stored = image.read(0, 0, *PIXELS.shape[:2]).astype(int)
    assert np.abs(stored - np.asarray(Image.open(path))).max() <= 1
    turned = spooled(path, Pixels(), tmp_path / "spool")
    with open_image(turned) as image:
        assert np.abs(image.read(0, 0, *PIXELS.shape[1::-1]) - np.rot90(stored, -1)).max() <= 1


def test_broken_files_are_named(tmp_path):
    whole = tmp_path / "whole.tif"
    tifffile.imwrite(whole, PIXELS, tile=(64, 64), photometric="rgb")
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[:200_000])
    text = tmp_path / "text.png"
    text.write_text("hello")
    stub = tmp_path / "stub.tif"
    stub.write_bytes(b"II*\0")
    for path in (cut, text, stub, tmp_path / "none.png"):
        with pytest.raises(UserError, match=path.name):
            open_image(path).read(0, 0, 301, 467)


def test_scaled_reads_the_same_ground(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), PIXELS[:300, :400, ::-1])
    scaled = Scaled(open_image(path), 0.5)
    assert (scaled.height, scaled.width) == (150, 200)
    small = cv2.resize(PIXELS[:300, :400], (200, 150), interpolation=cv2.INTER_AREA)
    assert (scaled.read(20, 30, 50, 60) == small[20:70, 30:90]).all()


def test_only_flat_glass_is_blank(tmp_path):
    pixels = np.full((600, 800, 3), 243, np.uint8)
    pixels[100:400, 100:500] = PIXELS[:300, :400] // 2 + 60
    pixels[450:460, 700:712] = 90  # a speck is content
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), pixels)
    with open_image(path) as image:
        content = content_map(image)
        where = regions("content", "a", image)
    assert content.is_blank(500, 50, 80, 300) and not where.keep(500, 50, 80, 300)
    assert not content.is_blank(440, 690, 40, 40)
    assert not content.is_blank(90, 90, 20, 20)
    assert 0.6 < content.share < 0.8


def test_boxes_restrict_the_regions(tmp_path):
    path, boxes = tmp_path / "a.png", tmp_path / "boxes.csv"
    cv2.imwrite(str(path), PIXELS)
    boxes.write_text("image_id,y,x,height,width\na,10,20,30,40\n")
    with open_image(path) as image:
        where = regions(str(boxes), "a", image)
        assert where.keep(0, 0, 11, 21) and not where.keep(0, 0, 10, 20)
        boxes.write_text("image_id,y,x,height,width\na,290,20,30,40\n")
        with pytest.raises(UserError, match="not inside"):
            regions(str(boxes), "a", image)


def test_more_than_8_bits_and_other_channels_are_shown_as_asked(tmp_path):
    deep = (PIXELS.astype(np.uint16) * 16)[..., [0, 1, 2, 2]]
    shown = Pixels(range=(0, 4080), bands=(3, 1, 0))
    for name, options in (("map", {}), ("tiles", {"tile": (64, 64), "compression": "deflate"})):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, deep, photometric="minisblack", planarconfig="contig", byteorder=">", **options)
        with pytest.raises(UserError, match=r"uint16 pixels; set competition.pixels.range"):
            open_image(path)
        with pytest.raises(UserError, match="names channel 4, but .* has 4, counted from 0"):
            open_image(path, Pixels(range=(0, 1), bands=(0, 1, 4)))
        with open_image(path, shown) as image:
            assert (image.read(5, 6, 70, 80) == PIXELS[5:75, 6:86, [2, 1, 0]]).all()
    grey = tmp_path / "grey.png"
    cv2.imwrite(str(grey), deep[..., 0])
    cv2.imwrite(str(tmp_path / "colour.png"), deep[..., 2::-1])
    with pytest.raises(UserError, match="has uint16 pixels; set competition.pixels.range"):
        open_image(tmp_path / "colour.png")
    with open_image(tmp_path / "colour.png", Pixels(range=(0, 4080))) as image:
        assert (image.read(5, 6, 70, 80) == PIXELS[5:75, 6:86]).all()
    with pytest.raises(UserError, match="has uint16 pixels; set competition.pixels.range"):
        open_image(grey)
    with open_image(grey, Pixels(range=(0, 4080))) as image:
        assert (image.read(0, 0, 301, 467) == PIXELS[..., :1]).all()


def test_pixels_that_make_no_sense_are_refused():
    for wrong in ({"range": (5, 5)}, {"range": (1,)}, {"bands": (0, 1)}):
        with pytest.raises(ValueError, match="expected"):
            Pixels(**wrong)


SMOOTH = cv2.GaussianBlur(cv2.resize(PIXELS, (1500, 1200), interpolation=cv2.INTER_CUBIC), (0, 0), 9)
JPEGS = {
    "tables_once": {"tile": (256, 256), "compression": "jpeg"},
    "rgb": {"tile": (128, 256), "compression": "jpeg", "compressionargs": {"outcolorspace": "rgb"}},
    "strips": {"rowsperstrip": 64, "compression": "jpeg"},
    "one_strip": {"rowsperstrip": 1200, "compression": "jpeg"},
}


@pytest.mark.parametrize("side", [150, 187, 300, 700, 1400])
@pytest.mark.parametrize("layout", JPEGS)
def test_a_thumbnail_of_jpeg_is_the_shrunken_image(tmp_path, monkeypatch, layout, side):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, SMOOTH, photometric="rgb", **JPEGS[layout])
    with open_image(path) as image:
        exact = image.shrunk(round(side * 1200 / 1500), side, 0, 0, 1200, 1500)
        whole = []
        monkeypatch.setattr(TiffReader, "_decode", lambda s, i, real=TiffReader._decode: whole.append(i) or real(s, i))
        small = image.thumbnail(side)
    assert bool(whole) == (side == 1400), "1/2 to 1/8 of the frequencies are enough"
    assert small.shape == exact.shape
    assert np.abs(small.astype(int) - exact).mean() < 1.5


def test_a_thumbnail_is_made_from_the_coarsest_level_that_is_large_enough(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(np.full((1200, 1500, 3), 200, np.uint8), photometric="rgb", tile=(256, 256), subifds=2)
        for grey, size in ((120, (600, 750)), (40, (300, 375))):
            file.write(np.full((*size, 3), grey, np.uint8), photometric="rgb", tile=(256, 256), subfiletype=1)
    with open_image(path) as image:
        assert {side: int(image.thumbnail(side).max()) for side in (1000, 700, 376, 100)} == {
            1000: 200, 700: 120, 376: 120, 100: 40,
        }  # fmt: skip
        assert image.thumbnail(100).shape == (80, 100, 3)
        assert (image.read(0, 0, 5, 5) == 200).all()


@pytest.mark.parametrize("order", ["hwc", "chw", "hw"])
def test_arrays_are_read_by_window(tmp_path, order):
    values = np.random.default_rng(1).normal(280, 9, (50, 70, 3)).astype(np.float32)
    values[3, 4] = np.nan
    stored = {"hwc": values, "chw": values.transpose(2, 0, 1), "hw": values[..., 0]}[order]
    np.save(tmp_path / "a.npy", stored)
    with pytest.raises(UserError, match="has float32 pixels"):
        open_image(tmp_path / "a.npy")
    with open_image(tmp_path / "a.npy", Pixels(range=(250, 310))) as reader:
        assert (reader.height, reader.width, reader.channels) == (50, 70, 1 if order == "hw" else 3)
        seen = reader.read(3, 4, 20, 30)
    plain = values if order != "hw" else np.repeat(values[..., :1], 3, axis=-1)
    expected = np.clip((np.nan_to_num(plain[3:23, 4:34], nan=250) - 250) * 4.25 + 0.5, 0, 255).astype(np.uint8)
    assert (seen == expected).all() and not seen[0, 0].any() and np.ptp(seen) > 100
    np.save(tmp_path / "b.npy", np.zeros((2, 3, 4, 5)))
    with pytest.raises(UserError, match=r"an array \(2, 3, 4, 5\) of float64; numbers"):
        open_image(tmp_path / "b.npy", Pixels(range=(0, 1)))
    np.save(tmp_path / "c.npy", np.zeros((5, 30, 40), np.uint8))
    with pytest.raises(UserError, match=r"\(5, 30, 40\), whose channels must come last; np.moveaxis does that"):
        open_image(tmp_path / "c.npy")


def test_channels_in_files_of_their_own(tmp_path, monkeypatch):
    values = np.random.default_rng(1).integers(0, 4096, (3, 40, 60)).astype(np.uint16)
    for band, plane in zip(("B04", "B03", "B02"), values, strict=True):
        tifffile.imwrite(tmp_path / f"chip_{band}.tif", plane)
    pixels = Pixels(files=("B04", "B03", "B02"), range=(0, 4095))
    with open_image(tmp_path / "chip_B04.tif", pixels) as reader:
        seen = reader.read(5, 6, 20, 30)
    assert (seen == (values[:, 5:25, 6:36] * (255 / 4095) + 0.5).astype(np.uint8).transpose(1, 2, 0)).all()
    with pytest.raises(UserError, match="does not end in B04, the first of competition.pixels.files"):
        open_image(tmp_path / "chip_B03.tif", pixels)
    assert [path.name[-7:-4] for path in files_of(tmp_path / "chip_B04.tif", pixels)] == ["B04", "B03", "B02"]
    plain._decoded.cache_clear()
    for i, band in enumerate(pixels.files):
        cv2.imwrite(str(tmp_path / f"small_{band}.png"), (values[i] // 16).astype(np.uint8))
    with open_image(tmp_path / "small_B04.png", Pixels(files=pixels.files)) as reader:
        for y in (0, 5):
            assert (reader.read(y, 6, 20, 30) == values[:, y : y + 20, 6:36].transpose(1, 2, 0) // 16).all()
    assert plain._decoded.cache_info().misses == 3, "each file is decoded once, not for every window"
    monkeypatch.setattr(plain, "DECODED_BYTES", 100)
    for band in pixels.files:
        path = tmp_path / f"whole_{band}.jpg"
        cv2.imwrite(str(path), np.zeros((40, 60), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    with pytest.raises(UserError, match="can only be decoded whole; convert them to tiled TIFFs"):
        open_image(tmp_path / "whole_B04.jpg", Pixels(files=pixels.files))
    (tmp_path / "chip_B02.tif").unlink()
    with pytest.raises(UserError, match="there is no image .*chip_B02.tif"):
        open_image(tmp_path / "chip_B04.tif", pixels)


def nodata_tag(text):
    return {"extratags": [(42113, 2, 0, text, True)]}


@pytest.mark.parametrize(
    ("kind", "text", "stored"),
    [("int16", "-32768", -32768), ("uint16", "65535", 65535), ("float32", "-9999", -9999.0), ("float32", "nan", np.nan),
     ("float32", "-3.4028235e+38", np.finfo(np.float32).min), ("float32", "", np.inf), ("float64", "1e20", 1e20)],
)  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"tile": (64, 64), "compression": "deflate"}])
def test_pixels_that_were_not_measured_are_black(tmp_path, kind, text, stored, options):
    values = (PIXELS.astype(np.float64) + 1).astype(kind)
    values[:40, :, :] = stored
    values[50:60, :, 1] = stored  # one channel alone
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="rgb", **options, **(nodata_tag(text) if text else {}))
    with open_image(path, Pixels(range=(1, 256))) as image:
        seen = image.read(0, 0, *PIXELS.shape[:2])
    assert not seen[:40].any() and not seen[50:60, :, 1].any()
    assert (seen[60:] == PIXELS[60:]).all() and (seen[50:60, :, 0] == PIXELS[50:60, :, 0]).all()


def test_nodata_of_8_bits_is_of_whole_pixels(tmp_path):
    values = PIXELS.copy()
    values[:40] = 255
    values[40:50, :, 0] = 255  # saturated
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", **nodata_tag("255"))
    with open_image(tmp_path / "a.tif") as image:
        seen = image.read(0, 0, 60, 467)
    assert not seen[:40].any() and (seen[40:] == values[40:60]).all()
    for word in ("-9999", "words", "0"):  # no value of 8 bits, no number, and what is black already
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", **nodata_tag(word))
        with open_image(tmp_path / "a.tif") as image:
            assert (image.read(0, 0, 60, 467) == values[:60]).all()


def test_arrays_and_rasters_without_measurement_are_black(tmp_path):
    values = PIXELS.astype(np.float32)
    values[:40] = np.nan
    np.save(tmp_path / "a.npy", values)
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "height": 301, "width": 467, "count": 3, "dtype": "int16", "nodata": -1}
    with rasterio.open(tmp_path / "b.tif", "w", **profile) as raster:
        raster.write(np.where(np.isnan(values), -1, values).astype(np.int16).transpose(2, 0, 1))
    pytest.importorskip("rasterio.shutil").copy(tmp_path / "b.tif", tmp_path / "b.vrt", driver="VRT")
    for name in ("a.npy", "b.tif", "b.vrt"):
        with open_image(tmp_path / name, Pixels(range=(-10, 245))) as image:
            seen = image.read(0, 0, 301, 467)
        assert not seen[:40].any() and (seen[40:] == np.clip(PIXELS[40:].astype(int) + 10, 0, 255)).all()
