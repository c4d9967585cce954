"""Mixtures, gates and factors for several choices of images at once, fitted on the whole maps of all images.

Every pass over the maps serves all choices: those of each fold, and all images together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lib.config import Config
from lib.decision.class_factors import NONE, Factors, sampled_places
from lib.decision.class_search import CHUNK, Choice, Moves, State, count_moves, search
from lib.decision.decision import blended
from lib.decision.ensemble_weights import Judge, Mix, equal, sampled_weights
from lib.decision.presence_gate import Gates, fit_gate, gated, presence_counts, with_presence
from lib.decision.weight_search import Weights, count_mixtures, normalised, search_weights
from lib.oof.evaluate import BINS, Evaluation
from lib.oof.map_files import Maps
from lib.tables import IGNORE

FittedGates = tuple[float, ...] | None


@dataclass(frozen=True)
class WholeMaps:
    """Whole maps with their evaluation (`oof`), of `n_labels` labels."""

    oof: Evaluation
    maps: Maps
    n_labels: int
    config: Config

    @property
    def search(self) -> bool:
        """Whether thresholds are searched."""
        return self.oof.binary and self.config.infer.threshold == "fit"

    def images(self) -> Iterator[Iterator[tuple[np.ndarray, np.ndarray]]]:
        """Of each image, blocks of bins (S + 1, K, P), with presences (S + 1, 2K, P), and truth (P,), where known."""
        for image_id in self.oof.image_ids:
            yield self._known(image_id)

    def _known(self, image_id: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _, _, bins, truth in self.maps.blocks(image_id):
            bins, truth = bins.reshape(*bins.shape[:2], -1), truth.ravel()
            for first in range(0, len(truth), CHUNK):
                here = truth[first : first + CHUNK]
                yield bins[:, :, first : first + CHUNK][:, :, here != IGNORE], here[here != IGNORE]

    def blend(self, bins: np.ndarray, mix: Mix | None, gates: FittedGates) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (K, P) behind the gates, and presences (K, P); of maps that tell none (0, P)."""
        probs, seen = blended(bins / np.float32(BINS - 1), mix, self.config.infer.gated)
        if seen is None:
            return probs, np.zeros((0, bins.shape[-1]), np.float32)
        return gated(probs, seen, gates or ()), seen

    def weights(self, mix: Mix, chosen: list[np.ndarray]) -> list[Weights]:
        """The systems' weights by `infer.ensemble_weights`: searched on a sample of pixels, then on whole maps."""
        infer, competition, systems = self.config.infer, self.config.competition, len(mix.weights)
        starts = []
        for images in chosen:
            judge = Judge(self.oof.points.of(images), self.n_labels, mix, competition, self.search)
            single = [normalised(np.eye(systems)[i]) for i in range(systems)]
            starts.append([normalised(sampled_weights(judge, systems, infer.ensemble_weights)), *single])
        told = infer.gated

        def count(tried: list[Weights]) -> np.ndarray:
            masks = (((with_presence(bins[:-1], told)[0], truth) for bins, truth in blocks) for blocks in self.images())
            return count_mixtures(masks, mix, tried, self.n_labels)

        return search_weights(count, starts, chosen, competition, self.search)

    def gates(self, mixes: list[Mix | None], labels: range, chosen: list[np.ndarray]) -> list[FittedGates]:
        """Each class's gate, for each choice of images and its mixture; none for what is not among the `labels`."""
        competition = self.config.competition
        if self.oof.binary:
            counts = {mix: self._presence_counts(mix) for mix in dict.fromkeys(mixes)}
            pairs = zip(mixes, chosen, strict=True)
            return [(fit_gate(counts[mix][own], competition, self.search),) for mix, own in pairs]
        space = Gates(labels)
        starts = [[State(mix, None, (space.neutral,) * self.n_labels)] for mix in mixes]
        return [space.gates(places) for places in self._searched(space, starts, labels, chosen)]

    def factors(
        self, mixes: list[Mix | None], gates: list[FittedGates], chosen: list[np.ndarray]
    ) -> list[tuple[float, ...]]:
        """Each class's factor, for each choice of images, its mixture and gates."""
        space, starts = Factors(), []
        for mix, own, images in zip(mixes, gates, chosen, strict=True):
            points = self.oof.points.of(images)
            values = np.concatenate([points.bins, points.presence], 2).transpose(1, 2, 0)
            # A sample lacks the mean of all networks.
            probs, _ = self.blend(np.concatenate([values, values[:1]]), mix or Mix(equal(len(values))), own)
            places = dict.fromkeys([(NONE,) * self.n_labels, sampled_places(points, probs, self.config.competition)])
            starts.append([State(mix, own, one) for one in places])
        return [space.factors(places) for places in self._searched(space, starts, range(self.n_labels), chosen)]

    def _searched(
        self, space: Gates | Factors, starts: list[list[State]], labels: range, chosen: list[np.ndarray]
    ) -> list[tuple[int, ...]]:
        def count(states: list[State]) -> list[Moves]:
            return count_moves(self.images(), self.blend, space, states, self.n_labels)

        return search(count, starts, [Choice(images, space, labels, self.config.competition) for images in chosen])

    def _presence_counts(self, mix: Mix | None) -> np.ndarray:
        """One class: `presence_counts` of each image."""
        found = []
        for blocks in self.images():
            blended_ = ((*self.blend(bins, mix, None), truth) for bins, truth in blocks)
            found.append(sum(presence_counts(probs[0], seen[0], truth) for probs, seen, truth in blended_))
        return np.stack(found)
