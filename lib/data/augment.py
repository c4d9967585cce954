"""Augmentation of training tiles. The only module that uses albumentations.

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

from lib.config.training import Augment
from lib.errors import UserError
from lib.plugins import find, names, register
from lib.tables import IGNORE


class Augmentation:
    """Random crop and augmentation of one tile, deterministic in `seed`."""

    def __init__(self, config: Augment, crop: int):
        """`crop`: side of the result; 0 keeps the tile's size."""
        transforms = _transforms(config)
        self._wide = _wide_side(transforms, crop)
        self._roomy = A.Compose(_cropped(transforms, crop, self._wide, roomy=True))
        self._tight = A.Compose(_cropped(transforms, crop, self._wide, roomy=False))

    def __call__(self, image: np.ndarray, masks: list[np.ndarray], seed: int) -> tuple:
        """(H, W, 3) uint8 and label planes (H, W) uint8 → both, cropped and augmented together.

        Raises UserError if a custom pipeline does not return uint8.
        """
        compose = self._roomy if min(image.shape[:2]) >= self._wide else self._tight
        compose.set_random_seed(seed % 2**32)
        out = compose(image=image, masks=masks)
        if out["image"].dtype != np.uint8:
            raise UserError(
                f"augment.preset: the pipeline makes {out['image'].dtype} of an image, uint8 is expected; "
                "take Normalize, ToFloat and ToTensorV2 out of it: the network does their work"
            )
        return out["image"], list(out["masks"])


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
    first = [A.PadIfNeeded(crop, crop, border_mode=cv2.BORDER_REFLECT_101, fill_mask=IGNORE)]
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
        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.GaussNoise(std_range=(0.02, 0.08))], p=0.3),
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
        A.HueSaturationValue(int(20 * s), int(30 * s), int(15 * s), p=0.7),
    ]


def _stain(config: Augment) -> list:
    return [StainJitter(config.stain)] if config.stain else []


# Optical densities (red, green, blue) of one unit of haematoxylin, eosin and DAB (Ruifrok & Johnston 2001).
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)  # optical density of each 8-bit value; 0 for white


class StainJitter(A.ImageOnlyTransform):
    """Random amounts of stain: times 1 ± 0.2 `strength`, plus ± 0.05 `strength` of optical density (base e).

    Source: Tellez et al. 2018, doi:10.1109/TMI.2018.2820199. A.HEStain keeps only the part of a pixel that two stains
    explain, so that it changes colours even where the jitter is zero.
    """

    def __init__(self, strength: float, p: float = 1.0):
        super().__init__(p=p)
        self.strength = strength

    def get_params(self) -> dict:
        factors = self.random_generator.uniform(-0.2, 0.2, 3) * self.strength + 1
        shifts = self.random_generator.uniform(-0.05, 0.05, 3) * self.strength
        return {"factors": factors, "shifts": shifts}

    def apply(self, img: np.ndarray, factors: np.ndarray, shifts: np.ndarray, **_params: object) -> np.ndarray:
        return restained(img, factors, shifts)


def restained(image: np.ndarray, factors: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 whose amounts of stain are multiplied by `factors` (3,) and raised by `shifts` (3,).

    >>> restained(np.array([[[10, 120, 255]]], np.uint8), np.ones(3), np.zeros(3)).tolist()
    [[[10, 120, 255]]]
    """
    # Amounts of stain are linear in densities, so the whole change is one affine map of densities.
    mixed = np.linalg.inv(STAINS) @ np.diag(factors) @ STAINS
    change = np.column_stack([mixed.T, shifts @ STAINS])
    density = cv2.transform(cv2.LUT(image, _DENSITY), change)
    return np.clip(np.rint(256 * cv2.exp(-density) - 1), 0, 255).astype(np.uint8)
