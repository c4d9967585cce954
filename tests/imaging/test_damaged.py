"""Headers that promise more than their file holds, and files that are something else."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from lib.competition.labels.mask_file import MaskFile
from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.reader import open_image

PIXELS = np.random.default_rng(3).integers(0, 255, (40, 50, 3)).astype(np.uint8)
ANY_RANGE = Pixels(range=(0, 65535))


def png_of(height, width):
    """A PNG whose header promises a size, with the pixels of another."""
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def bmp_of(height, width, compression=0):
    head = struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54)
    return head + struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, 8 if compression else 24, compression, 0, 0, 0, 0, 0
    )


def array_of(shape, kind="|u1", more=b"\0" * 64):
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + more


def gif_of(height, width):
    file = io.BytesIO()
    Image.fromarray(PIXELS[..., 0]).save(file, "GIF")
    data = bytearray(file.getvalue())
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


BOMBS = {
    "a.png": png_of(60_000, 60_000),
    "b.bmp": bmp_of(60_000, 60_000),
    "rle.bmp": bmp_of(60_000, 60_000, compression=1),
    "c.ppm": b"P6 60000 60000 255\n" + b"\0" * 50,
    "plain.ppm": b"P3 60000 60000 255\n" + b"0 " * 50,
    "bits.ppm": b"P4 2000000000 2000000000\n" + b"\0" * 50,
    "d.gif": gif_of(60_000, 60_000),
    "e.npy": array_of((60_000, 60_000)),
    "f.npy": array_of((2**62, 2**62)),
    "g.npy": array_of((-1, 64)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_memory_is_taken_for_what_a_header_promises(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BOMBS[name])
    tracemalloc.start()
    try:
        for attempt in (lambda: open_image(path).read(0, 0, 9, 9), lambda: MaskFile(path, False).read(0, 0, 9, 9)):
            with pytest.raises(UserError, match=rf"{name} is (damaged|not a readable)"):
                attempt()
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


def tag_of(path, code, value):
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[code].overwrite(value)


TILED = {"tile": (16, 16), "compression": "deflate"}


@pytest.mark.parametrize(
    ("options", "tags", "what"),
    [
        (TILED, {256: 2**31, 257: 2**31}, "promises .* pieces of 16 x 16 pixels and lists 12"),
        (TILED, {322: 2**20, 323: 2**20}, r"promises [\d.]+ GB of pixels, which \d+ bytes cannot hold"),
        (TILED, {322: 0}, "is damaged: it has 40 x 50 pixels in pieces of"),
        (TILED, {324: (2**31,) * 12}, r"is truncated: \d+ bytes, its header promises"),
        ({}, {257: 10**6, 278: 10**6}, "is truncated"),
        ({}, {256: 0}, "is damaged: it has 40 x 0 pixels in pieces of"),
        ({}, {258: (3, 8, 8)}, "b.tif"),
        ({}, {277: 60_000}, "b.tif"),
        ({"rowsperstrip": 8}, {278: 0}, r"is damaged: it has 40 x 50 pixels in pieces of \(0, 50\)"),
        ({"compression": "jpeg", "rowsperstrip": 40}, {257: 60_000, 256: 60_000, 278: 60_000}, "b.tif"),
    ],
)
def test_tiffs_whose_header_lies(tmp_path, options, tags, what):
    path = tmp_path / "b.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", metadata=None, **options)
    for code, value in tags.items():
        tag_of(path, code, value)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=what), open_image(path, ANY_RANGE) as image:
            image.read(0, 0, min(40, image.height), min(50, image.width))
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_a_segment_smaller_than_its_pixels_is_refused(tmp_path):
    path = tmp_path / "b.tif"
    tifffile.imwrite(path, PIXELS[:16, :16], photometric="rgb", compression="deflate", metadata=None)
    for code, value in {257: 30, 278: 30}.items():
        tag_of(path, code, value)
    with open_image(path) as image, pytest.raises(UserError, match="b.tif is damaged at segment 0"):
        image.read(0, 0, 30, 16)


def test_a_file_that_is_refused_is_closed(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(tifffile.TiffFile, "close", lambda self: closed.append(self.filename))
    tifffile.imwrite(tmp_path / "a.tif", PIXELS.astype(np.complex64), photometric="rgb")
    closed.clear()
    with pytest.raises(UserError, match="of a type that is not read"):
        open_image(tmp_path / "a.tif", ANY_RANGE)
    assert closed == ["a.tif"]


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".bmp", ".ppm", ".webp", ".gif", ".npy"])
@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 1000, b"hello", b"\xff" * 100, b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_files_that_are_no_images(tmp_path, suffix, data):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    for attempt in (lambda: open_image(path), lambda: MaskFile(path, True).read(0, 0, 1, 1)):
        with pytest.raises(UserError, match=rf"a\{suffix} is not a readable (TIFF|image|array|mask)") as found:
            attempt()
        assert "\n" not in str(found.value)


def test_no_program_is_started_for_a_file(tmp_path):
    """Pillow would hand PostScript to Ghostscript."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "EPS"
    with pytest.raises(UserError, match="not a readable image"):
        open_image(tmp_path / "a.png")


def test_an_archive_of_arrays_and_one_of_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", PIXELS)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(UserError, match="a.npy is an archive of arrays .*np.save"):
        open_image(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UserError, match="b.npy is not a readable array"):
        open_image(tmp_path / "b.npy")


def test_blank_images_are_no_bombs(tmp_path):
    """The strongest compression that honest files reach."""
    blank = np.zeros((9000, 9000), np.uint8)
    Image.fromarray(blank).save(tmp_path / "a.png", compress_level=9)
    Image.fromarray(blank > 0).save(tmp_path / "b.png", compress_level=9)
    Image.fromarray(blank).save(tmp_path / "c.gif")
    for name, codec in (("d", "deflate"), ("e", "lzw"), ("f", "zstd"), ("g", "packbits")):
        tifffile.imwrite(tmp_path / f"{name}.tif", blank, compression=codec, rowsperstrip=9000)
    Image.fromarray(blank > 0).save(tmp_path / "h.tif", compression="group4")
    for path in sorted(tmp_path.iterdir()):
        with open_image(path) as image:
            assert (image.height, image.width) == (9000, 9000), path
        mask = MaskFile(path, coloured=False)
        assert mask.height == 9000
