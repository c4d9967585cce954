"""Writes images to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lib.files import temporary_name


def save_image(path: Path, pixels: np.ndarray, options: Sequence[int] = ()) -> None:
    """Write BGR (H, W, 3) or grey (H, W) uint8 in the format of the suffix; `options` as of cv2.imwrite.

    No other process ever sees half a file. Raises OSError where the file cannot be written. (cv2.imwrite does not.)
    """
    encoded, temporary = cv2.imencode(path.suffix, pixels, options)[1], temporary_name(path)
    try:
        temporary.write_bytes(encoded)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename, error.filename2 = str(path), None
        raise
