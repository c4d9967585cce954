"""Test-time augmentation through ttach: every view comes with its undo."""

from __future__ import annotations

import ttach
from ttach.base import Compose

VIEWS = {
    "none": lambda: Compose([]),
    "free": lambda: Compose([]),  # the windows themselves are flipped: lib/inference/predictor.py
    "flips": lambda: Compose([ttach.HorizontalFlip(), ttach.VerticalFlip()]),
    "d4": lambda: Compose([ttach.HorizontalFlip(), ttach.Rotate90([0, 90, 180, 270])]),
}


def views(name: str) -> Compose:
    """Transforms, 1 (`none`, `free`), 4 (`flips`) or 8 (`d4`): iterate, `augment_image`, `deaugment_mask`."""
    return VIEWS[name]()
