"""Zarr and OME-Zarr, read with zarr: a folder that counts as one file, whose chunks under a window are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.config.competition import Pixels
from lib.errors import UserError, reading
from lib.imaging.readers.array import ArrayImage, ArrayLike, Axes, axes_of
from lib.imaging.readers.base import ImageReader, optional
from lib.imaging.volumes.hdf5 import chosen_array

ZARR_SUFFIXES = (".zarr",)


def open_zarr(path: Path, pixels: Pixels) -> ImageReader:
    """An array, or a group: that of `pixels.dataset`, the finest level of OME-Zarr, or the only array."""
    zarr = optional("zarr", "zarr", path)
    with reading(path, "not a readable Zarr folder"):
        root = zarr.open(str(path), mode="r")
        if not hasattr(root, "shape"):
            attributes = dict(root.attrs)
            images = attributes.get("ome", attributes).get("multiscales", [])
            arrays = dict(_arrays(root, ""))
    if hasattr(root, "shape"):
        return ArrayImage(path, root, axes_of(path, root, pixels))
    if images and not pixels.dataset:
        return _open_levels(path, images[0], arrays, pixels)
    values = chosen_array(path, arrays, pixels.dataset)
    return ArrayImage(path, values, axes_of(path, values, pixels))


def _arrays(group: Any, prefix: str) -> Iterator[tuple[str, ArrayLike]]:
    for name, array in group.arrays():
        yield prefix + name, array
    for name, inner in group.groups():
        yield from _arrays(inner, f"{prefix}{name}/")


def _open_levels(path: Path, image: dict, arrays: dict[str, ArrayLike], pixels: Pixels) -> ImageReader:
    """OME-Zarr names its axes, and the levels of its pyramid. An axis of one value is left out."""
    with reading(path, "not a readable OME-Zarr", "correct its .zattrs or zarr.json"):
        levels = [arrays[entry["path"].strip("/")] for entry in image["datasets"]]
        names = [axis["name"] if isinstance(axis, dict) else axis for axis in image.get("axes", "tczyx")]
        finest = levels[0]
        place = {name: i for i, name in enumerate(names)}
        rows, columns = place["y"], place["x"]
    many = [name for name in names if name not in "yxc" and finest.shape[place[name]] > 1]
    if len(finest.shape) != len(names) or len(many) > 1:
        raise UserError(
            f"{path} has the axes {', '.join(names)} of {tuple(finest.shape)}; rows, columns, channels and one axis of "
            "slices are read: split it into a folder for each time"
        )
    slices = place[many[0]] if many else place.get("z")
    slices = pixels.slice_axis if pixels.slice_axis is not None else slices
    return ArrayImage(path, finest, Axes(rows, columns, place.get("c"), slices), levels=tuple(levels[1:]))
