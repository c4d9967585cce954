"""Images with any channels: bands, files, slices and formulas, scaled to 8 or 16 bits."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from lib.config.channels import Channel
from lib.config.formula import parsed_formula
from lib.config.pixels import FITTED, Pixels
from lib.errors import UserError
from lib.imaging.channels.files import channel_path
from lib.imaging.channels.formulas import computed
from lib.imaging.channels.planes import Plane, checked_factors, is_deep
from lib.imaging.channels.ranges import (
    MOST_OF_A_STACK,
    SAMPLED_VALUES,
    WHOLE_8_BITS,
    evenly,
    evenly_thinned,
    range_of,
    spread_windows,
    type_range,
)
from lib.imaging.channels.stack import slices_of_stack
from lib.imaging.readers.base import ImageReader, WrongDepth
from lib.imaging.readers.registry import file_and_slice, open_stored

Range = tuple[float, float]


class ChannelsReader(ImageReader):
    """`read` gives (h, w, C) of `pixels.dtype`: 0 and the type's maximum are the ends of each channel's range.

    All channels of the first slice come first. Pixels that were not measured have the value that networks see as their
    channel's mean. Files are read by window, and coarser ones are enlarged to the size of the finest one.
    """

    def __init__(self, path: Path, pixels: Pixels, overview: int = 0):
        """`overview`: the least side of the level that is read of a file with several; 0 for the finest."""
        self.path, self.pixels, self._overview = path, pixels, overview
        self.count, self.dtype = pixels.count, pixels.dtype
        self._opened: dict[tuple[Path, str], ImageReader] = {}
        try:
            self._slices = [self._planes_at(offset) for offset in pixels.slices or (0,)]
            self._check(path)
        except BaseException:
            self.close()
            raise

    def _planes_at(self, offset: int) -> list[Plane]:
        """The channels that are read from files, `offset` slices after the image's own."""
        planes = []
        for channel in self.pixels.channels:
            if not channel.formula:
                path = channel_path(channel, self.path, offset, self.pixels)
                planes.append(self._plane(channel, path))
        return planes

    def _plane(self, channel: Channel, path: Path) -> Plane:
        key = path, channel.dataset
        if key not in self._opened:
            own = self.pixels.model_copy(update={"dataset": channel.dataset or self.pixels.dataset})
            reader = open_stored(path, own)
            smaller = reader.overview(self._overview) if self._overview else reader
            if smaller is not reader:
                reader.close()
            self._opened[key] = smaller
        reader, band = self._opened[key], channel.band or 0
        if band >= reader.channels:
            raise UserError(
                f"{path} lacks the channel {channel.name}: competition.pixels.channels names band {band}, and it has "
                f"{reader.channels}, counted from 0"
            )
        self._check_depth(channel, path, reader.depth)
        given = [one for one in (channel.nodata, self.pixels.nodata, reader.nodata) if one is not None]
        return Plane(channel, path, reader, band, given[0] if given else None)

    def _check_depth(self, channel: Channel, path: Path, depth: str) -> None:
        """Values of another depth than the range is made for would be crushed into a corner of it."""
        deep = is_deep(depth)
        if channel.fitted_bits and not channel.range and deep != (channel.fitted_bits > 8):
            raise WrongDepth(
                f"{path} has {depth} values, but the channel {channel.name} was fitted on images of "
                f"{'8 bits' if deep else 'more than 8 bits'}; convert it, or set competition.pixels.scaling to image"
            )
        if channel.range and not deep and channel.range[1] > 255:
            raise WrongDepth(
                f"{path} has 8 bits a value, but the range {list(channel.range)} of the channel {channel.name} is of "
                "deeper files; convert them to one depth, or leave the range out and set its scaling to image"
            )

    def _check(self, path: Path) -> None:
        planes = [plane for planes in self._slices for plane in planes]
        self.height, self.width, factors = checked_factors(planes, path)
        each = len(self._slices[0])
        self._slices = [
            [replace(plane, factor=factors[i * each + k]) for k, plane in enumerate(planes)]
            for i, planes in enumerate(self._slices)
        ]
        self.channels, self.depth, self.orientation = self.count, planes[0].reader.depth, planes[0].reader.orientation
        self.windowed = all(plane.reader.windowed for plane in planes)
        whole = [plane.path for plane in planes if plane.reader.undividable]
        if whole:
            raise UserError(f"{whole[0]} can only be decoded whole; convert it to a tiled TIFF")

    @cached_property
    def _ranges(self) -> list[Range]:
        """Of the channels that networks see."""
        return [self._range_of(channel) for channel in self.pixels.inputs]

    def _range_of(self, channel: Channel) -> Range:
        scaling = self.pixels.scaling_of(channel)
        if scaling == "range" or (scaling in FITTED and channel.fitted):
            return channel.limits
        if scaling in FITTED:
            raise UserError(
                f"the range of the channel {channel.name} is not fitted yet ({self.path}); run 01_preprocess.py first, "
                "or give the channel a range"
            )
        if scaling == "type":
            if channel.formula:
                raise UserError(f"the channel {channel.name} is a formula, which has no type; choose another scaling")
            own = _named(self._slices[0], channel.name)
            return type_range(own.reader.depth, f"{own.path}, channel {channel.name},")
        images = [self.path]
        if scaling == "stack":
            images = evenly(list(slices_of_stack(self.path, self.pixels).values()), MOST_OF_A_STACK)
        alone = self.pixels.model_copy(update={"slices": ()})
        return _quantiles_in(tuple(images), alone, tuple(map(_changed, images)))[channel.name]

    @cached_property
    def _fills(self) -> list[int]:
        """The values of pixels that were not measured."""
        return [round(mean * np.iinfo(self.dtype).max) for mean in self.pixels.normalisation[0]]

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        out = np.empty((h, w, self.count), self.dtype)
        place = 0
        for planes in self._slices:
            blocks = self._blocks(planes, y, x, h, w)
            for channel, limits in zip(self.pixels.inputs, self._ranges, strict=True):
                if channel.formula:
                    out[..., place] = self._scaled(self._formula(channel, planes, blocks, (y, x, h, w)), limits, place)
                else:
                    plane = _named(planes, channel.name)
                    values = blocks[plane.channel.name]
                    scaled = self._scaled(values, limits, place, plane.void(values))
                    out[..., place] = plane.enlarged(scaled, y, x, h, w)
                place += 1
        return out

    def measured(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        out = np.zeros((h, w), bool)
        for planes in self._slices:
            blocks = self._blocks(planes, y, x, h, w)
            for channel in self.pixels.inputs:
                if channel.formula:
                    out |= np.isfinite(self._formula(channel, planes, blocks, (y, x, h, w)))
                    continue
                plane = _named(planes, channel.name)
                void = plane.void(blocks[channel.name])
                if void is None:
                    out[:] = True
                else:
                    out |= plane.enlarged((~void).view(np.uint8), y, x, h, w, nearest=True) > 0
                if out.all():
                    return out
        return out

    def stored(self, y: int, x: int, h: int, w: int) -> list[np.ndarray]:
        """The values of each channel that networks see, of the first slice, float32 (h, w), not scaled.

        NaN was not measured.
        """
        planes = self._slices[0]
        blocks = self._blocks(planes, y, x, h, w)
        return [
            self._formula(channel, planes, blocks, (y, x, h, w)) if channel.formula
            else _named(planes, channel.name).real(blocks[channel.name], y, x, h, w)
            for channel in self.pixels.inputs
        ]  # fmt: skip

    @property
    def depths(self) -> list[str]:
        """The type of each channel's values that networks see; that of a formula is float32."""
        return [
            "float32" if channel.formula else _named(self._slices[0], channel.name).reader.depth
            for channel in self.pixels.inputs
        ]

    def _blocks(self, planes: list[Plane], y: int, x: int, h: int, w: int) -> dict[str, np.ndarray]:
        """The stored values of each channel under a window, in its own pixels. Each file is read once."""
        read: dict[int, np.ndarray] = {}
        for plane in planes:
            if id(plane.reader) not in read:
                read[id(plane.reader)] = plane.reader.read(*plane.window(y, x, h, w))
        return {plane.channel.name: read[id(plane.reader)][..., plane.band] for plane in planes}

    def _formula(
        self, channel: Channel, planes: list[Plane], blocks: dict[str, np.ndarray], window: tuple[int, int, int, int]
    ) -> np.ndarray:
        names = parsed_formula(channel.formula)[1]
        return computed(channel.formula, {name: _named(planes, name).real(blocks[name], *window) for name in names})

    def _scaled(self, values: np.ndarray, limits: Range, place: int, void: np.ndarray | None = None) -> np.ndarray:
        """Values as the type that networks get; `void`: those that were not measured, if it is known."""
        if values.dtype == np.uint8 and self.dtype == "uint8" and limits == WHOLE_8_BITS:
            return values if void is None else np.where(void, np.uint8(self._fills[place]), values)
        if void is None and values.dtype.kind == "f":
            void = ~np.isfinite(values)
        most = np.iinfo(self.dtype).max
        low, high = limits
        real = values.astype(np.float32)
        real -= np.float32(low)
        real *= np.float32(most / (high - low))
        real += np.float32(0.5)
        if void is not None:
            real[void] = self._fills[place]
        return np.clip(real, 0, most, out=real).astype(self.dtype)

    def overview(self, side: int) -> ImageReader:
        """The coarsest level that is large enough, where all channels lie in one file."""
        if len(self._opened) > 1 or self._overview or max(self.height, self.width) <= side:
            return self
        return ChannelsReader(self.path, self.pixels, side)

    def close(self) -> None:
        for reader in self._opened.values():
            reader.close()


def _named(planes: list[Plane], name: str) -> Plane:
    return next(plane for plane in planes if plane.channel.name == name)


@lru_cache(maxsize=256)
def _quantiles_in(images: tuple[Path, ...], pixels: Pixels, _changed: tuple[int, ...]) -> dict[str, Range]:
    """The range of each channel in an image, or in slices of a stack, by its name. Each of them is read once."""
    samples = [sampled_values(image, pixels)[0] for image in images]
    return {name: _quantiles_of(np.concatenate([values[name] for values in samples])) for name in samples[0]}


def _quantiles_of(values: np.ndarray) -> Range:
    try:
        return range_of(values, "quantiles")
    except ValueError:
        return WHOLE_8_BITS  # nothing was measured, so that all of it is filled


def sampled_values(path: Path, pixels: Pixels) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(values that were measured, type) of each channel that networks see, by its name, from windows of an image."""
    names = [channel.name for channel in pixels.inputs]
    with ChannelsReader(path, pixels) as reader:
        windows = list(spread_windows(reader.height, reader.width))
        parts = [
            [evenly_thinned(one.ravel(), SAMPLED_VALUES // len(windows)) for one in reader.stored(*w)] for w in windows
        ]
        values = [np.concatenate(channel) for channel in zip(*parts, strict=True)]
        return dict(zip(names, values, strict=True)), dict(zip(names, reader.depths, strict=True))


def _changed(path: Path) -> int:
    return file_and_slice(path)[0].stat().st_mtime_ns
