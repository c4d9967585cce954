"""Every image reader on damaged files."""

import functools
import io

import numpy as np
import pytest
import tifffile
from fuzzing import bounded_memory, broken, fuzzed, only_sentences  # noqa: F401 (a fixture)
from hypothesis import strategies as st
from PIL import Image

from lib.competition.labels import mask_file
from lib.competition.labels.mask_file import MaskFile
from lib.config.competition import Pixels
from lib.imaging.reader import open_image
from lib.imaging.readers import plain

PIXELS = np.random.default_rng(3).integers(0, 255, (37, 53, 3)).astype(np.uint8)
GREY = PIXELS[..., 0]
TILES, STRIPS = {"tile": (16, 32), "compression": "deflate"}, {"rowsperstrip": 8, "compression": "lzw"}
TIFFS = {
    "plain": (PIXELS, {}),
    "tiles": (PIXELS, TILES),
    "strips": (PIXELS, STRIPS),
    "predictor": (PIXELS, {**TILES, "predictor": True}),
    "zstd": (PIXELS, {"tile": (16, 32), "compression": "zstd"}),
    "packbits": (GREY, {"compression": "packbits"}),
    "jpeg": (PIXELS, {"tile": (16, 32), "compression": "jpeg"}),
    "planes": (PIXELS.transpose(2, 0, 1), {**STRIPS, "planarconfig": "separate", "photometric": "rgb"}),
    "pages": (PIXELS.transpose(2, 0, 1), {"photometric": "minisblack"}),
    "big": (PIXELS, {**TILES, "bigtiff": True}),
    "deep": (GREY.astype(np.uint16) * 16, TILES),
    "float": (GREY.astype(np.float32), TILES),
    "bits": (GREY > 99, {"photometric": "miniswhite"}),
    "nibbles": (GREY // 16, {"bitspersample": 4, "photometric": "minisblack"}),
    "ink": (np.dstack([PIXELS, GREY]), {**STRIPS, "photometric": "separated"}),
    "lab": (PIXELS, {**STRIPS, "photometric": "cielab"}),
    "palette": (GREY, {"photometric": "palette", "colormap": np.arange(768, dtype=np.uint16).reshape(3, 256) * 85}),
    "ome": (PIXELS.transpose(2, 0, 1)[None], {"ome": True, "metadata": {"axes": "ZCYX"}, "photometric": "minisblack"}),
}
PLAIN = {
    "a.png": (PIXELS, {}),
    "palette.png": (GREY, {"palette": True}),
    "deep.png": (GREY.astype(np.uint16) * 16, {}),
    "a.jpg": (PIXELS, {}),
    "progressive.jpg": (PIXELS, {"progressive": True}),
    "a.bmp": (PIXELS, {}),
    "palette.bmp": (GREY, {"palette": True}),
    "a.ppm": (PIXELS, {}),
    "deep.pgm": (GREY.astype(np.uint16) * 16, {}),
    "a.webp": (PIXELS, {}),
    "a.gif": (GREY, {}),
}
OTHERS = {
    "plain.ppm": f"P3 53 37 255 {' '.join(map(str, PIXELS.ravel()))}\n".encode(),
    "bits.ppm": b"P1\n# a comment\n53 37\n" + b" ".join(b"%d" % bit for bit in (GREY > 99).ravel()),
}  # fmt: skip
SETTINGS = st.sampled_from([Pixels(), Pixels(range=(0, 65535)), Pixels(range=(0, 255), bands=(0, 0, 0))])


def rle_bmp():
    """A BMP with run-lengths, which Pillow reads but does not write: two runs a row, from the bottom up."""
    file, rows = io.BytesIO(), []
    Image.fromarray(GREY).convert("P").save(file, "BMP")
    head = bytearray(file.getvalue())[: 54 + 256 * 4]
    head[30:34] = (1).to_bytes(4, "little")  # the compression
    for value in range(len(GREY)):
        rows.append(bytes([20, value, GREY.shape[1] - 20, 200, 0, 0]))
    return bytes(head) + b"".join(rows) + bytes([0, 1])


@functools.cache
def whole_file(name):
    """The bytes of an undamaged file."""
    if name in OTHERS:
        return OTHERS[name]
    if name == "rle.bmp":
        return rle_bmp()
    file = io.BytesIO()
    if name.removesuffix(".tif") in TIFFS:
        pixels, options = TIFFS[name.removesuffix(".tif")]
        tifffile.imwrite(file, pixels, **options)
        return file.getvalue()
    if name.endswith(".npy"):
        np.save(file, PIXELS if name == "a.npy" else np.asfortranarray(GREY.astype(">f4")))
        return file.getvalue()
    pixels, options = PLAIN[name]
    image = Image.fromarray(pixels)
    image = image.convert("P") if "palette" in options else image
    kind = {"jpg": "JPEG", "pgm": "PPM"}.get(name.rsplit(".")[-1], name.rsplit(".")[-1].upper())
    image.save(file, kind, **{key: value for key, value in options.items() if key != "palette"})
    return file.getvalue()


NAMES = [*(f"{name}.tif" for name in TIFFS), *PLAIN, *OTHERS, "rle.bmp", "a.npy", "fortran.npy"]


def look(path, pixels):
    """Reads windows at the corners; as a mask, too."""
    plain._decoded.cache_clear()  # other content was under this path
    mask_file._decoded.cache_clear()
    with only_sentences(), open_image(path, pixels) as image:
        height, width = image.height, image.width
        assert height > 0 and width > 0 and image.channels > 0
        for y, x in ((0, 0), (max(0, height - 9), max(0, width - 9)), (height // 2, width // 2)):
            box = y, x, min(9, height - y), min(9, width - x)
            window = image.read(*box)
            assert window.shape == (*box[2:], 3) and window.dtype == np.uint8
        if height * width < 1e6:
            assert image.thumbnail(20).dtype == np.uint8
    for coloured in (False, True):
        with only_sentences():
            mask = MaskFile(path, coloured)
            box = max(0, mask.height - 9), 0, min(9, mask.height), min(9, mask.width)
            assert mask.read(*box).shape[:2] == box[2:]


@pytest.mark.parametrize("name", NAMES)
@fuzzed(st.data(), SETTINGS)
def test_damaged_images_are_read_or_refused_in_one_sentence(tmp_path, name, data, pixels):
    path = tmp_path / name
    path.write_bytes(data.draw(broken(whole_file(name))))
    look(path, pixels)


@pytest.mark.parametrize("name", NAMES)
def test_the_files_that_are_damaged_are_readable(tmp_path, name):
    (tmp_path / name).write_bytes(whole_file(name))
    with open_image(tmp_path / name, Pixels(range=(0, 65535))) as image:
        seen = image.read(0, 0, image.height, image.width)
    assert np.ptp(seen) > 0
