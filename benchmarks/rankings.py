"""Ranks configurations by their scores on some images, and measures the agreement of two rankings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

from lib.competition import metrics


@dataclass(frozen=True)
class Result:
    """A configuration in a mode: counts (N, C, 3) of N `images` of all folds."""

    images: list[str]
    counts: np.ndarray
    seconds: float
    steps: int


def joined(lines: list[dict]) -> Result:
    """Several folds' lines as one result."""
    return Result(
        [image for line in lines for image in line["images"]],
        np.concatenate(
            [
                np.array(line["counts"]) if "counts" in line else metrics.counts_of(np.array(line["confusions"]))
                for line in lines
            ]
        ),
        sum(line["script_seconds"] for line in lines),
        sum(line["steps"] for line in lines),
    )


def scorer(results: Iterable[Result], every_image: list[str], score: Callable[[np.ndarray], float]) -> Callable:
    """A function from chosen images (positions in `every_image`) to the score of every result on them.

    A result is scored on those of the chosen images that it has; NaN where it has none of them.
    """
    counted = []  # counts, and the position of each image in them
    for result in results:
        position = {image: i for i, image in enumerate(result.images)}
        counted.append((result.counts, [position.get(image) for image in every_image]))

    def scores(chosen: np.ndarray) -> list[float]:
        out = []
        for counts, positions in counted:
            present = [positions[i] for i in chosen if positions[i] is not None]
            out.append(score(counts[present]) if present else float("nan"))
        return out

    return scores


def ratio(cheap: list[Result], full: list[Result], field: str) -> float:
    """The sum of a field over the cheap results, divided by its sum over the full ones."""
    return round(sum(getattr(r, field) for r in cheap) / sum(getattr(r, field) for r in full), 3)


def tau_with_interval(
    truth: Callable[[np.ndarray], Sequence[float]],
    guess: Callable[[np.ndarray], Sequence[float]],
    images: int,
    draws: int = 1000,
    seed: int = 0,
) -> dict:
    """Kendall's tau (b) of two rankings, and its 95 % interval over bootstrap draws of the images.

    `truth(chosen)` and `guess(chosen)` score every configuration on the images `chosen`: positions among `images`, in
    which an image may occur several times. A draw does not count where a ranking is undefined (a NaN, or equal scores
    only). The interval is None if less than half of the draws count.
    """
    rng = np.random.default_rng(seed)

    def tau(chosen: np.ndarray) -> float:
        a, b = np.asarray(truth(chosen), float), np.asarray(guess(chosen), float)
        if len(a) < 2 or np.isnan([*a, *b]).any() or np.ptp(a) == 0 or np.ptp(b) == 0:
            return float("nan")
        return float(kendalltau(a, b).statistic)

    drawn = np.array([tau(rng.integers(0, images, images)) for _ in range(draws)])
    drawn = drawn[~np.isnan(drawn)]
    interval = [round(float(v), 3) for v in np.percentile(drawn, [2.5, 97.5])] if len(drawn) * 2 >= draws else None
    whole = tau(np.arange(images))
    return {"tau": None if np.isnan(whole) else round(whole, 3), "interval": interval}


def cell(row: dict) -> str:
    """One tau as the table shows it.

    >>> cell({"tau": 0.6, "interval": [0.4, 0.8]})
    '0.6 (0.4 to 0.8)'
    """
    if row.get("tau") is None:
        return ""
    return f"{row['tau']} ({row['interval'][0]} to {row['interval'][1]})" if row["interval"] else str(row["tau"])
