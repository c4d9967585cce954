"""The leaderboard of a competition whose answers are known (the demo): the only code that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import lib.competition.codecs  # noqa: F401  (registers the codecs)
from lib.competition import metrics
from lib.competition.dataset import Competition
from lib.competition.labels import IGNORE
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.plugins import find


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
    n = len(competition.label_names)
    confusions = []
    for image_id, guess in read_submission(competition, path).items():
        truth = reader.open(image_id, *guess.shape).read(0, 0, *guess.shape)
        # One more column: a pixel that got no class is a miss, not a pixel that does not count.
        confusions.append(confusion_matrix(truth, np.where(guess == IGNORE, n, guess), n + 1))
    return metrics.score(settings, np.stack(confusions))


def read_submission(competition: Competition, path: Path) -> dict[str, np.ndarray]:
    """A submission's label maps (H, W) uint8 by image id; UserError unless it has the sample's form."""
    settings = competition.settings
    codec = find("codec", settings.submission.codec, "competition.submission.codec")(
        settings, competition.sample, competition.label_names
    )
    sizes = {}
    for image in competition.images:
        if image.split == "test":
            with open_image(image.path) as reader:
                sizes[image.image_id] = (reader.height, reader.width)
    return codec.read(path, sizes)
