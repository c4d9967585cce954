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
from lib.oof.codes import BINS, HALF
from lib.oof.evaluate import Evaluation, count
from lib.oof.map_files import Bands, Maps, in_rows
from lib.oof.previews import PreviewMaker, PreviewWriter
from lib.tables import IGNORE


class Counting:
    """Counts decisions of an evaluation `oof` on its whole `maps`; None where the evaluation has all that is needed.

    `folder`: where bands of rows are kept in files.
    """

    def __init__(self, oof: Evaluation, maps: Maps | None, n_labels: int, config: Config, folder: Path | None = None):
        self.oof, self.maps, self.n_labels, self.config, self.folder = oof, maps, n_labels, config, folder
        self.open = (0.0,) * (1 if oof.binary else n_labels) if config.infer.gated else None
        self.counts = cache(self.counts)

    def counts(self, mix: EnsembleWeights | None, gates: tuple[float, ...] | None = None) -> Evaluation:
        """The evaluation of one model, the gated ensemble, over the whole maps of all images."""
        if mix is None and not any(gates or ()):
            return replace(self.oof, counts=self.oof.counts[:, -1:], points=None, previews=None)
        found = np.zeros((len(self.oof.image_ids), 1, *self.oof.counts.shape[2:]), np.int64)
        shape = found.shape[2:] if self.oof.binary else (self.n_labels,) * 2
        matrix = None if self.oof.binary else np.zeros(shape, np.int64)
        beside = None if self.oof.binary else np.zeros((len(found), self.n_labels), np.int64)
        for i, image_id in enumerate(self.oof.image_ids):
            for _, _, map_, truth in self.blocks(image_id, Decision(None, mix=mix, gates=gates or self.open)):
                block = count(truth, map_, shape)
                found[i, 0] += block if self.oof.binary else metrics.counts_of(block)
                if not self.oof.binary:
                    matrix += block
                    beside[i] += block[0]
        return Evaluation(self.oof.image_ids, found, groups=self.oof.groups, confusion=matrix, beside=beside)

    def blocks(self, image_id: str, decision: Decision) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """(y, x, label codes (…, h, w), truth (h, w)) of an image's blocks."""
        for y, x, probs_u8, truth in self.maps.blocks(image_id):
            yield y, x, decision.to_label_codes(probs_u8 / np.float32(BINS - 1)), truth

    def bands(self, image_id: str, decision: Decision) -> Bands:
        """An image's bands (…, h, W): label codes and, last, truth."""
        blocks = (
            (y, x, np.concatenate([map_.reshape(-1, *truth.shape), truth[None]]))
            for y, x, map_, truth in self.blocks(image_id, decision)
        )
        return Bands((rows for _, rows in in_rows(blocks, self.maps.size(image_id)[1])), self.folder)

    def decide(
        self, decision: Decision, chosen: np.ndarray, shown: PreviewWriter | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Decide the chosen images (N,) bool: counts (M, n, 3) of each, and one confusion matrix (n, n).

        Their previews are written to `shown`, if given: label indices, which are multiplied by 255 for one class.
        """
        rules = decision.rules if self.oof.binary else None
        threshold = rules[1].low if rules else decision.threshold or HALF
        plain = decision.factors is None and decision.by_pixel and (self.oof.binary or decision.rules is None)
        if plain and shown is None:
            counts = self.counts(decision.mix, decision.gates)
            counts = counts.leaving_out(decision.left_out) if decision.left_out else counts
            return counts.class_counts(0, threshold)[chosen], counts.pooled(threshold)
        shape, found = (self.n_labels,) * 2, []
        matrix = np.zeros(shape, np.int64)
        for i in np.flatnonzero(chosen):
            image_id, y = self.oof.image_ids[i], 0
            bands, total = self.bands(image_id, decision), np.zeros(shape, np.int64)
            maker = PreviewMaker(*self.maps.size(image_id))
            several = not self.oof.binary and decision.rules is not None
            labels = decision.bands(bands.channel(slice(3) if several else 0), self.folder)
            for rows, truth in zip(labels, bands.channel(-1), strict=True):
                total += count(truth, rows, shape)
                if shown:
                    shade = rows * np.uint8(BINS - 1) if self.oof.binary else rows
                    maker.add(y, 0, shade, (truth != IGNORE) & (truth != rows))
                y += len(rows)
            found.append(metrics.counts_of(total))
            matrix += total
            if shown:
                shown.add(image_id, maker.preview())
        return np.array(found).reshape(-1, self.n_labels, 3), matrix
