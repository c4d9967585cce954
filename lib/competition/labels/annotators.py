"""Several people's masks of one image (`competition.labels.annotators`) as one label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.tables import IGNORE


def agreed(votes: np.ndarray, voters: np.ndarray, rule: str) -> np.ndarray:
    """Where masks of one class together say object, (h, w) bool.

    `votes`: how many say so for each pixel (h, w), of `voters` that say anything. `rule`: `labels.annotators`; for
    `majority` and `mean` it takes more than half of them, else one.

    >>> [agreed(np.array([0, 1, 2]), np.array([3, 3, 3]), rule).tolist() for rule in ("union", "majority")]
    [[False, True, True], [False, False, True]]
    """
    return 2 * votes > voters if rule in ("majority", "mean") else votes > 0


def most_frequent(maps: Sequence[np.ndarray]) -> np.ndarray:
    """The label index that most maps (h, w) uint8 give a pixel, of equal ones the lowest; `IGNORE` where all do.

    >>> most_frequent([np.array([[0, 1, 255]]), np.array([[2, 1, 255]]), np.array([[2, 0, 255]])]).tolist()
    [[2, 1, 255]]
    """
    if len(maps) == 1:
        return maps[0]
    best, most = np.full(maps[0].shape, IGNORE, np.uint8), np.zeros(maps[0].shape, np.int32)
    for index in np.unique(np.stack(maps)).tolist():
        votes = np.sum([one == index for one in maps], axis=0, dtype=np.int32)
        if index != IGNORE:
            best[votes > most] = index
            most = np.maximum(most, votes)
    return best


def check_annotators(config: CompetitionSettings, one_class_each: bool) -> None:
    """Raises UserError where the rule does not go with the masks. `one_class_each`: each mask shows a single class."""
    rule, start = config.labels.annotators, "competition.labels.annotators"
    if rule and not config.labels.files:
        raise UserError(
            f"{start} is {rule}, but every image has one mask: say in competition.labels.files how those of several "
            "people are called, as in */{id}.png"
        )
    if rule in ("mean", "union") and not one_class_each:
        raise UserError(f"{start} {rule} is for masks of one class each; for masks of class indices set majority")
    if rule == "mean" and not config.binary:
        raise UserError(
            f"{start} mean makes shares of classes, which tiles of several classes do not hold unless they may overlap "
            "(competition.multilabel); set majority"
        )
