"""What a network sees: its channels and their normalisation, and how images become tensors of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lib.config.pixels import IMAGENET_MEAN, IMAGENET_STD, Pixels

HALF_RANGE = 2**15
STEPS_OF_8_BITS = 257  # of 16 bits in one of 8 bits: 65535 / 255


@dataclass(frozen=True)
class Inputs:
    """The channels of a network's images.

    `colours`: which of them are red, green and blue; None where none are. `mean`, `std`: each channel's normalisation,
    as shares of the whole range.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    colours: tuple[int, int, int] | None = (0, 1, 2)

    @property
    def count(self) -> int:
        return len(self.mean)

    @property
    def as_rgb(self) -> bool:
        """Whether pretrained weights of red, green and blue fit as they are."""
        return self.count == 3 and self.colours == (0, 1, 2)


RGB = Inputs()


def inputs_of(pixels: Pixels) -> Inputs:
    """The inputs that `competition.pixels` makes."""
    return Inputs(*pixels.normalisation, pixels.colour_indices)


def image_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Pixels of uint8, or of uint16, as a tensor of uint8, or of int16: values minus 32768.

    Not every device of torch computes with uint16.

    >>> image_tensor(np.array([0, 65535], np.uint16)).tolist(), image_tensor(np.array([0, 255], np.uint8)).tolist()
    ([-32768, 32767], [0, 255])
    """
    if pixels.dtype == np.uint16:
        pixels = (pixels ^ np.uint16(HALF_RANGE)).view(np.int16)
    pixels = np.ascontiguousarray(pixels)
    if any(stride < 0 for stride in pixels.strides):  # a flipped side of one pixel; torch takes no such array
        pixels = pixels.copy()
    return torch.from_numpy(pixels)


def image_floats(images: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """What `image_tensor` made, as real numbers from 0 to 255; real numbers stay as they are.

    >>> image_floats(image_tensor(np.array([0, 257, 65535], np.uint16))).tolist()
    [0.0, 1.0, 255.0]
    """
    if images.dtype == torch.int16:
        return (images.to(dtype) + HALF_RANGE) / STEPS_OF_8_BITS
    return images.to(dtype)


def channels_seen(network: nn.Module) -> int:
    """How many channels a network's images have."""
    return getattr(network, "inputs", RGB).count
