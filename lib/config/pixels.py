"""How the files of an image become the channels that networks see."""

import re
from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import BeforeValidator, StringConstraints, model_validator

from lib.config.affects import Affects
from lib.config.channels import RANGE_WORDS, Channel, Scaling
from lib.config.formula import parsed_formula
from lib.config.section import Section

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = 0.449, 0.226  # of ImageNet, over its colours
DEVIATIONS = 5  # standard deviations on each side of the mean that the range of `mean_std` holds
FITTED = ("quantiles", "mean_std")  # scalings that 01 fits on the training set
STACK_HOLE = re.compile(r"(\{stack\}|\{number\}|\*)")


def number_of_text(value: object) -> object:
    """A whole number that the command line gives as text, as a number."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


class Pixels(Section):
    """How the pixels of files become what networks see: red, green and blue of 8 bits, or any `channels`."""

    affects = ("tiles",)

    range: tuple[float, ...] = ()
    """The two values that become 0 and 255, needed for more than 8 bits a channel; values outside are clipped. Pixels
    that a file calls "nodata" (GDAL's tag of TIFFs) and NaN become black. `[0, 65535]` is the whole range of each
    file's own type, so that 8-bit files among deeper ones are shown as they are."""
    bands: tuple[Annotated[int, Ge(0)], ...] = ()
    """The three channels to show as red, green and blue, counted from 0; empty for the first three (or grey)."""
    files: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    """Set it where channels are files of their own: how the names of the files for red, green and blue end, without
    suffix: `[B04, B03, B02]`. The globs of images match the first of them."""

    exif: bool = True
    """Rotate photographs as their EXIF orientation says, as image viewers do. Set it to `false` where the labels were
    made on the stored pixels; 01 says how many images are rotated. The orientation tag of a TIFF is never applied."""

    channels: tuple[Channel, ...] = ()
    """The channels that networks see, in their order, where red, green and blue of 8 bits are not enough: `[B04, B03,
    B02, B08]`. `range`, `bands` and `files` above are then left out."""
    slices: tuple[int, ...] = ()
    """Read every channel from these slices of the image's stack, counted from its own: `[-2, 0, 2]`. At the ends of a
    stack its first or last slice is repeated. Empty: the image's own slice alone."""
    stack: str = ""
    """How the end of a path, without suffix, names a stack and the number of a slice: `{stack}/slice_{number}`; `*`
    stands for any other text. Slices of a volume (a file that holds a whole stack) need no such template."""
    gaps: Literal["error", "nearest"] = "error"
    """What a number that is missing inside a stack means: a mistake (`error`), or that the nearest slice is taken
    (`nearest`)."""
    slice_axis: Annotated[int, Ge(0)] | None = None
    """The axis of an array along which its slices lie, counted from 0, where files hold whole volumes (`.npy`, TIFF,
    HDF5, Zarr, DICOM of several frames); each slice is then an image. Left out: a file is one image, except NIfTI (its
    third axis) and OME-Zarr (its axis z)."""
    dataset: str = ""
    """The array inside HDF5 and Zarr files that holds the pixels: `images/ct`. Empty: the only one."""
    depth: Annotated[Literal[8, 16], BeforeValidator(number_of_text)] = 16
    """Bits that each of `channels` has on its way to the network. Choose 8 where all files have 8 bits."""
    scaling: Scaling = "quantiles"
    """How the range of each of `channels` is found that has none of its own. `quantiles`: from the 0.5% quantile to the
    99.5% quantile of the training images (files of 8 bits: 0 to 255). `mean_std`: five standard deviations of the
    training images on each side of their mean. `type`: the whole range of the file's type. `image`: the quantiles of
    each image. `stack`: the quantiles of each stack of slices. 01 fits the first two once, and test images get the
    same."""
    colours: Annotated[tuple[str, ...], Affects("tiles", "member")] = ()
    """Which three of `channels` are red, green and blue, where there are such: `[B04, B03, B02]`. Augmentation changes
    hue and stain of these alone, and weights of ImageNet are put on them."""
    show: tuple[str, ...] = ()
    """Which three of `channels` (or which one) people see as red, green and blue in reports and pictures. Empty: those
    of `colours`, else the first, the middle and the last one."""
    show_range: tuple[float, ...] = ()
    """The shares of the channels' range that are black and white in these pictures: `[0, 0.5]` makes them twice as
    bright. Empty: `[0, 1]`; `[0.3, 0.7]` with `scaling: mean_std`."""
    nodata: float | None = None
    """The value of pixels that were not measured, in `channels`. Left out: what each file says (GDAL's tag of TIFFs).
    NaN and infinite values are never measured. Networks see the mean of their channel in place of such a pixel."""
    ignore_nodata: bool = False
    """Leave pixels that were measured in none of `channels` out of the loss and of scores."""

    @property
    def inputs(self) -> list[Channel]:
        """The channels of one slice that networks see."""
        return [channel for channel in self.channels if channel.input]

    @property
    def count(self) -> int:
        """Channels that networks see, over all slices: all channels of the first slice come first."""
        return len(self.inputs) * max(1, len(self.slices)) or 3

    @property
    def dtype(self) -> str:
        """Type of the values on their way to the network, as numpy names it."""
        return "uint16" if self.channels and self.depth == 16 else "uint8"

    @property
    def colour_indices(self) -> tuple[int, ...] | None:
        """Which of the `count` channels are red, green and blue; None where there are no such."""
        if not self.channels:
            return 0, 1, 2
        return self._places(self.colours) if self.colours else None

    @property
    def shown_indices(self) -> tuple[int, ...]:
        """Which of the `count` channels people see as red, green and blue."""
        count = len(self.inputs)
        chosen = self.show or self.colours
        if not self.channels or chosen:
            return self._places(chosen * 3 if len(chosen) == 1 else chosen) if self.channels else (0, 1, 2)
        if count == 1 and len(self.slices) > 2:
            return 0, len(self.slices) // 2, len(self.slices) - 1
        first = self._own_slice * count
        return first, first + count // 2, first + count - 1

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(means, standard deviations) of the `count` channels, as shares of the range, that networks normalise with.

        `mean_std` was scaled so that these are 0.5 and 0.1. Colours have those of ImageNet, and others their average.
        """
        colours = self.colour_indices or ()
        both = []
        for i in range(self.count):
            if self.channels and self.scaling_of(self.inputs[i % len(self.inputs)]) == "mean_std":
                both.append((0.5, 0.5 / DEVIATIONS))
            elif i in colours:
                both.append((IMAGENET_MEAN[colours.index(i)], IMAGENET_STD[colours.index(i)]))
            else:
                both.append((GREY_MEAN, GREY_STD))
        means, deviations = zip(*both, strict=True)
        return means, deviations

    @property
    def shown_range(self) -> tuple[float, float]:
        """Shares of the range that are black and white in pictures for people."""
        return self.show_range or ((0.3, 0.7) if self.channels and self.scaling == "mean_std" else (0.0, 1.0))

    def scaling_of(self, channel: Channel) -> str:
        """How a channel's range is found: one of `Scaling`, or `range` where it is given."""
        return "range" if channel.range else channel.scaling or self.scaling

    @property
    def ending(self) -> str:
        """How the name of an image's own file ends, where channels are files of their own; else empty."""
        endings = self.files or tuple(channel.ending for channel in self.channels if channel.ending)
        return endings[0] if endings else ""

    @property
    def _own_slice(self) -> int:
        """Place of the slice that is nearest to the image's own."""
        return min(range(len(self.slices)), key=lambda i: abs(self.slices[i])) if self.slices else 0

    def _places(self, names: tuple[str, ...]) -> tuple[int, ...]:
        known = [channel.name for channel in self.inputs]
        return tuple(self._own_slice * len(known) + known.index(name) for name in names)

    @model_validator(mode="after")
    def _consistent(self):
        for key, values in (("range", self.range), ("show_range", self.show_range)):
            if values and (len(values) != 2 or values[0] >= values[1]):
                raise ValueError(f"competition.pixels.{key} is {list(values)}; {RANGE_WORDS}")
        if self.bands and len(self.bands) != 3:
            raise ValueError(f"competition.pixels.bands names {len(self.bands)} channels; 3 are expected: [3, 2, 1]")
        if self.files and len(self.files) != 3:
            raise ValueError(f"competition.pixels.files names {len(self.files)} files; 3 are expected: [B04, B03, B02]")
        if self.channels:
            self._check_channels()
            return self
        of_channels = ("slices", "stack", "gaps", "scaling", "colours", "show", "show_range", "nodata", "ignore_nodata")
        for key in of_channels:
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(
                    f"competition.pixels.{key} is about competition.pixels.channels, which is empty; name them, for "
                    "example [{name: grey, band: 0}]"
                )
        return self

    def _check_channels(self) -> None:
        for key in ("range", "bands", "files"):
            if getattr(self, key):
                raise ValueError(
                    f"competition.pixels.{key} is for red, green and blue; competition.pixels.channels say it for each "
                    f"channel, as {{name: red, band: 0, range: [0, 4095]}}: leave {key} out"
                )
        names = [channel.name for channel in self.channels]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(
                f"competition.pixels.channels names {twice[0]!r} twice; give each channel a name of its own"
            )
        inputs = [channel.name for channel in self.inputs]
        if not inputs:
            raise ValueError("competition.pixels.channels: every channel has input: false; networks need one at least")
        read = [channel.name for channel in self.channels if not channel.formula]
        for channel in (channel for channel in self.channels if channel.formula):
            unknown = sorted(parsed_formula(channel.formula)[1] - set(read))
            if unknown:
                raise ValueError(
                    f"competition.pixels.channels {channel.name}: its formula names {unknown[0]!r}, which is no "
                    f"channel that is read from a file ({', '.join(read)}); add {{name: {unknown[0]}, input: false}} "
                    "and where it lies"
                )
        for key, counts, words in (("colours", (3,), "three"), ("show", (1, 3), "three, or one,")):
            chosen = getattr(self, key)
            if chosen and (len(chosen) not in counts or set(chosen) - set(inputs)):
                raise ValueError(
                    f"competition.pixels.{key} is {list(chosen)}; {words} of these channels are expected: "
                    f"{', '.join(inputs)}"
                )
        if len(set(self.slices)) < len(self.slices):
            raise ValueError(
                f"competition.pixels.slices is {list(self.slices)}; name each slice once, as in [-1, 0, 1]"
            )
        self._check_stack()

    def _check_stack(self) -> None:
        if not self.stack:
            return
        strange = [hole for hole in re.findall(r"\{[^{}]*\}?|\}", self.stack) if not STACK_HOLE.fullmatch(hole)]
        if strange or self.stack.count("{number}") != 1:
            raise ValueError(
                f"competition.pixels.stack is {self.stack!r}; it must hold {{number}} once, and may hold {{stack}} and "
                "*, as in {stack}/slice_{number}"
            )
