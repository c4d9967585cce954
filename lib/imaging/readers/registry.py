"""Which reader reads a file: by the end of its name, from those of the project and of plugins (kind `reader`).

A reader is called with (path, `competition.pixels`) and gives the values as the file stores them: `read(y, x, h, w)`
returns (h, w, C) of any type of numbers; `depth` names the type, and `nodata` the value of pixels that were not
measured. A reader of volumes has `slices`, and `slice(number)` returns the reader of one slice. What is below
`open_stored` scales values and chooses channels, in the same way for all formats.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib.config.competition import Pixels
from lib.errors import UserError
from lib.imaging.readers.array import ARRAY_SUFFIXES, open_array
from lib.imaging.readers.base import ImageReader, as_rgb, check_pixels
from lib.imaging.readers.geo import GEO_SUFFIXES, GeoReader
from lib.imaging.readers.plain import PLAIN_SUFFIXES, open_plain
from lib.imaging.readers.slide import SLIDE_SUFFIXES, SlideReader
from lib.imaging.readers.tiff import TIFF_SUFFIXES, TiffReader
from lib.imaging.volumes.dicom import DICOM_SUFFIXES, open_dicom
from lib.imaging.volumes.hdf5 import HDF5_SUFFIXES, open_hdf5
from lib.imaging.volumes.nifti import NIFTI_SUFFIXES, open_nifti
from lib.imaging.volumes.ome_zarr import ZARR_SUFFIXES, open_zarr
from lib.plugins import find, names, register

IMAGES_ALONE = (*TIFF_SUFFIXES, *PLAIN_SUFFIXES, *SLIDE_SUFFIXES, *GEO_SUFFIXES, *ARRAY_SUFFIXES, *DICOM_SUFFIXES,
                *HDF5_SUFFIXES)  # fmt: skip
"""Files that are one image each unless `pixels.slice_axis` says that they hold slices."""


def open_stored_tiff(path: Path, pixels: Pixels) -> ImageReader:
    """All pages of one size are channels; with `pixels.slice_axis: 0` each page is a slice."""
    first = TiffReader(path, None)
    pages, channels = first.page_count, first.channel_page_count
    if pixels.slice_axis is not None:
        return TiffStack(first, channels)
    if pages == channels or not pixels.channels:
        return first
    first.close()
    return TiffReader(path, None, 0, range(pages))


class TiffStack(ImageReader):
    """A TIFF whose pages are slices; `channels` pages each, where its channels lie on pages."""

    def __init__(self, first: TiffReader, channels: int):
        self.path, self.height, self.width, self.channels = first.path, first.height, first.width, first.channels
        self.slices, self._channels, self._first = first.page_count // channels, channels, first

    def slice(self, number: int) -> ImageReader:
        self._first.close()
        return TiffReader(self.path, None, 0, range(number * self._channels, (number + 1) * self._channels))

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        return self._first.read(y, x, h, w)

    def close(self) -> None:
        self._first.close()


def _open_stored_plain(path: Path, pixels: Pixels) -> ImageReader:
    return open_plain(path, pixels, stored=True)


for _suffixes, _reader in (
    (TIFF_SUFFIXES, open_stored_tiff), (PLAIN_SUFFIXES, _open_stored_plain), (SLIDE_SUFFIXES, SlideReader),
    (GEO_SUFFIXES, GeoReader), (ARRAY_SUFFIXES, open_array), (DICOM_SUFFIXES, open_dicom),
    (HDF5_SUFFIXES, open_hdf5), (NIFTI_SUFFIXES, open_nifti), (ZARR_SUFFIXES, open_zarr),
):  # fmt: skip
    for _suffix in _suffixes:
        register("reader", _suffix)(_reader)
SHOWN: dict[Callable, Callable[[Path, Pixels], ImageReader]] = {
    open_stored_tiff: TiffReader,
    _open_stored_plain: open_plain,
}
"""Readers that also give red, green and blue themselves, because they keep them decoded."""


def suffixes() -> tuple[str, ...]:
    """How the names of images end, those that plugins read included."""
    return tuple(names("reader"))


def suffix_of(path: str | Path) -> str:
    """How the name of a file ends, as the longest of `suffixes`; empty where no reader is known.

    >>> suffix_of("ct/a.NII.GZ"), suffix_of("a.txt")
    ('.nii.gz', '')
    """
    name = Path(path).name.lower()
    return max((one for one in suffixes() if name.endswith(one) and name != one), key=len, default="")


def is_image(path: Path) -> bool:
    """Whether there is a file, or a folder that counts as one (Zarr), with a name that a reader is known for."""
    suffix = suffix_of(path)
    return bool(suffix) and (path.is_dir() if suffix in ZARR_SUFFIXES else path.is_file())


def file_and_slice(path: Path) -> tuple[Path, int | None]:
    """The file of an image and the number of a slice in it: `ct.nii.gz/0012` is slice 12 of `ct.nii.gz`.

    The number is None for an image that is a whole file.
    """
    if path.name.isdecimal() and suffix_of(path.parent) and is_image(path.parent):
        return path.parent, int(path.name)
    return path, None


def named_path(path: Path) -> Path:
    """The path by which templates name an image: that of slice 12 of `ct.nii.gz` is `ct/0012`.

    >>> named_path(Path("in/a.png"))
    PosixPath('in/a.png')
    """
    file, number = file_and_slice(path)
    return path if number is None else file.with_name(stem_of(file)) / path.name


def stem_of(path: Path) -> str:
    """The name of a file without its suffix, of which `.nii.gz` is one.

    >>> stem_of(Path("ct/a.nii.gz")), stem_of(Path("a.b.png"))
    ('a', 'a.b')
    """
    return path.name[: len(path.name) - (len(suffix_of(path)) or len(path.suffix))]


def images_in(file: Path, pixels: Pixels) -> list[Path]:
    """The images of a file: itself, or its slices, as `ct.nii.gz/0000`."""
    count = volume_slices(file, pixels)
    return [file / f"{number:04}" for number in range(count)] or [file]


def open_stored(path: Path, pixels: Pixels) -> ImageReader:
    """A reader of the values that a file, or a slice of a volume, stores. Raises UserError where it is broken."""
    file, number = file_and_slice(path)
    reader = _entry(file)(file, pixels)
    if number is None and not reader.slices:
        return reader
    if number is None or number >= reader.slices:
        count = reader.slices
        reader.close()
        named = "none" if number is None else f"number {number}"
        raise UserError(
            f"{file} holds {count or 'no'} slices, and {path} names {named}; its images are {file.name}/0000 and those "
            "after it"
        )
    return reader.slice(number)


def open_shown(path: Path, pixels: Pixels) -> ImageReader:
    """A reader of red, green and blue of 8 bits, as `pixels` says without `channels`."""
    direct = SHOWN.get(_entry(file_and_slice(path)[0]))
    if direct and pixels.slice_axis is None:
        return direct(path, pixels)
    return Shown(open_stored(path, pixels), pixels)


def _entry(file: Path) -> Callable[[Path, Pixels], ImageReader]:
    suffix = suffix_of(file)
    if not is_image(file) and not file.is_file():
        raise UserError(f"there is no image {file}")
    return find("reader", suffix, "a plugin") if suffix else _open_stored_plain


def volume_slices(path: Path, pixels: Pixels) -> int:
    """How many images a file holds as slices; 0 where it is one image."""
    if pixels.slice_axis is None and suffix_of(path) in IMAGES_ALONE:
        return 0
    return _slices(path, pixels.slice_axis, pixels.dataset, path.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _slices(path: Path, slice_axis: int | None, dataset: str, _changed: int) -> int:
    with _entry(path)(path, Pixels(slice_axis=slice_axis, dataset=dataset)) as reader:
        return reader.slices


class Shown(ImageReader):
    """Stored values as red, green and blue of 8 bits."""

    def __init__(self, stored: ImageReader, pixels: Pixels):
        self.inner, self.pixels, self.path = stored, pixels, stored.path
        self.height, self.width, self.channels = stored.height, stored.width, stored.channels
        self.windowed, self.depth, self.nodata = stored.windowed, stored.depth, stored.nodata
        self.orientation, self.undividable = stored.orientation, stored.undividable
        check_pixels(self.path, self.depth, self.channels, pixels)

    def overview(self, side: int) -> ImageReader:
        smaller = self.inner.overview(side)
        return self if smaller is self.inner else Shown(smaller, self.pixels)

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        return as_rgb(self.inner.read(y, x, h, w), self.pixels, self.nodata)

    def close(self) -> None:
        self.inner.close()
