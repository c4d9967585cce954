"""Test-time augmentation through ttach: every view comes with its undo."""

from __future__ import annotations

import ttach
from ttach.base import Compose

VIEWS = {
    "none": lambda: Compose([]),
    "flips": lambda: Compose([ttach.HorizontalFlip(), ttach.VerticalFlip()]),
    "d4": lambda: Compose([ttach.HorizontalFlip(), ttach.Rotate90([0, 90, 180, 270])]),
}


def views(name: str) -> Compose:
    """The transforms of `none` (1 view), `flips` (4) or `d4` (8): iterate, `augment_image`, `deaugment_mask`."""
    return VIEWS[name]()
