"""Targets of training samples, made of the labels that are stored with tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from lib.imaging.readers.base import resized_channels
from lib.tables import FULL, IGNORE


@dataclass(frozen=True)
class Targets:
    """How labels are stored, and the targets (K, H, W) that a network with K outputs is trained on.

    `channels`: K. `multilabel`: whether the classes overlap. A stored label is a list of planes (H, W) uint8:

    - class shares (0 … `FULL`, or `IGNORE`): a plane of the only class, or of each class that overlaps;
    - label indices, or `IGNORE`: one plane, for classes that exclude one another;
    - probabilities (p = value / 255): K planes of soft labels.
    """

    channels: int
    multilabel: bool = False

    def planes(self, soft: bool) -> int:
        """How many planes a stored label has."""
        return self.channels if soft or self.multilabel else 1

    def of(self, planes: list[np.ndarray], soft: bool) -> tuple[np.ndarray, np.ndarray]:
        """Target (K, H, W) and valid, float32, of a stored label.

        `valid` is 0 where the label is ignored. It is (K, H, W) where classes overlap, else (1, H, W).
        """
        return soft_target(planes, self.multilabel) if soft else true_target(planes, self.channels)


def resized_sample(
    image: np.ndarray, planes: list[np.ndarray], scale: float, soft: bool, channels: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A tile (H, W, C) and its label planes (H, W) uint8, resized by `scale`.

    Class shares and probabilities (`soft`) are averaged by area; class indices and ignored pixels take the nearest
    value. The image is averaged by area, or, enlarged, interpolated linearly.
    """
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))

    def by_area(plane: np.ndarray) -> np.ndarray:
        return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)

    pixels = resized_channels(image, size[::-1], cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if soft:
        return pixels, [by_area(plane) for plane in planes]
    near = [cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST_EXACT) for plane in planes]
    if len(planes) == channels:
        shares = (shares_by_area(plane, by_area) for plane in planes)
        near = [np.where(n == IGNORE, n, share) for n, share in zip(near, shares, strict=True)]
    return pixels, near


def shares_by_area(plane: np.ndarray, by_area: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A plane (H, W) uint8 of class shares (0 to FULL, or IGNORE), resized by the function `by_area`.

    Each result is the mean of the values that are not ignored, or IGNORE where all are.
    """
    known = plane != IGNORE
    if known.all():
        return by_area(plane)
    share = by_area(known.astype(np.float32))
    mean = by_area(np.where(known, plane, 0).astype(np.float32)) / np.maximum(share, 1e-6)
    return np.where(share > 1e-6, np.minimum(mean.round(), FULL), IGNORE).astype(np.uint8)


def true_target(planes: list[np.ndarray], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Target (K, H, W) and valid, float32, of label planes (H, W) uint8 as stage 1 stores them.

    K planes hold class shares, and each has its own valid pixels: (K, H, W). One plane of K classes holds label
    indices, and valid is (1, H, W).

    >>> true_target([np.array([[0, 254, 255]], np.uint8)], 1)[0].tolist()
    [[[0.0, 1.0, 0.0]]]
    """
    stored = np.stack(planes)
    valid = stored != IGNORE
    if len(planes) == channels:
        target = stored.astype(np.float32) / FULL * valid
    else:
        target = np.stack([(planes[0] == c).astype(np.float32) for c in range(channels)])
    return target, valid.astype(np.float32)


def soft_target(planes: list[np.ndarray], multilabel: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Target (K, H, W) and valid, float32, of K planes of probabilities uint8 (p = value / 255).

    The target sums to 1 for K > 1 classes that do not overlap. All pixels are valid.
    """
    target = np.stack(planes).astype(np.float32) / 255
    if multilabel:
        return target, np.ones_like(target)
    if len(planes) > 1:
        target /= np.maximum(target.sum(0), 1e-3)
    return target, np.ones((1, *planes[0].shape), np.float32)
