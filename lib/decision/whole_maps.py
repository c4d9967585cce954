"""Ensemble weights, presence gates and class factors, fitted on whole out-of-fold maps.

They are fitted for several choices of images at once: all images, and those that cross-fitting takes (`cross_parts`).
Every pass over the maps serves all choices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lib.config import Config
from lib.decision.class_factors import NEUTRAL, FactorGrid, sampled_factors
from lib.decision.class_search import ClassObjective, ClassState, ValueChanges, count_value_changes, search_values
from lib.decision.decision import blended
from lib.decision.ensemble_weights import EnsembleWeights, MixtureScorer, equal, sampled_weights
from lib.decision.presence_gate import GateGrid, fit_gate, gated, presence_counts, with_presence
from lib.decision.weight_search import WeightObjective, Weights, count_mixtures, normalised, search_weights
from lib.oof.codes import BINS
from lib.oof.evaluate import Evaluation
from lib.oof.map_files import Maps
from lib.tables import IGNORE

PIXELS_TO_BLEND = 2**18  # that are averaged and counted together
FittedGates = tuple[float, ...] | None


@dataclass(frozen=True)
class WholeMaps:
    """Whole out-of-fold `maps` and their evaluation `oof`, with `n_labels` labels."""

    oof: Evaluation
    maps: Maps
    n_labels: int
    config: Config

    @property
    def search(self) -> bool:
        """Whether thresholds are searched."""
        return self.oof.binary and self.config.infer.threshold == "fit"

    def images(self) -> Iterator[Iterator[tuple[np.ndarray, np.ndarray]]]:
        """The labeled pixels of each image, in blocks: probabilities (S + 1, K, P) uint8, or with presences
        (S + 1, 2K, P), and truth (P,)."""
        for image_id in self.oof.image_ids:
            yield self._labeled(image_id)

    def _labeled(self, image_id: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _, _, block, truth in self.maps.blocks(image_id):
            block, truth = block.reshape(*block.shape[:2], -1), truth.ravel()
            for first in range(0, len(truth), PIXELS_TO_BLEND):
                part = truth[first : first + PIXELS_TO_BLEND]
                yield block[:, :, first : first + PIXELS_TO_BLEND][:, :, part != IGNORE], part[part != IGNORE]

    def blend(
        self, probs_u8: np.ndarray, mix: EnsembleWeights | None, gates: FittedGates
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (K, P) behind the gates, and presences (K, P), which are (0, P) where maps have none."""
        probs, presence = blended(probs_u8 / np.float32(BINS - 1), mix, self.config.infer.gated)
        if presence is None:
            return probs, np.zeros((0, probs_u8.shape[-1]), np.float32)
        return gated(probs, presence, gates or ()), presence

    def weights(self, mix: EnsembleWeights, chosen: list[np.ndarray]) -> list[Weights]:
        """The models' weights, for each choice of images (N,) bool: first on a sample of pixels, then on whole maps."""
        infer, competition, models = self.config.infer, self.config.competition, len(mix.weights)
        starts = []
        for images in chosen:
            scorer = MixtureScorer(self.oof.points.of(images), self.n_labels, mix, competition, self.search)
            single = [normalised(np.eye(models)[i]) for i in range(models)]
            starts.append([normalised(sampled_weights(scorer, models)), *single])

        def count(tried: list[Weights]) -> np.ndarray:
            masks = (
                ((with_presence(block[:-1], infer.gated)[0], truth) for block, truth in blocks)
                for blocks in self.images()
            )
            return count_mixtures(masks, mix, tried, self.n_labels)

        return search_weights(count, starts, [WeightObjective(images, competition, self.search) for images in chosen])

    def gates(self, mixes: list[EnsembleWeights | None], labels: range, chosen: list[np.ndarray]) -> list[FittedGates]:
        """The classes' gates, for each choice of images and its ensemble weights; 0 for what is not in `labels`."""
        if self.oof.binary:
            counts = {mix: self._presence_counts(mix) for mix in dict.fromkeys(mixes)}
            pairs = zip(mixes, chosen, strict=True)
            return [(fit_gate(counts[mix][images], self.config.competition, self.search),) for mix, images in pairs]
        grid = GateGrid(labels)
        starts = [[ClassState(mix, None, (grid.neutral,) * self.n_labels)] for mix in mixes]
        return [grid.gates(indices) for indices in self._searched(grid, starts, labels, chosen)]

    def factors(
        self, mixes: list[EnsembleWeights | None], gates: list[FittedGates], chosen: list[np.ndarray]
    ) -> list[tuple[float, ...]]:
        """The classes' factors, for each choice of images, its ensemble weights and gates."""
        grid, starts = FactorGrid(), []
        for mix, fitted_gates, images in zip(mixes, gates, chosen, strict=True):
            points = self.oof.points.of(images)
            values = np.concatenate([points.bins, points.presence], 2).transpose(1, 2, 0)
            # A sample lacks the mean of all networks, which comes last.
            values = np.concatenate([values, values[:1]])
            probs, _ = self.blend(values, mix or EnsembleWeights(equal(len(values) - 1)), fitted_gates)
            sampled = sampled_factors(points, probs, self.config.competition)
            first = dict.fromkeys([(NEUTRAL,) * self.n_labels, sampled])
            starts.append([ClassState(mix, fitted_gates, indices) for indices in first])
        return [grid.factors(indices) for indices in self._searched(grid, starts, range(self.n_labels), chosen)]

    def _searched(
        self, grid: GateGrid | FactorGrid, starts: list[list[ClassState]], labels: range, chosen: list[np.ndarray]
    ) -> list[tuple[int, ...]]:
        def count(states: list[ClassState]) -> list[ValueChanges]:
            return count_value_changes(self.images(), self.blend, grid, states, self.n_labels)

        objectives = [ClassObjective(images, grid, labels, self.config.competition) for images in chosen]
        return search_values(count, starts, objectives)

    def _presence_counts(self, mix: EnsembleWeights | None) -> np.ndarray:
        """One class: `presence_counts` of each image."""
        found = []
        for blocks in self.images():
            values = ((*self.blend(block, mix, None), truth) for block, truth in blocks)
            found.append(sum(presence_counts(probs[0], presence[0], truth) for probs, presence, truth in values))
        return np.stack(found)
