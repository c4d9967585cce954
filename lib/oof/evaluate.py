"""Out-of-fold evaluation: maps of whole images are compared with labels, and collectors keep what is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lib.competition.dataset import Competition
from lib.competition.labels.common import Label
from lib.competition.metrics import counts_of
from lib.config.competition import CompetitionSettings
from lib.inference.multi_scale import predict_multi_scale
from lib.inference.networks import ScaleGroup
from lib.inference.windows import Block, Limits, Source
from lib.oof.codes import BINS, to_codes, to_planes
from lib.oof.evaluation import COUNT_TYPE, Evaluation, bins_for, count, count_codes
from lib.oof.pixel_sample import PixelSample


@dataclass(frozen=True)
class TrueLabels:
    """The truth that maps are compared with.

    `open(image_id, height, width)` gives an image's label reader. `settings` say which labels there are. `presence`:
    maps have as many channels again, which say where each class is present.
    """

    open: Callable[[str, int, int], Label]
    settings: CompetitionSettings
    presence: bool = False

    @staticmethod
    def of(competition: Competition, presence: bool = False) -> TrueLabels:
        return TrueLabels(competition.labels.open, competition.settings, presence)


class Collector(Protocol):
    """Takes what it needs of the maps of whole images, block by block, so that no map is ever held whole."""

    def add(self, block: Block, truth: np.ndarray) -> None:
        """A block of predicted maps and its true labels uint8, as label readers give them: (h, w), or (K, h, w) of
        classes that overlap. `IGNORE` where nothing is known."""

    def end_image(self, image_id: str) -> None:
        """All blocks of an image were added."""


def evaluate(
    sources: list[Source], groups: list[ScaleGroup], labels: TrueLabels, limits: Limits,
    collectors: Sequence[Collector], description: str = "",
) -> None:  # fmt: skip
    """Predict whole images and hand their maps, beside the truth, to every collector.

    `description` stands before the progress bar.
    """
    outside = outside_values(labels.settings, labels.presence)
    reader = None
    for block in predict_multi_scale(sources, groups, outside, limits, description):
        if block.first:
            reader = labels.open(block.image_id, block.height, block.width)
        truth = reader.read(block.y, block.x, *block.probs.shape[2:])
        for collector in collectors:
            collector.add(block, truth)
        if block.last:
            for collector in collectors:
                collector.end_image(block.image_id)


class CountCollector:
    """Counts every map of `predict_multi_scale` against the truth at full resolution; see `Evaluation`."""

    def __init__(self, image_ids: list[str], labels: TrueLabels, maps: int):
        """`maps`: how many there are of each image."""
        self._settings, self._place = labels.settings, {image_id: place for place, image_id in enumerate(image_ids)}
        n, images, channels = len(self._settings.label_names), len(image_ids), self._settings.channels
        self._confusion = self._beside = None
        if self._settings.multilabel:
            self._bins = bins_for(images, maps, channels)
            self._counts = np.zeros((images, maps, channels, 2, self._bins), COUNT_TYPE)
        elif channels == 1:
            self._bins, self._counts = BINS, np.zeros((images, maps, 1, 2, BINS), np.int64)
        else:
            self._counts = np.zeros((images, maps, n, 3), np.int64)
            self._confusion, self._beside = np.zeros((n, n), np.int64), np.zeros((images, n), np.int64)

    def add(self, block: Block, truth: np.ndarray) -> None:
        if block.height * block.width > np.iinfo(self._counts.dtype).max:
            self._counts = self._counts.astype(np.int64)
        place, truth = self._place[block.image_id], to_planes(truth)
        for number, probs in enumerate(block.probs):
            codes = to_codes(probs[: self._settings.channels], self._settings.binary)
            if self._settings.binary:
                self._counts[place, number] += count_codes(truth, codes, self._bins).astype(self._counts.dtype)
                continue
            matrix = count(truth[0], codes[0], self._confusion.shape)
            self._counts[place, number] += counts_of(matrix)
        if not self._settings.binary:  # of the last map
            self._confusion += matrix
            self._beside[place] += matrix[0]

    def end_image(self, image_id: str) -> None:
        pass

    def evaluation(self, points: PixelSample | None = None) -> Evaluation:
        """The counts of all images. `points`: a sample of their pixels, to stand beside."""
        more = {"confusion": self._confusion, "beside": self._beside, "overlap": self._settings.multilabel}
        return Evaluation(list(self._place), self._counts, points, **more)

    def evaluation_of(self, image_id: str) -> Evaluation:
        """The counts of one image."""
        counts = self._counts[self._place[image_id]][None]
        return Evaluation([image_id], counts, overlap=self._settings.multilabel)


def outside_values(settings: CompetitionSettings, presence: bool = False, label: int = 0) -> np.ndarray:
    """Probabilities (K,) of pixels where nothing is computed: surely the label index `label`; where each class has a
    probability of its own, surely none. `presence`: (2K,), with that of each class, which no gate keeps out."""
    fill = np.zeros(settings.channels, np.float32)
    if not settings.binary:
        fill[label] = 1
    return np.concatenate([fill, np.ones_like(fill)]) if presence else fill
