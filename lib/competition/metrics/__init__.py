"""Metrics: of pixel counts, of objects and of surfaces; higher is better. Also how sure a difference of scores is.

Knows counts and labels, nothing of networks or files. A new metric is a function or a class in one of these files, or
in a plugin.
"""

from lib.competition.metrics.pixels import (
    changing,
    counts_of,
    image_scores,
    metric_of,
    parts,
    per_image,
    pooled,
    resampled,
    score,
    scored_classes,
)

__all__ = [
    "changing", "counts_of", "image_scores", "metric_of", "parts", "per_image", "pooled", "resampled", "score",
    "scored_classes",
]  # fmt: skip
