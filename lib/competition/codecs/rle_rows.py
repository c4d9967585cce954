"""Run-lengths in a CSV: a row for each image, each image and class, or each object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition import rle
from lib.competition.codecs.csv_rows import CsvRows
from lib.competition.integer_text import LongText
from lib.competition.labels.common import Label
from lib.competition.labels.planes import class_mask, label_of_class_runs
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.imaging.components import Components
from lib.imaging.geometry import LabelBands
from lib.plugins import register

Runs = tuple[int, np.ndarray, np.ndarray]
"""Label index, starts from 0, lengths."""
RUNS_AT_ONCE = 2**18  # runs of a class compared at once


@register("codec", "rle")
class RleRows(CsvRows):
    """Run-lengths as `competition.submission` describes them. Images without object get the word `submission.empty`."""

    streams = True

    def __init__(self, config: CompetitionSettings, sample: pd.DataFrame, label_names: list[str]):
        super().__init__(config, sample, label_names)
        self.blank = config.submission.empty.encode()

    def add(self, image_id: str, height: int, width: int, bands: LabelBands) -> None:
        """`bands`: (y0, label indices (h, width), or planes (K, h, width)) in order from the top."""
        s, size = self.config.submission, self.answer_size(height, width)
        names = self.names_of(image_id)
        encoders = {
            name: Components(*size, s.order) if s.instances else rle.BandEncoder(*size, s.order, s.base, s.relative)
            for name in names
        }
        for y0, labels in self.seen(height, width, bands):
            for name, encoder in encoders.items():
                encoder.push(y0, class_mask(labels, self.indices[names[name]]))
        for name in names:
            encoder = encoders.pop(name)
            if not s.instances:
                self.keep(name, encoder.pieces())
                continue
            self.keep(name, [])
            for ends in encoder.finish():
                self.keep(name, rle.text_of_ends(ends, s.base, s.relative))

    def read(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, Label]:
        """Labels, to be read by window, of the images in `sizes`. Raises UserError as `check` does."""
        config, found = self.config, self.runs(path, sizes)
        paint = int(config.background) - config.first_class  # from a label index to what it is painted with
        return {
            image_id: label_of_class_runs(
                [(index + paint, *runs) for index, *runs in self._together(own)],
                self.answer_size(*sizes[image_id]),
                config.submission.order,
                config,
            )
            for image_id, own in found
        }

    def _together(self, runs: list[Runs]) -> list[Runs]:
        """The runs of a class as one, where rows do not overlap: a window is found at once, not object by object."""
        if self.config.submission.overlap or not self.config.submission.instances:
            return runs
        united = []
        for index in sorted({index for index, _, _ in runs}):
            starts, lengths = (np.concatenate([row[i] for row in runs if row[0] == index]) for i in (1, 2))
            order = np.argsort(starts)
            united.append((index, starts[order], lengths[order]))
        return united

    def check(self, path: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, int]:
        """Pixels of object of each image. Raises UserError unless a file is what the organiser asks for.

        That is the sample's ids, order and columns, no run outside its image, no classes or objects that overlap; found
        on the runs alone, so that no label map is held.
        """
        return {image_id: sum(int(lengths.sum()) for _, _, lengths in own) for image_id, own in self.runs(path, sizes)}

    def runs(self, path: Path, sizes: dict[str, tuple[int, int]]) -> Iterator[tuple[str, list[Runs]]]:
        """(image id, its rows' runs) of the images in `sizes` (height, width). Raises UserError as `check` does."""
        s = self.config.submission
        known = {
            name: (image_id, class_name) for image_id in sizes for name, class_name in self.names_of(image_id).items()
        }
        left = Counter(known[name][0] for name in map(self.name_of, self.sample.itertuples(index=False, name=None))
                       if name in known)  # fmt: skip
        found: dict[str, list[Runs]] = {}
        for name, text in self.answers(path):
            if name not in known:
                continue
            image_id, class_name = known[name]
            own = found.setdefault(image_id, [])
            runs = self._parsed(path, " ".join(name).strip(), text, self.answer_size(*sizes[image_id]))
            if len(runs[0]) or not s.instances:
                own.append((self.indices[class_name], *runs))
            left[image_id] -= 1
            if not left[image_id] and not s.instances:
                yield image_id, self._apart(path, image_id, found.pop(image_id))
        for image_id, own in found.items():  # objects, whose rows may stand anywhere
            yield image_id, self._apart(path, image_id, own)

    def _parsed(
        self, path: Path, name: str, text: bytes | LongText, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        s = self.config.submission
        if s.empty and isinstance(text, bytes) and not text.strip():
            raise UserError(f"{path}, {name}: the answer is empty; an image without object is written {s.empty!r} here")
        text = b"" if text == s.empty.encode() else text
        return rle.parse(text, size[0] * size[1], f"{path}, {name}", s.base, s.relative)

    def _apart(self, path: Path, image_id: str, runs: list[Runs]) -> list[Runs]:
        """The rows of an image, which are disjoint. Only classes may overlap, and where the competition allows it."""
        if not self.config.submission.overlap:
            rows = [(self._called(runs, i), *row) for i, row in enumerate(runs)]
            classes = {index for index, _, _ in runs} if self.config.multilabel else [None]
            for index in classes:
                self._check_apart(path, image_id, [row for row in rows if index in (None, row[1])])
        return runs

    def _check_apart(self, path: Path, image_id: str, rows: list[tuple[str, int, np.ndarray, np.ndarray]]) -> None:
        """Raises UserError where two rows (name, label index, starts, lengths) share a pixel."""
        if len(rows) < 2:
            return
        names, runs = [name for name, *_ in rows], [row[1:] for row in rows]
        longest = max((starts for _, starts, _ in runs), key=len)
        last = max((starts[-1] for _, starts, _ in runs if len(starts)), default=0)
        borders = np.unique([0, *longest[::RUNS_AT_ONCE], last + 1])
        row_before, end_before = 0, 0
        for low, high in pairwise(borders):
            row, starts, ends = [np.array([row_before])], [np.array([0])], [np.array([end_before])]
            for i, (_, begun, lengths) in enumerate(runs):
                here = slice(*np.searchsorted(begun, (low, high)))
                row.append(np.full(len(begun[here]), i))
                starts.append(begun[here])
                ends.append(begun[here] + lengths[here])
            order = np.argsort(np.concatenate(starts), kind="stable")
            row, starts, ends = (np.concatenate(values)[order] for values in (row, starts, ends))
            clash = np.flatnonzero(starts[1:] < ends[:-1])
            if len(clash):
                one, other = names[row[clash[0]]], names[row[clash[0] + 1]]
                pixel = starts[clash[0] + 1] + self.config.submission.base
                kind = "object" if self.config.submission.instances else "class"
                raise UserError(f"{path}: in {image_id} the {kind} {other} overlaps {one} at pixel {pixel}")
            row_before, end_before = row[-1], ends[-1]

    def _called(self, runs: Sequence[Runs], row: int) -> str:
        if self.config.submission.instances:
            return str(row + 1)
        return next(name for name, index in self.indices.items() if index == runs[row][0])
