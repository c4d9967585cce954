import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.content import content_map
from lib.imaging.reader import Scaled, open_image
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


def test_one_huge_uncompressed_strip_is_mapped_not_read(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", rowsperstrip=301)
    with open_image(path) as image:
        image._file.filehandle.close()  # whatever is read now comes from the map
        assert (image.read(7, 9, 50, 60) == PIXELS[7:57, 9:69]).all()


def test_grey_and_multi_page_tiffs(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([PIXELS[..., 0], PIXELS[..., 1]]), photometric="minisblack")
    with open_image(path) as image:
        window = image.read(5, 6, 20, 30)
    assert (window == PIXELS[5:25, 6:36, :1]).all()


def test_exif_orientation_turns_size_and_pixels(tmp_path):
    path = tmp_path / "a.png"
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[274] = 6
    image.save(path, exif=exif)
    with open_image(path) as opened:
        assert (opened.height, opened.width) == (467, 301)
        assert (opened.read(0, 0, 467, 301) == np.rot90(PIXELS, -1)).all()


def test_broken_files_are_named(tmp_path):
    whole = tmp_path / "whole.tif"
    tifffile.imwrite(whole, PIXELS, tile=(64, 64), photometric="rgb")
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[:200_000])
    text = tmp_path / "text.png"
    text.write_text("hello")
    for path in (cut, text, tmp_path / "none.png"):
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
        with pytest.raises(UserError, match=r"uint16 pixels; say in competition.pixels.range"):
            open_image(path)
        with pytest.raises(UserError, match="names channel 4, but .* has 4, counted from 0"):
            open_image(path, Pixels(range=(0, 1), bands=(0, 1, 4)))
        with open_image(path, shown) as image:
            assert (image.read(5, 6, 70, 80) == PIXELS[5:75, 6:86, [2, 1, 0]]).all()
    grey = tmp_path / "grey.png"
    cv2.imwrite(str(grey), deep[..., 0])
    cv2.imwrite(str(tmp_path / "colour.png"), deep[..., :3])
    with pytest.raises(UserError, match="16 bits a colour"):
        open_image(tmp_path / "colour.png")
    with pytest.raises(UserError, match="more than 8 bits"):
        open_image(grey)
    with open_image(grey, Pixels(range=(0, 4080))) as image:
        assert (image.read(0, 0, 301, 467) == PIXELS[..., :1]).all()


def test_pixels_that_make_no_sense_are_refused():
    for wrong in ({"range": (5, 5)}, {"range": (1,)}, {"bands": (0, 1)}):
        with pytest.raises(ValueError, match="expected"):
            Pixels(**wrong)
