"""`id[,class],run-length`: one row per image, or per image and class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition import rle
from lib.competition.labels.rle_csv import read_csv
from lib.config.competition import Competition
from lib.errors import UserError
from lib.plugins import register
from lib.workspace import replacing


@register("codec", "rle")
class RleRows:
    """Run-lengths in the rows, order and columns of the sample submission."""

    def __init__(self, config: Competition, sample: pd.DataFrame, label_names: list[str]):
        self.config, self.sample = config, sample
        first = 1 if config.background else 0
        self.indices = {name: i + first for i, name in enumerate(config.classes)}
        self.answers: dict[tuple[str, str], str] = {}

    def add(self, image_id: str, height: int, width: int, bands: Iterable[tuple[int, np.ndarray]]) -> None:
        """`bands`: (y0, label indices (h, width)) in order from the top."""
        s = self.config.submission
        encoders = {name: rle.BandEncoder(height, width, s.order, s.base) for name in self.indices}
        for y0, labels in bands:
            for name, encoder in encoders.items():
                encoder.push(y0, labels == self.indices[name])
        for name, encoder in encoders.items():
            self.answers[image_id, name] = encoder.finish()

    def write(self, path: Path) -> None:
        """Images that were never added get the word for empty."""
        table = self.sample.copy()
        s = self.config.submission
        table[s.rle_column] = [self.answers.get(key, "") or s.empty for key in self._keys(table)]
        with replacing(path) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")

    def read(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, np.ndarray]:
        """Label maps (H, W) uint8 of the images in `sizes`.

        Raises UserError on other ids, order or columns than the sample's, runs outside the image, or
        classes that overlap.
        """
        s = self.config.submission
        table = read_csv(path, [s.id_column, s.class_column, s.rle_column])
        expected, found = self._keys(self.sample), self._keys(table)
        if found != expected:
            wrong = next((i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), None)
            what = (
                f"row {wrong + 2} is {found[wrong]}, expected {expected[wrong]}"
                if wrong is not None
                else (f"{len(found)} rows, expected {len(expected)}")
            )
            raise UserError(f"{path}: ids differ from the sample submission's: {what}")
        maps: dict[str, np.ndarray] = {}
        for (image_id, name), text in zip(found, table[s.rle_column], strict=True):
            if image_id not in sizes:
                continue
            height, width = sizes[image_id]
            text = "" if text == s.empty else text
            starts, lengths = rle.parse(text, height * width, f"{path}, {image_id} {name}", s.base)
            mask = rle.window_of_runs(starts, lengths, (height, width), s.order, (0, 0, height, width)) > 0
            out = maps.setdefault(image_id, np.zeros((height, width), np.uint8))
            if (out[mask] > 0).any():
                raise UserError(f"{path}: in {image_id} the class {name} overlaps another one")
            out[mask] = self.config.classes.index(name) + 1  # 0 stays "none", with or without background
        if not self.config.background:
            maps = {key: np.where(value > 0, value - 1, 255).astype(np.uint8) for key, value in maps.items()}
        return maps

    def _keys(self, table: pd.DataFrame) -> list[tuple[str, str]]:
        s = self.config.submission
        names = table[s.class_column] if s.class_column else [self.config.classes[0]] * len(table)
        return list(zip(table[s.id_column], names, strict=True))
