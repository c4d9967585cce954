"""A label index for each pixel of a small answer, row by row, separated by blanks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.codecs.csv_rows import CsvRows
from lib.competition.integer_text import numbers_of_text, text_of_numbers
from lib.competition.labels.common import Label
from lib.competition.labels.planes import label_of_array
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.imaging.geometry import LabelBands
from lib.plugins import register


@register("codec", "pixels")
class PixelRows(CsvRows):
    """One row per image, of `submission.size` numbers; images that were never added are all of the first label."""

    def __init__(self, config: CompetitionSettings, sample: pd.DataFrame, label_names: list[str]):
        super().__init__(config, sample, label_names)
        self.blank = b" ".join([b"0"] * int(np.prod(config.submission.size)))

    def add(self, image_id: str, height: int, width: int, bands: LabelBands) -> None:
        """`bands`: (y0, label indices (h, width)) in order from the top."""
        (name,) = self.names_of(image_id)
        self.keep(name, self._pieces(height, width, bands))

    def _pieces(self, height: int, width: int, bands: LabelBands) -> Iterator[bytes]:
        for y, labels in self.seen(height, width, bands):
            yield b" " if y else b""
            yield from text_of_numbers(labels.ravel().astype(np.int64))

    def read(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, Label]:
        """Labels of the images in `sizes`. Raises UserError as `check` does."""
        return dict(self._labels(path, sizes))

    def check(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, int]:
        """Pixels of object of each image. Raises UserError on wrong ids, order, counts or label indices."""
        first = int(self.config.background)
        size = self.config.submission.size
        return {image_id: int(label.counts(0, 0, *size)[first:].sum()) for image_id, label in self._labels(path, sizes)}

    def _labels(self, path: Path, sizes: dict[str, tuple[int, int]]) -> Iterator[tuple[str, Label]]:
        known = {name: image_id for image_id in sizes for name in self.names_of(image_id)}
        height, width = self.config.submission.size
        for name, text in self.answers(path):
            if name not in known:
                continue
            try:
                numbers = numbers_of_text(text)
            except (ValueError, OverflowError):
                raise UserError(f"{path}, {name[0]}: the answer holds something that is not an integer") from None
            if len(numbers) != height * width:
                raise UserError(
                    f"{path}, {name[0]}: the answer has {len(numbers)} numbers; {height * width} are expected "
                    f"({height} x {width})"
                )
            strange = numbers[(numbers < 0) | (numbers >= self.n_labels)]
            if len(strange):
                raise UserError(
                    f"{path}, {name[0]}: there is no label {strange[0]}; they go from 0 to {self.n_labels - 1}"
                )
            yield known[name], label_of_array(numbers.reshape(height, width).astype(np.uint8))
