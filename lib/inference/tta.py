"""Test-time augmentation (TTA) with ttach: each view is a transform of the window and its inverse for the map.

A recipe is a list of words, for example `flips scale=1,2 merge=gmean`. Each word multiplies the views, and equal views
count once. `merge` says how the views' maps become one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import ttach
from torch.nn.functional import interpolate
from ttach.base import DualTransform

WINDOW_MULTIPLE = 32  # networks halve windows five times; with a stem that halves once more, sides are multiples of 64
MIN_PROBABILITY = 1 / 510  # for logarithms: half a step of 8 bits

ALIASES = {"none": "", "auto": "", "free": "", "flips": "hflip vflip", "d4": "hflip rotate=0,90,180,270"}


class Scale(DualTransform):
    """Bilinear resizing to a multiple of the network's step, and exactly back. ttach's own transform cuts sizes off."""

    identity_param = 1.0

    def __init__(self, scales: list[float]):
        super().__init__("scale", scales)

    def apply_aug_image(self, image: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        self._size = image.shape[-2:]
        step = WINDOW_MULTIPLE if any(side % (2 * WINDOW_MULTIPLE) for side in self._size) else 2 * WINDOW_MULTIPLE
        return _resized(image, tuple(max(step, round(side * scale / step) * step) for side in self._size), scale)

    def apply_deaug_mask(self, mask: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return _resized(mask, self._size, scale)


def _resized(images: torch.Tensor, size: tuple[int, int], scale: float) -> torch.Tensor:
    if scale == Scale.identity_param:
        return images
    return interpolate(images, size=tuple(size), mode="bilinear", align_corners=False, antialias=True)


TRANSFORMS: dict[str, Callable] = {
    "hflip": lambda _: ttach.HorizontalFlip(),
    "vflip": lambda _: ttach.VerticalFlip(),
    "rotate": lambda angles: ttach.Rotate90([int(angle) for angle in angles]),
    "scale": Scale,
    "brightness": ttach.Multiply,
}


@dataclass(frozen=True)
class Merge:
    """Merges the views' maps (B, K, h, w) into one.

    `method`: mean, gmean (geometric mean, computed in logarithms and normalised), max, min, or tsharpen (mean of the
    square roots). `multilabel`: the classes overlap, so that each class and its complement add to 1.
    """

    method: str = "mean"
    multilabel: bool = False

    def __call__(self, maps: Iterable[torch.Tensor]) -> torch.Tensor:
        join = {"max": torch.maximum, "min": torch.minimum}.get(self.method, torch.add)
        total, count = None, 0
        for probs in maps:
            values = self._to_mean_space(probs)
            total = values if total is None else join(total, values)
            count += 1
        if self.method in ("max", "min"):
            return total
        total = total / count if count > 1 else total
        if self.method != "gmean":
            return total
        return total.sigmoid() if self._binary(total) else total.softmax(1)

    def _binary(self, values: torch.Tensor) -> bool:
        return self.multilabel or values.shape[1] == 1

    def _to_mean_space(self, probs: torch.Tensor) -> torch.Tensor:
        if self.method == "tsharpen":
            return probs.sqrt()
        if self.method != "gmean":
            return probs
        return torch.logit(probs, MIN_PROBABILITY) if self._binary(probs) else probs.clamp(min=MIN_PROBABILITY).log()


@dataclass(frozen=True)
class View:
    """One view of a window: transforms with their parameters, in order."""

    steps: tuple[tuple[DualTransform, object], ...]

    def augment_image(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, C, h, w), transformed for the network."""
        for transform, value in self.steps:
            images = transform.apply_aug_image(images, **{transform.pname: value})
        return images

    def deaugment_mask(self, maps: torch.Tensor) -> torch.Tensor:
        """The network's maps (B, K, h', w'), transformed back to the window (B, K, h, w)."""
        for transform, value in reversed(self.steps):
            maps = transform.apply_deaug_mask(maps, **{transform.pname: value})
        return maps

    @property
    def seconds(self) -> float:
        """Its cost in forward passes of a plain window: the ratio of their pixels."""
        return float(np.prod([value**2 for transform, value in self.steps if isinstance(transform, Scale)]))

    def _key(self) -> tuple:
        """A key that equal views share, whatever words made them.

        It tells where flips and rotations put four pixels, and the parameters of the other transforms.
        """
        corners, numbers = torch.arange(4.0).reshape(1, 1, 2, 2), []
        for transform, value in self.steps:
            if isinstance(transform, (Scale, ttach.Multiply)):
                numbers += [(transform.pname, value)] if value != 1 else []
            else:
                corners = transform.apply_aug_image(corners, **{transform.pname: value})
        return (*corners.flatten().tolist(), *sorted(numbers))


def views(recipe: str) -> list[View]:
    """The distinct views of a recipe.

    >>> len(views("none")), len(views("flips")), len(views("d4")), len(views("hflip rotate=0,180 scale=1,2,4"))
    (1, 4, 8, 12)
    >>> len(views("flips hflip")), len(views("d4 flips")), len(views("flips rotate=0,180")), len(views("scale=1,1.0,2"))
    (4, 8, 4, 2)
    """
    transforms = [TRANSFORMS[name](numbers) for name, numbers in _words(recipe)]
    distinct: dict[tuple, View] = {}
    for values in product(*(transform.params for transform in transforms)):
        view = View(tuple(zip(transforms, values, strict=True)))
        distinct.setdefault(view._key(), view)
    return list(distinct.values())


def merge(recipe: str, multilabel: bool = False) -> Merge:
    """The `Merge` of a recipe, by default the mean.

    >>> merge("flips merge=max").method, merge("flips").method
    ('max', 'mean')
    """
    words = [word.partition("=")[2] for word in recipe.split() if word.startswith("merge=")]
    return Merge(*words[:1] or ["mean"], multilabel=multilabel)


def cost(recipe: str) -> float:
    """The cost of a window with all its views, in forward passes of a plain window.

    >>> cost("none"), cost("d4"), cost("hflip scale=1,2"), cost("flips hflip")
    (1.0, 8.0, 10.0, 4.0)
    """
    return sum(view.seconds for view in views(recipe))


def _words(recipe: str) -> list[tuple[str, list[float]]]:
    """The transforms of a recipe, each with its numbers."""
    text = " ".join(ALIASES.get(word, word) for word in recipe.split())
    words = [word.partition("=") for word in text.split() if not word.startswith("merge=")]
    return [(name, [float(number) for number in numbers.split(",") if number]) for name, _, numbers in words]
