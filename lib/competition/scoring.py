"""The leaderboard of a competition whose answers are known (the demo): the only code that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import lib.competition.codecs  # noqa: F401  (registers the codecs)
from lib.competition import metrics
from lib.competition.dataset import Competition
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.plugins import find
from lib.tables import IGNORE

ROWS = 1024  # of both labels, held at once


def confusion_matrix(truth: np.ndarray, guess: np.ndarray, n: int) -> np.ndarray:
    """(n, n) int64 over the pixels whose truth is not `IGNORE`; an ignored guess counts as a miss.

    >>> confusion_matrix(np.array([0, 1, 1, 255]), np.array([0, 1, 0, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    keep = truth != IGNORE
    truth, guess = truth[keep].astype(np.int64), guess[keep].astype(np.int64)
    guess = np.where(guess < n, guess, n)
    return np.bincount(truth * (n + 1) + guess, minlength=n * (n + 1)).reshape(n, n + 1)[:, :n]


def score_submission(competition: Competition, path: Path) -> float:
    """Score a submission CSV against `competition.answers`."""
    settings = competition.settings
    if not settings.answers:
        raise UserError(f"the answers of {settings.name} are not known here; upload {path} to its leaderboard")
    answers = settings.model_copy(update={"labels": settings.labels.model_copy(update={"path": settings.answers})})
    reader = find("labels", settings.labels.format, "competition.labels.format")(answers, set(competition.ids("test")))
    n, sizes = len(competition.label_names), test_sizes(competition)
    confusions = []
    for image_id, guess in open_codec(competition).read(path, sizes).items():
        height, width = sizes[image_id]
        truth = reader.open(image_id, height, width)
        total = np.zeros((n + 1, n + 1), np.int64)
        for y in range(0, height, ROWS):
            box = (y, 0, min(ROWS, height - y), width)
            found = guess.read(*box)
            # One more column: a pixel that got no class is a miss, not a pixel that does not count.
            total += confusion_matrix(truth.read(*box), np.where(found == IGNORE, n, found), n + 1)
        confusions.append(total)
    return metrics.score(settings, np.stack(confusions))


def open_codec(competition: Competition):
    """The competition's submission codec, empty."""
    settings = competition.settings
    build = find("codec", settings.submission.codec, "competition.submission.codec")
    return build(settings, competition.sample, competition.label_names)


def test_sizes(competition: Competition) -> dict[str, tuple[int, int]]:
    """(height, width) of every test image, from the files' heads."""
    sizes = {}
    for image in competition.images:
        if image.split == "test":
            with open_image(image.path, competition.settings.pixels) as reader:
                sizes[image.image_id] = (reader.height, reader.width)
    return sizes
