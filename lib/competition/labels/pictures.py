"""Detects photographs that lie among masks by mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.errors import UserError

LEAST = 1024  # pixels that are judged together, at least
SAMPLED_PIXELS = 2**18  # pixels of which different values are counted
FEW_VALUES = 32  # values that a mask may have whatever they are
NEAR = 0.06  # of the largest value: how far JPEG and soft edges lie from 0 or from it


def check_no_picture(path: Path, values: np.ndarray) -> None:
    """Raises UserError when values (h, w) or colours (h, w, 3) under a window are those of a photograph.

    Those are many, most differ from their neighbour, and most are far from black and white. The first alone says
    nothing: masks of objects count these, JPEG makes noise, and soft edges have all values.
    """
    if values.shape[0] * values.shape[1] < LEAST:
        return
    differs = values[:, 1:] != values[:, :-1]
    differs = differs.any(-1) if differs.ndim == 3 else differs
    if differs.mean() <= 0.5:
        return
    pixels = values.reshape(-1, *values.shape[2:])[:: max(1, values.shape[0] * values.shape[1] // SAMPLED_PIXELS)]
    different = len(np.unique(pixels, axis=0)) if pixels.ndim == 2 else len(np.unique(pixels))
    if different <= FEW_VALUES:
        return
    level = pixels.max(-1) if pixels.ndim == 2 else pixels
    top = np.nanmax(level)
    if ((level > NEAR * top) & (level < (1 - NEAR) * top)).mean() > 0.5:
        what = "colours" if values.ndim == 3 else "values"
        raise UserError(
            f"{path} holds {different} different {what}, most of them unlike their neighbours, as a photograph does; "
            "it is not a mask: replace the file, or remove it and its image"
        )
