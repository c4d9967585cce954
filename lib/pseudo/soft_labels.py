"""Soft labels: predicted probabilities of a tile, resized, sharpened and stored as 03 reads them.

Probabilities are uint8 with p = value / 255.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lib.config import Config
from lib.config.preprocess import Preprocess
from lib.data.tile_files import write_planes
from lib.imaging.geometry import Box
from lib.imaging.grid import whole_size
from lib.imaging.pad import pad


def exclusive_groups(probs: np.ndarray, multilabel: bool) -> list[np.ndarray]:
    """Probabilities (K, h, w) in groups (k, h, w) of classes that exclude one another.

    All classes are one group. Where classes overlap (`multilabel`), each is a group of its own.
    """
    return np.split(probs, len(probs)) if multilabel else [probs]


def most_likely(probs: np.ndarray, multilabel: bool = False) -> np.ndarray:
    """Labels uint8 of probabilities (K, h, w) uint8.

    Label indices (h, w): above one half for K = 1, else the largest. Where classes overlap, planes (K, h, w) of 0 and
    1.
    """
    if multilabel:
        return (probs > 127).astype(np.uint8)
    return (probs[0] > 127).astype(np.uint8) if len(probs) == 1 else probs.argmax(0).astype(np.uint8)


def stored_size(height: int, width: int, config: Preprocess) -> tuple[int, int]:
    """Size (h, w), before padding, at which a box of original pixels is stored: that of 01's tiles."""
    if config.mode == "resize":
        return whole_size(height, width, config.tile_size, config.fit)
    return tuple(min(config.tile_size, max(1, round(side * config.scale))) for side in (height, width))


def resized_probs(probs: np.ndarray, box: Box, config: Config) -> np.ndarray:
    """Probabilities (K, h, w) uint8 of a box of original pixels, at the size of 01's tiles before padding."""
    height, width = stored_size(*box[2:], config.preprocess)
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA) for plane in probs])


def tempered(probs: np.ndarray, temperature: float, multilabel: bool = False) -> np.ndarray:
    """Probabilities (K, h, w) uint8 to the power 1 / `temperature`.

    They are normalized to sum to one again, each class with its complement where classes overlap (`multilabel`).

    >>> tempered(np.array([[[0, 51, 128, 255]]], np.uint8), 0.5).tolist()
    [[[0, 15, 128, 255]]]
    """
    if temperature == 1:
        return probs
    return np.concatenate([_tempered_group(group, temperature) for group in exclusive_groups(probs, multilabel)])


def _tempered_group(probs: np.ndarray, temperature: float) -> np.ndarray:
    p = probs.astype(np.float32) / 255
    p = np.concatenate([p, 1 - p]) if len(p) == 1 else p
    p **= 1 / temperature
    p /= np.maximum(p.sum(0), 1e-9)
    return np.rint(255 * p[: len(probs)]).astype(np.uint8)


def hardened(probs: np.ndarray, multilabel: bool = False) -> np.ndarray:
    """Probabilities (K, h, w) uint8 rounded to 0 and 255.

    >>> hardened(np.array([[[51, 128]]], np.uint8)).tolist()
    [[[0, 255]]]
    """
    labels = most_likely(probs, multilabel)
    if multilabel:
        return np.uint8(255) * labels
    indices = [1] if len(probs) == 1 else range(len(probs))
    return np.stack([np.uint8(255) * (labels == index) for index in indices])


def label_kind(config: Config) -> str:
    """`hard` or `soft`. It is part of the names of label files, so that 03 notices a change in the table."""
    return "hard" if config.pseudo.hard else "soft"


def write_label(path: Path, probs: np.ndarray, config: Config) -> None:
    """Store probabilities (K, h, w) uint8, padded to a tile, as soft or hard labels."""
    padded = np.stack([pad(plane, config.preprocess.tile_size) for plane in probs])
    write_planes(path, hardened(padded, config.competition.multilabel) if config.pseudo.hard else padded)
