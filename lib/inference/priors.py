"""Factors of classes: which one an argmax takes where probabilities are near, fitted on a sample of pixels."""

from __future__ import annotations

import numpy as np

from lib.competition import metrics
from lib.config.competition import Competition
from lib.inference.maps import Points
from lib.inference.tta import SURE

CUTS = np.linspace(-3, 3, 61)  # logarithms of factors that are tried
SWEEPS = 3  # over the classes


def fit_factors(points: Points, probs: np.ndarray, config: Competition) -> tuple[float, ...]:
    """Factors (K,) of the probabilities (K, P) whose argmax scores best; one class at a time, the others as they are.

    For one class's factor the counts of all cuts come from one histogram over how near every pixel is to the class.
    """
    k, images = len(probs), int(points.image.max(initial=-1)) + 1
    logs, offsets = np.log(np.maximum(probs, SURE)), np.zeros(k)
    best = metrics.score(config, metrics.counts_of(_counts(points, logs.argmax(0), images, k)))
    for _ in range(SWEEPS):
        before = best
        for label in range(k):
            shifted = logs + offsets[:, None].astype(np.float32)
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
            chosen = top[np.argmin(np.abs(CUTS[top]))]
            if scores[chosen] > best + 1e-6:
                best, offsets[label] = scores[chosen], CUTS[chosen]
        if best <= before + 1e-6:
            break
    return tuple(float(factor) for factor in np.exp(offsets - offsets.mean()).round(4))


def _counts(points: Points, guess: np.ndarray, images: int, k: int) -> np.ndarray:
    """(N, k, k): truth x guess of every image."""
    flat = (points.image * k + points.truth) * k + guess
    return np.bincount(flat, points.pixels, images * k * k).reshape(images, k, k)
