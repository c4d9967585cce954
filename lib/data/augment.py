"""Augmentation of training tiles. Only this module and transforms.py use albumentations.

albumentations 2.0.8, the last MIT release, draws the same random sequence in every worker and epoch unless it is
seeded. Every call here is seeded from (seed, epoch, index), so the number of workers changes nothing.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look-up on the network at import

import albumentations as A
import cv2
import numpy as np

from lib.config.pixels import Pixels
from lib.config.training import Augment
from lib.data.transforms import (
    Brightness,
    ChannelDropout,
    ChannelGain,
    ColourShift,
    Noise,
    OfColours,
    PadIfNeeded,
    StainJitter,
)
from lib.errors import UserError
from lib.imaging.reader import AS_THEY_ARE
from lib.plugins import find, names, register
from lib.tables import IGNORE


class Augmentation:
    """Random crop and augmentation of one tile, deterministic in `seed`."""

    def __init__(self, config: Augment, crop: int, pixels: Pixels = AS_THEY_ARE):
        """`crop`: side of the result; 0 keeps the tile's size. `pixels`: the channels of images."""
        transforms = _of_channels(_transforms(config), config, pixels)
        self._pixels = pixels
        self._wide = _wide_side(transforms, crop)
        self._roomy = A.Compose(_cropped(transforms, crop, self._wide, roomy=True))
        self._tight = A.Compose(_cropped(transforms, crop, self._wide, roomy=False))

    def __call__(self, image: np.ndarray, masks: list[np.ndarray], seed: int) -> tuple:
        """(H, W, C) uint8 or uint16 and label planes (H, W) uint8 → both, cropped and augmented together.

        Raises UserError if a custom pipeline cannot take such an image, or returns another type or other channels.
        """
        compose = self._roomy if min(image.shape[:2]) >= self._wide else self._tight
        compose.set_random_seed(seed % 2**32)
        try:
            out = compose(image=image, masks=masks)
        except Exception as error:  # whatever a foreign transform raises
            if not self._pixels.channels:
                raise
            raise UserError(
                f"augment.preset: a transform cannot take images of {_kind(image)} "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); take it out of the pipeline, or "
                "choose a preset, which knows channels"
            ) from None
        if out["image"].dtype != image.dtype:
            raise UserError(
                f"augment.preset: the pipeline makes {out['image'].dtype} of an image, {image.dtype} is expected; "
                "take Normalize, ToFloat and ToTensorV2 out of it: the network does their work"
            )
        if out["image"].shape[2:] != image.shape[2:]:
            raise UserError(
                f"augment.preset: the pipeline makes an image of shape {out['image'].shape} of {_kind(image)}, and the "
                "network needs all channels; take what drops channels out of it"
            )
        return out["image"], list(out["masks"])


def _kind(image: np.ndarray) -> str:
    return f"{image.shape[-1]} channels of {image.dtype}"


def _of_channels(transforms: list, config: Augment, pixels: Pixels) -> list:
    """A preset's transforms as images of `pixels` need them, then gain and channel dropout.

    Those that need red, green and blue change these channels alone, and are left out where there are none. A custom
    pipeline stays as it is.
    """
    if pixels.channels:
        transforms = [one for transform in transforms for one in _of_places(transform, pixels.colour_indices)]
    if pipeline_file(config) is not None:
        return transforms
    gain = [ChannelGain(config.gain)] if config.gain else []
    dropout = [ChannelDropout(config.channel_dropout, pixels.normalisation[0])] if config.channel_dropout else []
    return [*transforms, *gain, *dropout]


def _of_places(transform: A.BasicTransform, colours: tuple[int, ...] | None) -> list:
    """A transform as channels need it: as a list, which is empty where it needs colours and there are none."""
    if type(transform) is A.RandomBrightnessContrast:
        limits = transform.brightness_limit, transform.contrast_limit
        return [Brightness(*limits, transform.brightness_by_max, p=transform.p)]
    if isinstance(transform, (A.HueSaturationValue, StainJitter)):
        return [OfColours(transform, colours)] if colours else []
    return [transform]


def pipeline_file(config: Augment) -> Path | None:
    """The file of a custom pipeline, if `augment.preset` names one."""
    path = Path(config.preset)
    return path if path.suffix.lower() in (".json", ".yaml", ".yml") else None


def _transforms(config: Augment) -> list:
    path = pipeline_file(config)
    if path is None:
        return find("augmentation", config.preset, "augment.preset")(config)
    if not path.is_file():
        presets = ", ".join(names("augmentation"))
        raise UserError(
            f"augment.preset: there is no file {path}; write it with albumentations' A.save, or name one of {presets}"
        )
    try:
        pipeline = A.load(path, "json" if path.suffix.lower() == ".json" else "yaml")
    except Exception as error:  # whatever a foreign file makes the library raise
        raise UserError(
            f"augment.preset: {path} holds no pipeline of albumentations {A.__version__} "
            f"({type(error).__name__}: {' '.join(str(error).split())}); write it with A.save(A.Compose([…]), path)"
        ) from None
    return [pipeline]


def _turn(transforms: list) -> int | None:
    """Position of the rotation by any angle; None if there is none."""
    return next((i for i, t in enumerate(transforms) if isinstance(t, A.Affine) and any(t.rotate)), None)


def _wide_side(transforms: list, crop: int) -> int:
    """Side of the square that contains all pixels that a crop may show after the rotation and zoom in `transforms`."""
    turn = _turn(transforms)
    if turn is None:
        return crop
    angle = math.radians(min(45, max(map(abs, transforms[turn].rotate))))
    zoom = max(0.1, min(low for low, _ in transforms[turn].scale.values()))
    rim = crop * ((math.cos(angle) + math.sin(angle)) / zoom - 1) / 2
    return crop + 2 * (math.ceil(rim) + 1)  # the same on both sides, and one pixel for interpolation


def _cropped(transforms: list, crop: int, wide: int, roomy: bool) -> list:
    """`transforms` after a random crop. With a rotation, a crop of side `wide` is rotated and its center is used.

    `roomy`: the tile contains that crop. Otherwise its borders are reflected.
    """
    if not crop:
        return transforms
    first = [PadIfNeeded(crop, crop, border_mode=cv2.BORDER_REFLECT_101, fill_mask=IGNORE)]
    if wide == crop:
        return [*first, A.RandomCrop(crop, crop), *transforms]
    if not roomy:
        first.append(A.Pad((wide - crop) // 2, border_mode=cv2.BORDER_REFLECT_101))
    after = _turn(transforms) + 1
    return [*first, A.RandomCrop(wide, wide), *transforms[:after], A.CenterCrop(crop, crop), *transforms[after:]]


@register("augmentation", "none")
def none(config: Augment) -> list:
    return []


@register("augmentation", "light")
def light(config: Augment) -> list:
    return [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]


@register("augmentation", "medium")
def medium(config: Augment) -> list:
    return [A.D4(p=1), *_zoom(config, rotate=0), *_stain(config), *_color(config)]


@register("augmentation", "heavy")
def heavy(config: Augment) -> list:
    return [
        A.D4(p=1),
        *_zoom(config, rotate=45),
        *_stain(config),
        *_color(config),
        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), Noise(std_range=(0.02, 0.08))], p=0.3),
    ]


def _zoom(config: Augment, rotate: float) -> list:
    """Zoom and rotation. `rotate`: the preset's degrees, unless `augment.rotate` is set."""
    rotate = rotate if config.rotate is None else config.rotate
    if not (config.scale or rotate):
        return []
    # Borders are reflected, because no test image has black corners.
    return [
        A.Affine(
            scale=(1 - config.scale, 1 + config.scale),
            rotate=(-rotate, rotate),
            border_mode=cv2.BORDER_REFLECT_101,
            p=0.5,
        )
    ]


def _color(config: Augment) -> list:
    if not config.color:
        return []
    s = config.color
    return [
        A.RandomBrightnessContrast(0.25 * s, 0.25 * s, p=0.7),
        ColourShift(int(20 * s), int(30 * s), int(15 * s), p=0.7),
    ]


def _stain(config: Augment) -> list:
    return [StainJitter(config.stain)] if config.stain else []
