"""Images to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def save_image(path: Path, pixels: np.ndarray, options: Sequence[int] = ()) -> None:
    """Store BGR or grey (H, W, 3) or (H, W) uint8 as the suffix says; `options` as of cv2.imwrite.

    Raises OSError where it cannot be written, which cv2.imwrite keeps to itself.
    """
    path.write_bytes(cv2.imencode(path.suffix, pixels, options)[1])
