"""Labels whose pixels are not scored where no channel of the image was measured (`pixels.ignore_nodata`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lib.competition.image_files import ImageInfo
from lib.competition.labels.common import Label
from lib.competition.labels.planes import Planes
from lib.config.pixels import Pixels
from lib.imaging.reader import ImageReader, open_image
from lib.tables import IGNORE


def scored_labels(reader: Any, images: Iterable[ImageInfo], pixels: Pixels) -> Any:
    """A label reader; with `pixels.ignore_nodata`, one that does not score what was not measured."""
    return (
        MeasuredLabels(reader, {one.image_id: one.path for one in images}, pixels) if pixels.ignore_nodata else reader
    )


class MeasuredLabels:
    """A label reader that asks another one, and ignores what was not measured. `paths`: image id -> its file."""

    def __init__(self, reader: Any, paths: Mapping[str, Path], pixels: Pixels):
        self._reader, self._paths, self._pixels = reader, paths, pixels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def open(self, image_id: str, height: int, width: int) -> Label:
        return _masked(self._reader.open(image_id, height, width), open_image(self._paths[image_id], self._pixels))


def _masked(label: Label, image: ImageReader) -> Label:
    """A label that is `IGNORE` where no channel of its image was measured."""

    def read(y: int, x: int, h: int, w: int) -> np.ndarray:
        values, measured = label.read(y, x, h, w), image.measured(y, x, h, w)
        return values if measured.all() else np.where(measured, values, np.uint8(IGNORE))

    if isinstance(label, Planes):
        return Planes([_masked(plane, image) for plane in label.planes], read)
    out = Label(read, unused=label.unused)
    out.opinions = [_masked(opinion, image) for opinion in label.opinions]
    if label.by_class is not None:
        by_class = label.by_class
        out.by_class = lambda: _masked(by_class(), image)
    return out
