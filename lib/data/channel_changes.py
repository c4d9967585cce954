"""Changes of an image's values, for any number of channels of 8 or 16 bits: brightness, hue, stain, gain.

Numbers of 16 bits are changed in 16 bits: nothing is rounded to 8 bits on the way.
"""

from __future__ import annotations

import cv2
import numpy as np

# Optical densities (red, green, blue) of one unit of haematoxylin, eosin and DAB (Ruifrok & Johnston 2001).
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)  # optical density of each 8-bit value; 0 for white
HUE_DEGREES = 2  # of one step of an 8-bit hue


def largest(image: np.ndarray) -> int:
    """The largest value of the image's type."""
    return int(np.iinfo(image.dtype).max)


def linear(image: np.ndarray, factor: float, shift: float) -> np.ndarray:
    """An image (H, W, C) times `factor` plus `shift` (in its own steps), rounded and clipped.

    >>> linear(np.array([[[100, 60000]]], np.uint16), 1.5, -10).tolist()
    [[[140, 65535]]]
    """
    flat = image.reshape(len(image), -1)  # OpenCV takes 64 channels at most
    return cv2.addWeighted(flat, factor, flat, 0.0, shift).reshape(image.shape)


def with_gains(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """An image (H, W, C) whose channels are multiplied by `factors` (C,), rounded and clipped.

    >>> with_gains(np.array([[[100, 200]]], np.uint8), np.array([0.5, 2])).tolist()
    [[[50, 255]]]
    """
    row = np.tile(factors.astype(np.float32), image.shape[1]).reshape(1, -1)  # a long row is faster than C factors
    scaled = image.reshape(len(image), -1) * row
    np.minimum(np.rint(scaled, out=scaled), largest(image), out=scaled)
    return scaled.astype(image.dtype).reshape(image.shape)


def with_noise(image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """An image plus noise of its shape, in its own steps, rounded and clipped."""
    noisy = image + noise.astype(np.float32, copy=False)
    return np.rint(noisy, out=noisy).clip(0, largest(image)).astype(image.dtype)


def without_channels(image: np.ndarray, dropped: np.ndarray, means: np.ndarray) -> np.ndarray:
    """An image (H, W, C) whose channels `dropped` (C,) bool hold their mean, a share of the whole range (`means`).

    >>> without_channels(np.array([[[1, 2], [3, 4]]], np.uint8), np.array([0, 1], bool), np.array([0.5, 0.2])).tolist()
    [[[1, 51], [3, 51]]]
    """
    kept = image.copy()
    kept[..., dropped] = np.rint(means[dropped] * largest(image)).astype(image.dtype)
    return kept


def shifted_hsv(image: np.ndarray, hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB (H, W, 3) of 16 bits with other hue, saturation and value; the shifts are in steps of 8-bit HSV in OpenCV.

    >>> shifted_hsv(np.array([[[60000, 0, 0]]], np.uint16), 60, 0, 0).tolist()
    [[[0, 60000, 0]]]
    """
    most = largest(image)
    hsv = cv2.cvtColor(image.astype(np.float32) / most, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + hue * HUE_DEGREES) % 360
    for channel, shift in ((1, saturation), (2, value)):
        hsv[..., channel] = (hsv[..., channel] + shift / 255).clip(0, 1)
    return np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * most).clip(0, most).astype(image.dtype)


def restained(image: np.ndarray, factors: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) whose amounts of stain are multiplied by `factors` (3,) and raised by `shifts` (3,).

    >>> restained(np.array([[[10, 120, 255]]], np.uint8), np.ones(3), np.zeros(3)).tolist()
    [[[10, 120, 255]]]
    >>> restained(np.array([[[2570, 30840, 65535]]], np.uint16), np.ones(3), np.zeros(3)).tolist()
    [[[2570, 30840, 65535]]]
    """
    # Amounts of stain are linear in densities, so the whole change is one affine map of densities.
    mixed = np.linalg.inv(STAINS) @ np.diag(factors) @ STAINS
    change = np.column_stack([mixed.T, shifts @ STAINS])
    if image.dtype == np.uint8:
        density = cv2.transform(cv2.LUT(image, _DENSITY), change)
        return np.clip(np.rint(256 * cv2.exp(-density) - 1), 0, 255).astype(np.uint8)
    steps = largest(image) / 255
    density = cv2.transform(-cv2.log((image.astype(np.float32) / steps + 1) / 256), change)
    return np.clip(np.rint((256 * cv2.exp(-density) - 1) * steps), 0, largest(image)).astype(image.dtype)
