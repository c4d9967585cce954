"""HDF5, read with h5py: an array inside the file is the image, or a volume of slices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lib.config.competition import Pixels
from lib.errors import UserError, reading
from lib.imaging.readers.array import ArrayImage, ArrayLike, axes_of
from lib.imaging.readers.base import ImageReader, optional

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


def open_hdf5(path: Path, pixels: Pixels) -> ImageReader:
    """The array of `pixels.dataset`, else the only one with two or more axes of numbers."""
    file, arrays = _opened(path)
    try:
        values = chosen_array(path, arrays, pixels.dataset)
        return ArrayImage(path, values, axes_of(path, values, pixels), close=file.close)
    except UserError:
        file.close()
        raise


def only_array(path: Path) -> str:
    """The name of the only array of a file that may be an image. Raises UserError where there is another number."""
    file, arrays = _opened(path)
    with file:
        chosen = chosen_array(path, arrays, "")
        return next(name for name, one in arrays.items() if one is chosen)


def _opened(path: Path):
    """(the file, its arrays by name)."""
    h5py = optional("h5py", "h5py", path)
    arrays: dict[str, ArrayLike] = {}
    with reading(path, "not a readable HDF5 file"):
        file = h5py.File(path, "r", locking=False)
        file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return file, arrays


def chosen_array(path: Path, arrays: Mapping[str, ArrayLike], name: str) -> ArrayLike:
    """The array that is called `name`; without a name the only one that may be an image. Raises UserError."""
    name = name.strip("/")
    images = [key for key, one in arrays.items() if len(one.shape) > 1 and one.dtype.kind in "buif"]
    if name in images or (not name and len(images) == 1):
        return arrays[name or images[0]]
    fault = f"no array {name!r}" if name else f"{len(images)} arrays of two axes or more"
    raise UserError(
        f"{path} has {fault}; it has {', '.join(arrays) or 'none'}: name one in competition.pixels.dataset (of labels: "
        "competition.labels.dataset)"
    )
