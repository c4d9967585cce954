"""Arrays that lie in files: NumPy's (.npy), memory-mapped, and what other formats hold. Only windows are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from lib.config.competition import Pixels
from lib.errors import UserError, reading
from lib.imaging.readers.base import ImageReader

ARRAY_SUFFIXES = (".npy",)
ZIP_START = b"PK"
MOST_CHANNELS = 32  # hardly any image has more channels
FIRST_AXIS_CHANNELS = 4  # a first axis this short holds the channels, where the last axis is longer


class ArrayLike(Protocol):
    """What is read like an array of NumPy, wherever its values lie."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, index: tuple[int | slice, ...]) -> np.ndarray: ...


@dataclass(frozen=True)
class Axes:
    """Which axes of an array are the rows, columns, channels and slices of images, counted from 0."""

    rows: int
    columns: int
    channels: int | None = None
    slices: int | None = None


class ArrayImage(ImageReader):
    """An image, or the slices of a volume, in an array: `read` gives the stored values (h, w, C)."""

    windowed = True

    def __init__(
        self, path: Path, values: ArrayLike, axes: Axes, number: int | None = None,
        levels: tuple[ArrayLike, ...] = (), close: Callable[[], None] = lambda: None,
    ):  # fmt: skip
        """`number`: the slice that is read. `levels`: the same array at smaller sizes, the largest first."""
        self.path, self._values, self._axes, self._number, self._close = path, values, axes, number or 0, close
        self._levels = levels
        self.height, self.width = int(values.shape[axes.rows]), int(values.shape[axes.columns])
        self.channels = 1 if axes.channels is None else int(values.shape[axes.channels])
        self.slices = 0 if axes.slices is None or number is not None else int(values.shape[axes.slices])
        self.depth = "uint8" if values.dtype == bool else values.dtype.name

    def slice(self, number: int) -> ImageReader:
        return ArrayImage(self.path, self._values, self._axes, number, self._levels, self._close)

    def overview(self, side: int) -> ImageReader:
        """The smallest level that is large enough."""
        a = self._axes
        fits = [one for one in self._levels if max(one.shape[a.rows], one.shape[a.columns]) >= side]
        return ArrayImage(self.path, fits[-1], a, self._number) if fits else self

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        a = self._axes
        index: list[int | slice] = [0] * len(self._values.shape)
        index[a.rows], index[a.columns] = slice(y, y + h), slice(x, x + w)
        kept = [a.rows, a.columns]
        if a.channels is not None:
            index[a.channels] = slice(None)
            kept.append(a.channels)
        if a.slices is not None:
            index[a.slices] = self._number
        with reading(self.path, "damaged"):
            values = np.asarray(self._values[tuple(index)])
        values = values.transpose([sorted(kept).index(axis) for axis in kept])
        values = values if a.channels is not None else values[..., None]
        return np.ascontiguousarray(values.view(np.uint8) if values.dtype == bool else values)

    def close(self) -> None:
        self._close()


def open_array(path: Path, pixels: Pixels) -> ImageReader:
    """(H, W), (H, W, C), (H, W, 1, C), or (C, H, W) of few channels; of bool or any number.

    With `pixels.slice_axis` each of them is a slice.
    """
    with reading(path, "not a readable array"):
        with path.open("rb") as file:
            if not file.read(len(MAGIC_PREFIX)).startswith((MAGIC_PREFIX, ZIP_START)):
                # numpy would take it for a pickle, and advise to run the code in it
                raise ValueError("it does not begin as np.save writes it")
        values = np.load(path, mmap_mode="r")  # raises where the file is shorter than its header says
    if not isinstance(values, np.ndarray):
        values.close()
        raise UserError(f"{path} is an archive of arrays (.npz); save each of them alone with np.save")
    return ArrayImage(path, values, axes_of(path, values, pixels))


def axes_of(path: Path, values: ArrayLike, pixels: Pixels, slice_axis: int | None = None) -> Axes:
    """The axes of an array, by its shape. Raises UserError where it is no image, nor images along an axis of slices.

    `slice_axis`: where `pixels` name none.
    """
    axis, shape = pixels.slice_axis if pixels.slice_axis is not None else slice_axis, tuple(values.shape)
    rest = [i for i in range(len(shape)) if i != axis]
    if len(rest) > 3:  # axes of length 1, such as those between pixels and annotators, are left out
        rest = [*rest[:2], *(i for i in rest[2:] if shape[i] > 1)]
    if axis is not None and axis >= len(shape):
        raise UserError(
            f"{path} is an array {shape}, which has no axis {axis}; correct competition.pixels.slice_axis, "
            "which counts from 0"
        )
    if len(rest) not in (2, 3) or values.dtype.kind not in "buif" or not all(shape):
        hint = "; set competition.pixels.slice_axis where it holds slices" if len(shape) == 4 else ""
        raise UserError(f"{path} is an array {shape} of {values.dtype}; numbers (H, W) or (H, W, C) are needed{hint}")
    if len(rest) == 2:
        return Axes(*rest, None, axis)
    first, second, last = (shape[i] for i in rest)
    any_number = pixels.channels and first <= MOST_CHANNELS and first < min(second, last)
    if (first <= FIRST_AXIS_CHANNELS or any_number) and last > FIRST_AXIS_CHANNELS and last > first:
        return Axes(rest[1], rest[2], rest[0], axis)
    if last > max(MOST_CHANNELS, first):
        raise UserError(f"{path} is an array {shape}, whose channels must come last; np.moveaxis does that")
    return Axes(*rest, axis)
