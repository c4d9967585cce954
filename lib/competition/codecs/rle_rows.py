"""`id[,class],run-length`: one row per image, or per image and class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition import rle
from lib.competition.labels.common import Label, label_of_runs
from lib.competition.labels.rle_csv import read_csv
from lib.config.competition import Competition
from lib.errors import UserError
from lib.plugins import register

Runs = tuple[int, np.ndarray, np.ndarray]
"""Label index, starts from 0, lengths."""


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
        table.to_csv(path, index=False, lineterminator="\n")

    def read(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, Label]:
        """Labels, to be read by window, of the images in `sizes`. Raises UserError as `check` does."""
        order, background = self.config.submission.order, self.config.background
        runs = self.check(path, sizes)
        return {image_id: label_of_runs(own, *sizes[image_id], order, background) for image_id, own in runs.items()}

    def check(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, list[Runs]]:
        """The runs by image id, of the images in `sizes` (height, width).

        Raises UserError on other ids, order or columns than the sample's, runs outside the image, or classes that
        overlap; found on the runs alone, so that no label map is held.
        """
        s = self.config.submission
        table = read_csv(path, [s.id_column, s.class_column, s.rle_column])
        if list(table.columns) != list(self.sample.columns):
            raise UserError(
                f"{path} has the columns {', '.join(table.columns)}; expected {', '.join(self.sample.columns)}"
            )
        found = self._keys(table)
        _check_rows(path, found, self._keys(self.sample))
        runs: dict[str, list[Runs]] = {}
        for (image_id, name), text in zip(found, table[s.rle_column], strict=True):
            if image_id in sizes:
                height, width = sizes[image_id]
                where = f"{path}, {image_id} {name}"
                pairs = rle.parse("" if text == s.empty else text, height * width, where, s.base)
                runs.setdefault(image_id, []).append((self.indices[name], *pairs))
        for image_id, own in runs.items():
            self._check_overlap(path, image_id, own)
        return runs

    def _check_overlap(self, path: Path, image_id: str, runs: list[Runs]) -> None:
        """A pixel has at most one class: runs of all classes together are disjoint too."""
        index = np.concatenate([np.full(len(starts), i) for i, starts, _ in runs])
        starts, lengths = (np.concatenate([run[k] for run in runs]) for k in (1, 2))
        order = np.argsort(starts, kind="stable")
        index, starts, ends = index[order], starts[order], (starts + lengths)[order]
        clash = np.flatnonzero(starts[1:] < ends[:-1])
        if len(clash):
            names = {i: name for name, i in self.indices.items()}
            one, other = names[index[clash[0]]], names[index[clash[0] + 1]]
            pixel = starts[clash[0] + 1] + self.config.submission.base
            raise UserError(f"{path}: in {image_id} the class {other} overlaps {one} at pixel {pixel}")

    def _keys(self, table: pd.DataFrame) -> list[tuple[str, str]]:
        s = self.config.submission
        names = table[s.class_column] if s.class_column else [self.config.classes[0]] * len(table)
        return list(zip(table[s.id_column], names, strict=True))


def _check_rows(path: Path, found: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    """Raises UserError, with the row, when ids (and classes) or their order differ from the sample's."""
    if found == expected:
        return
    for number, (here, wanted) in enumerate(zip(found, expected, strict=False), start=2):  # row 1 is the header
        if here != wanted:
            raise UserError(
                f"{path}: row {number} is {' '.join(here)}, expected {' '.join(wanted)} as in the sample submission"
            )
    raise UserError(f"{path} has {len(found)} rows, the sample submission {len(expected)}")
