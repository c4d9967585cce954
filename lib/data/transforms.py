"""Transforms that albumentations lacks, or that it cannot apply to any channels of 8 or 16 bits."""

from __future__ import annotations

import os
import random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look-up on the network at import

import albumentations as A
import numpy as np

from lib.data.channel_changes import linear, restained, shifted_hsv, with_gains, with_noise, without_channels


class PadIfNeeded(A.PadIfNeeded):
    """PadIfNeeded that does not copy what is large enough."""

    def apply(self, img: np.ndarray, **params: int) -> np.ndarray:
        pads = (params[f"pad_{side}"] for side in ("top", "bottom", "left", "right"))
        return super().apply(img, **params) if any(pads) else img


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


class ColourShift(A.HueSaturationValue):
    """HueSaturationValue that keeps the 16 bits of deeper images."""

    def apply(self, img: np.ndarray, hue_shift: int, sat_shift: int, val_shift: int, **params: object) -> np.ndarray:
        if img.dtype == np.uint8:
            return super().apply(img, hue_shift, sat_shift, val_shift, **params)
        return shifted_hsv(img, hue_shift, sat_shift, val_shift)


class Brightness(A.RandomBrightnessContrast):
    """RandomBrightnessContrast for any channels of 8 or 16 bits; albumentations' own is slow beyond 8 bits."""

    def apply(self, img: np.ndarray, alpha: float, beta: float, **_params: object) -> np.ndarray:
        return linear(img, alpha, beta)


class Noise(A.GaussNoise):
    """GaussNoise for 8 or 16 bits; albumentations' own fails beyond 8 bits."""

    def apply(self, img: np.ndarray, noise_map: np.ndarray, **params: object) -> np.ndarray:
        return super().apply(img, noise_map, **params) if img.dtype == np.uint8 else with_noise(img, noise_map)


class OfColours(A.ImageOnlyTransform):
    """A transform of red, green and blue, applied to the channels `places` of an image."""

    def __init__(self, inner: A.ImageOnlyTransform, places: tuple[int, ...]):
        self.inner, self.places = inner, list(places)  # before __init__, which sets a first seed
        super().__init__(p=inner.p)

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        super().set_random_state(random_generator, py_random)
        self.inner.set_random_state(random_generator, py_random)

    def set_random_seed(self, seed: int | None) -> None:
        super().set_random_seed(seed)
        self.inner.set_random_seed(seed)

    def get_params(self) -> dict:
        return self.inner.get_params()

    def apply(self, img: np.ndarray, **params: object) -> np.ndarray:
        changed = img.copy()
        changed[..., self.places] = self.inner.apply(np.ascontiguousarray(img[..., self.places]), **params)
        return changed


class ChannelGain(A.ImageOnlyTransform):
    """Multiplies each channel by a random factor of its own, 1 ± `strength`."""

    def __init__(self, strength: float, p: float = 1.0):
        super().__init__(p=p)
        self.strength = strength

    def get_params_dependent_on_data(self, params: dict, data: dict) -> dict:
        channels = data["image"].shape[-1]
        return {"factors": 1 + self.random_generator.uniform(-self.strength, self.strength, channels)}

    def apply(self, img: np.ndarray, factors: np.ndarray, **_params: object) -> np.ndarray:
        return with_gains(img, factors)


class ChannelDropout(A.ImageOnlyTransform):
    """Replaces each channel, with probability `share`, by its mean `means` (C,); one channel at least remains."""

    def __init__(self, share: float, means: tuple[float, ...], p: float = 1.0):
        super().__init__(p=p)
        self.share, self.means = share, np.array(means)

    def get_params(self) -> dict:
        dropped = self.random_generator.random(len(self.means)) < self.share
        dropped[self.random_generator.integers(len(self.means))] &= not dropped.all()
        return {"dropped": dropped}

    def apply(self, img: np.ndarray, dropped: np.ndarray, **_params: object) -> np.ndarray:
        return without_channels(img, dropped, self.means) if dropped.any() else img
