"""Sample submissions that are a folder or a ZIP of image files: names, sizes and types of the files."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import tifffile
from PIL import Image

from lib.competition.codecs.file_form import copy_on_disk
from lib.errors import UserError, reading, reason_of
from lib.imaging.readers.base import optional
from lib.organiser_text import is_hidden

TIFF, HDF5, TEXTS = (".tif", ".tiff"), (".h5", ".hdf5"), (".geojson", ".json")


def names_of_files(sample: Path) -> list[str] | None:
    """The files of a sample that is a folder, or a ZIP of anything but one CSV, in order; None of other samples."""
    if sample.is_dir():
        found = [path.relative_to(sample) for path in sorted(sample.rglob("*")) if path.is_file()]
    elif sample.suffix.lower() == ".zip" and zipfile.is_zipfile(sample):
        with reading(sample, "not a readable ZIP"), zipfile.ZipFile(sample) as archive:
            found = [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]
    else:
        return None
    names = [path.as_posix() for path in found if not is_hidden(path)]
    return None if [PurePosixPath(name).suffix.lower() for name in names] == [".csv"] else names


def check_like_sample(answer: Path, sample: Path, names: Iterable[str]) -> None:
    """Raises UserError where files of an answer (a ZIP) differ from the sample's in name, size or type of pixels."""
    wanted = set(names_of_files(sample) or [])
    with _opened(answer) as ours, _opened(sample) as theirs:
        for name in names:
            if name not in wanted:
                raise UserError(f"{answer} holds {name}, which the sample submission {sample} does not ask for")
            one, other = (_head(open_file, name) for open_file in (ours, theirs))
            if one != other:
                raise UserError(
                    f"{answer}, {name} is {one}; in the sample submission {sample} it is {other}: see "
                    "competition.submission (size, codec), or leave sample empty"
                )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Callable[[str], BinaryIO]]:
    """What opens a file by its name, in a folder or a ZIP."""
    if path.is_dir():
        yield lambda name: (path / name).open("rb")
        return
    with zipfile.ZipFile(path) as archive:
        yield archive.open


def _head(open_file: Callable[[str], BinaryIO], name: str) -> str:
    """Size and type of an image's pixels, in words, from the head of its file."""
    try:
        with open_file(name) as file:
            suffix = PurePosixPath(name).suffix.lower()
            if suffix in HDF5:
                return "; ".join(_datasets(optional("h5py", "h5py", PurePosixPath(name)).File(file, "r")))
            if suffix == ".npy":
                with copy_on_disk(file, suffix) as copy:
                    return _words(np.load(copy, mmap_mode="r"))
            if suffix in TEXTS:
                return "a text"
            if suffix in TIFF:
                with tifffile.TiffFile(file) as tif:
                    page = tif.pages.first
                    return _words(page)
            with Image.open(file) as image:
                return f"{image.height} x {image.width} of Pillow's mode {image.mode}"
    except Exception as error:  # each library has its own kinds
        return f"not a readable image ({reason_of(error)})"


def _words(array) -> str:
    """Shape and type of anything like an array."""
    return f"{' x '.join(map(str, array.shape))} of {array.dtype}"


def _datasets(file) -> Iterator[str]:
    """Each dataset of an HDF5 file, in words."""
    with file:
        for name, dataset in sorted(file.items()):
            yield f"{name}: {_words(dataset)}" if hasattr(dataset, "shape") else name
