"""Input sizes: which image sizes an encoder accepts, and the options that let a transformer accept other sizes.

Transformers are published for one size. ViT and Swin have an option for any size; MaxViT accepts multiples.
"""

from __future__ import annotations

import math

import timm
import torch
from torch import nn

ENCODER_STRIDE = 2**5  # side of the image over the side of the deepest map
ANY_SIZE_OPTIONS = (
    {"dynamic_img_size": True},  # of ViT and similar encoders
    {"strict_img_size": False},  # of Swin and similar encoders
)


def any_size_options(encoder: str) -> dict[str, object]:
    """Arguments that let a `tu-` encoder of timm take images of other sizes than its own; {} where none is needed.

    >>> any_size_options("tu-resnet18"), any_size_options("tu-vit_tiny_patch16_224")
    ({}, {'dynamic_img_size': True})
    """
    name = encoder.removeprefix("tu-")
    if name == encoder or not timm.is_model(name) or not timm.get_pretrained_cfg_value(name, "fixed_input_size"):
        return {}
    for options in ANY_SIZE_OPTIONS:
        try:
            with torch.device("meta"):
                timm.create_model(name, pretrained=False, **options)
        except TypeError:  # this family has no such argument
            continue
        return options
    return {}


def input_multiple(body: nn.Module) -> int:
    """Image sides must be multiples of this number of pixels, for a network of segmentation_models_pytorch.

    Most networks halve the image five times. A MaxViT also cuts the map of every stage into squares of a fixed size.
    """
    squares = [side for module in body.encoder.modules() for side in getattr(module, "partition_size", ())]
    return ENCODER_STRIDE * math.lcm(*squares)
