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
from lib.decision.presence_gate import PRESENCE_COUNTS, GateGrid, fit_gate, gated, presence_counts, with_presence
from lib.decision.thresholds import settings_of_class
from lib.decision.weight_search import MixtureCounter, WeightObjective, Weights, normalised, search_weights
from lib.oof.codes import BINS
from lib.oof.evaluation import Evaluation
from lib.oof.map_files import Maps
from lib.tables import IGNORE

PIXELS_TO_BLEND = 2**18  # that are averaged and counted together
GATE_COUNTS = 2**25  # numbers that a pass counts, to fit gates
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
        (S + 1, 2K, P), and truth planes (T, P), of which one at least is known."""
        for image_id in self.oof.image_ids:
            yield self._labeled(image_id)

    def exclusive_images(self) -> Iterator[Iterator[tuple[np.ndarray, np.ndarray]]]:
        """The same where a pixel has one label: the truth is (P,)."""
        return (((probs_u8, truth[0]) for probs_u8, truth in blocks) for blocks in self.images())

    def _labeled(self, image_id: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _, _, block, truth in self.maps.blocks(image_id):
            block, truth = block.reshape(*block.shape[:2], -1), truth.reshape(len(truth), -1)
            for first in range(0, truth.shape[1], PIXELS_TO_BLEND):
                part = truth[:, first : first + PIXELS_TO_BLEND]
                known = (part != IGNORE).any(0)
                yield block[:, :, first : first + PIXELS_TO_BLEND][:, :, known], part[:, known]

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

        counter = MixtureCounter(mix, self.n_labels, competition)

        def count(tried: list[Weights]) -> np.ndarray:
            masks = (
                ((with_presence(block[:-1], infer.gated)[0], truth) for block, truth in blocks)
                for blocks in self.images()
            )
            return counter.count(masks, tried)

        return search_weights(count, starts, [WeightObjective(images, competition, self.search) for images in chosen])

    def gates(self, mixes: list[EnsembleWeights | None], labels: range, chosen: list[np.ndarray]) -> list[FittedGates]:
        """The classes' gates, for each choice of images and its ensemble weights; 0 for what is not in `labels`."""
        if self.oof.binary:
            return self._single_gates(mixes, chosen)
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
            return count_value_changes(self.exclusive_images(), self.blend, grid, states, self.n_labels)

        objectives = [ClassObjective(images, grid, labels, self.config.competition) for images in chosen]
        return search_values(count, starts, objectives)

    def _single_gates(self, mixes: list[EnsembleWeights | None], chosen: list[np.ndarray]) -> list[FittedGates]:
        """The gates of classes that thresholds decide, each for itself; a pass over the maps counts some of them."""
        classes, found = self.oof.counts.shape[2], [[] for _ in chosen]
        together = max(1, GATE_COUNTS // (len(self.oof.image_ids) * PRESENCE_COUNTS))
        for first in range(0, classes, together):
            part = range(first, min(classes, first + together))
            counts = {mix: self._presence_counts(mix, part) for mix in dict.fromkeys(mixes)}
            for gates, mix, images in zip(found, mixes, chosen, strict=True):
                for place, k in enumerate(part):
                    settings = settings_of_class(self.config.competition, k)
                    gates.append(fit_gate(counts[mix][images, place], settings, self.search))
        return [tuple(gates) for gates in found]

    def _presence_counts(self, mix: EnsembleWeights | None, classes: range) -> np.ndarray:
        """(N, C, …): `presence_counts` of each image and of some classes."""
        found = []
        for blocks in self.images():
            values = ((*self.blend(block, mix, None), truth) for block, truth in blocks)
            each = ([presence_counts(*(one[k] for one in block)) for k in classes] for block in values)
            found.append(sum(np.array(counts) for counts in each))
        return np.stack(found)
