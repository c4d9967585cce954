"""0 or 1 for each square patch of an image: is more than a share of it object?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.codecs.common import Name
from lib.competition.codecs.csv_rows import CsvRows
from lib.competition.labels.common import Label
from lib.competition.labels.planes import label_of_array
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.imaging.geometry import LabelBands
from lib.plugins import register

MOST_PATCHES = 2**20  # patches of an image; a row has a name and a place, of some 500 bytes together
PATCH_PIXELS_AT_ONCE = 2**20  # pixels counted at once


@register("codec", "patches")
class PatchRows(CsvRows):
    """One row per patch; those at the right and lower border are what is left of the image."""

    blank = b"0"

    def __init__(self, config: CompetitionSettings, sample: pd.DataFrame, label_names: list[str]):
        super().__init__(config, sample, label_names)
        if len(config.classes) > 1:
            raise UserError(f"competition.submission.codec patches tells one class only; there are {config.classes}")

    def answer_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in patches. Raises UserError for more than are held in memory by name."""
        side = self.config.submission.patch
        rows, columns = -(-height // side), -(-width // side)
        if rows * columns > MOST_PATCHES:
            raise UserError(
                f"an image of {height} x {width} pixels has {rows * columns} patches of {side}; rows are written "
                f"for up to {MOST_PATCHES}"
            )
        return rows, columns

    def seen(self, height: int, width: int, bands: LabelBands) -> Iterator[tuple[int, np.ndarray]]:
        """One band of all patches; an ignored pixel counts as none of the object's."""
        side = self.config.submission.patch
        rows, columns = self.answer_size(height, width)
        sums = np.zeros((rows, columns), np.int64)
        step = max(1, PATCH_PIXELS_AT_ONCE // width)
        for y0, band in bands:
            for top in range(0, len(band), step):
                part = band[top : top + step] == 1
                across = np.add.reduceat(part, np.arange(0, width, side), axis=1, dtype=np.int64)
                np.add.at(sums, (y0 + top + np.arange(len(part))) // side, across)
        tall, wide = (np.diff([*range(0, length, side), length]) for length in (height, width))
        yield 0, (sums > self.config.submission.patch_share * np.outer(tall, wide)).astype(np.uint8)

    def add(self, image_id: str, height: int, width: int, bands: LabelBands) -> None:
        """`bands`: (y0, label indices (h, width)) in order from the top."""
        ((_, patches),) = self.seen(height, width, bands)
        for name, value in zip(self._names(image_id, height, width), patches.ravel(), strict=True):
            self.keep(name, [b"1" if value else b"0"])

    def read(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, Label]:
        """Labels, a pixel for each patch, of the images in `sizes`. Raises UserError as `check` does."""
        return {image_id: label_of_array(patches) for image_id, patches in self._patches(path, sizes).items()}

    def check(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, int]:
        """Patches of object of each image. Raises UserError on wrong ids or order, or other values than 0 and 1."""
        return {image_id: int(patches.sum()) for image_id, patches in self._patches(path, sizes).items()}

    def _patches(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, np.ndarray]:
        found = {image_id: np.zeros(self.answer_size(*size), np.uint8) for image_id, size in sizes.items()}
        known = {
            name: (image_id, i)
            for image_id, size in sizes.items()
            for i, name in enumerate(self._names(image_id, *size))
        }
        for name, text in self.answers(path):
            if text not in (b"0", b"1"):
                shown = text[:40].decode(errors="replace")
                raise UserError(f"{path}, {name[0]}: the answer is {shown!r}; 0 or 1 is expected")
            if name in known:
                image_id, i = known.pop(name)
                found[image_id].flat[i] = text == b"1"
        for (name, _), (image_id, _) in known.items():
            raise UserError(f"the sample submission has no row {name}, a patch of {image_id}; check the image's size")
        return found

    def _names(self, image_id: str, height: int, width: int) -> Iterator[Name]:
        s = self.config.submission
        for y in range(0, height, s.patch):
            for x in range(0, width, s.patch):
                yield self.format_id(image_id, y=y, x=x), ""
