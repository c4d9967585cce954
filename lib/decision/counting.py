"""Counts what decisions make of whole out-of-fold maps, one image at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from lib.competition import metrics
from lib.config import Config
from lib.decision.decision import Decision
from lib.decision.ensemble_weights import EnsembleWeights
from lib.oof.codes import BINS
from lib.oof.evaluation import Evaluation, count_codes, count_planes
from lib.oof.map_files import Bands, Maps, in_rows
from lib.oof.previews import PreviewMaker, PreviewWriter, wrong_pixels


class Counting:
    """Counts decisions of an evaluation `oof` on its whole `maps`; None where the evaluation has all that is needed.

    `folder`: where bands of rows are kept in files.
    """

    def __init__(self, oof: Evaluation, maps: Maps | None, n_labels: int, config: Config, folder: Path | None = None):
        self.oof, self.maps, self.n_labels, self.config, self.folder = oof, maps, n_labels, config, folder
        self.truths = oof.counts.shape[2] if oof.overlap else 1  # planes of labels
        self.table = (2, 2) if oof.overlap else (n_labels, n_labels)  # truth x decision, of one plane
        self.open = (0.0,) * len(oof.halves or range(n_labels)) if config.infer.gated else None
        self.counts = cache(self.counts)

    def counts(self, mix: EnsembleWeights | None, gates: tuple[float, ...] | None = None) -> Evaluation:
        """The evaluation of one model, the gated ensemble, over the whole maps of all images."""
        if mix is None and not any(gates or ()):
            return replace(self.oof, counts=self.oof.counts[:, -1:], points=None, previews=None)
        binary, images = self.oof.binary, len(self.oof.image_ids)
        found = np.zeros((images, 1, *self.oof.counts.shape[2:]), self.oof.counts.dtype)
        matrix = None if binary else np.zeros(self.table, np.int64)
        beside = None if binary else np.zeros((images, self.n_labels), np.int64)
        decision = Decision(self.oof.halves, mix=mix, gates=gates or self.open)
        for i, image_id in enumerate(self.oof.image_ids):
            for _, _, codes, truth in self.blocks(image_id, decision):
                if binary:
                    found[i, 0] += count_codes(truth, codes, found.shape[-1]).astype(found.dtype)
                    continue
                (block,) = count_planes(truth, codes, self.table)
                found[i, 0] += metrics.counts_of(block)
                matrix += block
                beside[i] += block[0]
        more = {"groups": self.oof.groups, "confusion": matrix, "beside": beside, "overlap": self.oof.overlap}
        return Evaluation(self.oof.image_ids, found, **more)

    def blocks(self, image_id: str, decision: Decision) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """(y, x, codes (C, h, w), truth planes (T, h, w)) of an image's blocks."""
        for y, x, probs_u8, truth in self.maps.blocks(image_id):
            yield y, x, decision.to_codes(probs_u8 / np.float32(BINS - 1)), truth

    def bands(self, image_id: str, decision: Decision) -> Bands:
        """An image's bands (C + T, h, W): codes and, last, truth planes."""
        blocks = ((y, x, np.concatenate([codes, truth])) for y, x, codes, truth in self.blocks(image_id, decision))
        return Bands(in_rows(blocks, self.maps.size(image_id)[1]), self.folder)

    def decide(
        self, decision: Decision, chosen: np.ndarray, shown: PreviewWriter | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Decide the chosen images (N,) bool: counts (M, n, 3) of each, and tables over all (`Evaluation.tables`).

        Their previews are written to `shown`, if given: label planes, multiplied by 255 where thresholds decide.
        """
        if shown is None and self._counted(decision):
            counts = self.counts(decision.mix, decision.gates)
            counts = counts.leaving_out(decision.left_out) if decision.left_out else counts
            lows = decision.lows if self.oof.binary else None
            return counts.class_counts(0, lows)[chosen], counts.tables(lows)
        found = [np.zeros((0, self.truths, *self.table), np.int64)]
        for i in np.flatnonzero(chosen):
            found.append(self._decided(self.oof.image_ids[i], decision, shown)[None])
        tables = np.concatenate(found)
        return self.oof.rows(tables), tables.sum(0)

    def _counted(self, decision: Decision) -> bool:
        """Whether the counts of codes tell what the decision makes of the maps."""
        if not self.oof.binary:
            return decision.factors is None and decision.rules is None
        width = BINS // self.oof.counts.shape[-1]
        return decision.by_pixel and all(low % width == 0 for low in decision.lows)

    def _decided(self, image_id: str, decision: Decision, shown: PreviewWriter | None) -> np.ndarray:
        """The tables (T, n, n) of one image, whose preview is written to `shown`."""
        bands, total = self.bands(image_id, decision), np.zeros((self.truths, *self.table), np.int64)
        maker, y = PreviewMaker(*self.maps.size(image_id), self.truths, self.folder), 0
        labels = decision.bands(bands.planes(0, -self.truths), self.folder)
        for rows, truth in zip(labels, bands.planes(-self.truths), strict=True):
            total += count_planes(truth, rows, self.table)
            if shown:
                shade = rows * np.uint8(BINS - 1) if self.oof.binary else rows
                maker.add(y, 0, shade, wrong_pixels(truth, rows))
            y += rows.shape[1]
        if shown:
            shown.add(image_id, maker.preview())
        return total
