"""Factors of classes: which one an argmax takes where probabilities are near, fitted on whole maps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lib.competition import metrics
from lib.config.competition import Competition
from lib.decision.presence_gate import two_likeliest
from lib.oof.map_files import Points

CUTS = np.linspace(-3, 3, 61)  # logarithms of factors that are tried
NONE = len(CUTS) // 2  # the place of the factor 1
SWEEPS = 3  # over the classes, on a sample of pixels
MOST = 2**26  # counts of a sample; of more images and classes whole maps are searched from no factors
ROUNDED = 1e-5  # of sums of logarithms
NEVER = 1e-9  # a probability that no factor makes likelier than another class


class Factors:
    """Logarithms of factors as values of lib/decision/class_search.py."""

    values, neutral = CUTS, NONE

    def factors(self, places: tuple[int, ...]) -> tuple[float, ...]:
        """Each class's factor; their geometric mean is 1."""
        logs = CUTS[list(places)]
        return tuple(float(factor) for factor in np.exp(logs - logs.mean()).round(6))

    def sure(self, probs: np.ndarray, presence: np.ndarray, states: list) -> np.ndarray:
        """As lib/decision/class_search.py wants it: no factor makes the next class likelier than the likeliest."""
        _, _, top, next_ = two_likeliest(probs)
        reach = CUTS[-1] + max(np.abs(CUTS[list(state.places)]).max() for state in states)
        return top > np.exp(reach + 1e-3) * next_

    def looks(
        self, probs: np.ndarray, presence: np.ndarray, places: tuple[int, ...]
    ) -> tuple[np.ndarray, Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]]:
        """As lib/decision/class_search.py wants it."""
        # Decided as a decision does it, which matters where two classes are alike.
        labels = (probs * np.array(self.factors(places), np.float32)[:, None]).argmax(0)
        logs = np.log(np.maximum(probs, NEVER))
        shifted = logs + CUTS[list(places)].astype(np.float32)[:, None]
        top = np.take_along_axis(shifted, labels[None], 0)[0]
        np.put_along_axis(shifted, labels[None], -np.inf, 0)
        second = shifted.argmax(0)
        next_ = np.take_along_axis(shifted, second[None], 0)[0]

        def each() -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
            for label, place in enumerate(places):
                mine = labels == label
                other, needed = np.where(mine, second, labels), np.where(mine, next_, top) - logs[label]
                # Of classes that are alike argmax takes the first, however logarithms are rounded.
                step = np.searchsorted(CUTS, needed + np.where(label < other, -ROUNDED, ROUNDED))
                step = np.where(mine, np.minimum(step, place), np.maximum(step, place + 1))
                yield label, (step > 0) & (step < len(CUTS)), other, step

        return labels, each()


def sampled_places(points: Points, probs: np.ndarray, config: Competition) -> tuple[int, ...]:
    """Where whole maps are searched from: places in `CUTS` of the factors of probabilities (K, P) whose argmax scores
    best on a sample of pixels; one class at a time, the others as they are.

    For one class's factor the counts of all cuts come from one histogram over how near every pixel is to the class.
    """
    k, images = len(probs), int(points.image.max(initial=-1)) + 1
    if images * k * k * len(CUTS) > MOST:
        return (NONE,) * k
    logs, places = np.log(np.maximum(probs, NEVER)), np.full(k, NONE)
    best = metrics.score(config, metrics.counts_of(_counts(points, logs.argmax(0), images, k)))
    for _ in range(SWEEPS):
        before = best
        for label in range(k):
            shifted = logs + CUTS[places][:, None].astype(np.float32)
            shifted[label] = -np.inf
            other = shifted.argmax(0)
            needed = np.searchsorted(CUTS, shifted.max(0) - logs[label])  # cuts from here on give it to the class
            flat = ((points.image * k + points.truth) * k + other) * (len(CUTS) + 1) + needed
            found = np.bincount(flat, points.pixels, images * k * k * (len(CUTS) + 1))
            given = np.cumsum(found.reshape(images, k, k, -1), axis=-1)
            scores = []
            for cut in range(len(CUTS)):
                counts = given[..., -1] - given[..., cut]
                counts[:, :, label] += given[..., cut].sum(-1)
                scores.append(metrics.score(config, metrics.counts_of(counts)))
            # Of a plateau, the cut nearest to no factor at all.
            top = np.flatnonzero(np.array(scores) >= max(scores) - 1e-9)
            chosen = top[np.argmin(np.abs(top - NONE))]
            if scores[chosen] > best + 1e-6:
                best, places[label] = scores[chosen], chosen
        if best <= before + 1e-6:
            break
    return tuple(places.tolist())


def _counts(points: Points, guess: np.ndarray, images: int, k: int) -> np.ndarray:
    """(N, k, k): truth x guess of every image."""
    flat = (points.image * k + points.truth) * k + guess
    return np.bincount(flat, points.pixels, images * k * k).reshape(images, k, k)
