"""Factors that multiply the classes' probabilities before argmax, fitted on whole maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lib.competition import metrics
from lib.config.competition import CompetitionSettings
from lib.decision.class_search import Affected, ClassState
from lib.decision.presence_gate import two_likeliest
from lib.decision.search import MIN_GAIN, coordinate_ascent
from lib.oof.pixel_sample import PixelSample

LOG_FACTORS = np.linspace(-3, 3, 61)  # logarithms of factors that are tried
NEUTRAL = len(LOG_FACTORS) // 2  # the index of the factor 1
FACTOR_SWEEPS = 3  # over the classes, on a sample of pixels
MAX_COUNTS = 2**26  # counts of a sample; with more images and classes, whole maps are searched from no factors
LOG_ROUNDING = 1e-5  # of sums of logarithms
NEVER = 1e-9  # a probability that no factor makes likelier than another class


class FactorGrid:
    """Logarithms of factors as the `ValueGrid` of lib/decision/class_search.py."""

    values, neutral = LOG_FACTORS, NEUTRAL

    def factors(self, indices: tuple[int, ...]) -> tuple[float, ...]:
        """Each class's factor; their geometric mean is 1."""
        logs = LOG_FACTORS[list(indices)]
        return tuple(float(factor) for factor in np.exp(logs - logs.mean()).round(6))

    def unaffected(self, probs: np.ndarray, presence: np.ndarray, states: list[ClassState]) -> np.ndarray:
        """As `ValueGrid`: no factor makes the second class likelier than the first."""
        _, _, top, next_ = two_likeliest(probs)
        reach = LOG_FACTORS[-1] + max(np.abs(LOG_FACTORS[list(state.indices)]).max() for state in states)
        return top > np.exp(reach + 1e-3) * next_

    def affected(
        self, probs: np.ndarray, presence: np.ndarray, indices: tuple[int, ...]
    ) -> tuple[np.ndarray, Iterator[Affected]]:
        """As `ValueGrid`."""
        # Computed exactly as a decision does, which matters where two classes are equally likely.
        labels = (probs * np.array(self.factors(indices), np.float32)[:, None]).argmax(0)
        logs = np.log(np.maximum(probs, NEVER))
        shifted = logs + LOG_FACTORS[list(indices)].astype(np.float32)[:, None]
        top = np.take_along_axis(shifted, labels[None], 0)[0]
        np.put_along_axis(shifted, labels[None], -np.inf, 0)
        second = shifted.argmax(0)
        next_ = np.take_along_axis(shifted, second[None], 0)[0]

        def each() -> Iterator[Affected]:
            for label, index in enumerate(indices):
                has_label = labels == label
                other, needed = np.where(has_label, second, labels), np.where(has_label, next_, top) - logs[label]
                # Of equally likely classes argmax takes the first, however logarithms are rounded.
                step = np.searchsorted(LOG_FACTORS, needed + np.where(label < other, -LOG_ROUNDING, LOG_ROUNDING))
                step = np.where(has_label, np.minimum(step, index), np.maximum(step, index + 1))
                yield label, (step > 0) & (step < len(LOG_FACTORS)), other, step

        return labels, each()


def sampled_factors(points: PixelSample, probs: np.ndarray, config: CompetitionSettings) -> tuple[int, ...]:
    """Where the search on whole maps starts: indices into `LOG_FACTORS` of the factors that score best on a sample.

    `probs` (K, P) are the probabilities of the sampled pixels `points`. Coordinate ascent changes one class's factor at
    a time. The counts of all its values come from one histogram of how much factor each pixel needs to get the class.
    """
    k, images = len(probs), int(points.image.max(initial=-1)) + 1
    if images * k * k * len(LOG_FACTORS) > MAX_COUNTS:
        return (NEUTRAL,) * k
    logs, indices = np.log(np.maximum(probs, NEVER)), np.full(k, NEUTRAL)

    def improve(label: int, best: float) -> float:
        shifted = logs + LOG_FACTORS[indices][:, None].astype(np.float32)
        shifted[label] = -np.inf
        other = shifted.argmax(0)
        needed = np.searchsorted(LOG_FACTORS, shifted.max(0) - logs[label])  # from this factor on, it gets the class
        flat = ((points.image * k + points.truth) * k + other) * (len(LOG_FACTORS) + 1) + needed
        found = np.bincount(flat, points.pixels, images * k * k * (len(LOG_FACTORS) + 1))
        reached = np.cumsum(found.reshape(images, k, k, -1), axis=-1)
        scores = []
        for i in range(len(LOG_FACTORS)):
            counts = reached[..., -1] - reached[..., i]
            counts[:, :, label] += reached[..., i].sum(-1)
            scores.append(metrics.score(config, metrics.counts_of(counts)))
        # Of equally good factors, the one nearest to 1.
        top = np.flatnonzero(np.array(scores) >= max(scores) - 1e-9)
        chosen = top[np.argmin(np.abs(top - NEUTRAL))]
        if scores[chosen] <= best + MIN_GAIN:
            return best
        indices[label] = chosen
        return scores[chosen]

    start = metrics.score(config, metrics.counts_of(_counts(points, logs.argmax(0), images, k)))
    coordinate_ascent(improve, k, start, FACTOR_SWEEPS)
    return tuple(indices.tolist())


def _counts(points: PixelSample, guess: np.ndarray, images: int, k: int) -> np.ndarray:
    """(N, k, k): truth x guess of each image."""
    flat = (points.image * k + points.truth) * k + guess
    return np.bincount(flat, points.pixels, images * k * k).reshape(images, k, k)
