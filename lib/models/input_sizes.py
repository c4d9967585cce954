"""Which image sizes an encoder takes, and how one that is made for a single size takes others.

Transformers are published for one size: a ViT and a Swin can be told to take any, a MaxViT takes multiples.
"""

from __future__ import annotations

import math

import timm
import torch
from torch import nn

HALVED = 2**5  # what five halvings divide
FREEDOMS = ({"dynamic_img_size": True}, {"strict_img_size": False})  # of ViT and its like; of Swin and its like


def any_size(encoder: str) -> dict[str, object]:
    """Arguments that let a `tu-` encoder of timm take images of other sizes than its own; {} where none is needed.

    >>> any_size("tu-resnet18"), any_size("tu-vit_tiny_patch16_224")
    ({}, {'dynamic_img_size': True})
    """
    name = encoder.removeprefix("tu-")
    if name == encoder or not timm.is_model(name) or not timm.get_pretrained_cfg_value(name, "fixed_input_size"):
        return {}
    for options in FREEDOMS:
        try:
            with torch.device("meta"):
                timm.create_model(name, pretrained=False, **options)
        except TypeError:  # this family has no such argument
            continue
        return options
    return {}


def input_multiple(body: nn.Module) -> int:
    """Sides of the images that a network of segmentation_models_pytorch takes are multiples of this many pixels.

    Most networks halve the image five times. A MaxViT also cuts the map of every stage into squares of a fixed size.
    """
    squares = [side for module in body.encoder.modules() for side in getattr(module, "partition_size", ())]
    return HALVED * math.lcm(*squares)
