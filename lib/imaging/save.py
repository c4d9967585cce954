"""Writes images to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def save_image(path: Path, pixels: np.ndarray, options: Sequence[int] = ()) -> None:
    """Write BGR (H, W, 3) or grey (H, W) uint8 in the format of the suffix; `options` as of cv2.imwrite.

    Raises OSError where the file cannot be written. (cv2.imwrite does not.)
    """
    path.write_bytes(cv2.imencode(path.suffix, pixels, options)[1])
