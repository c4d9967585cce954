"""Whose predictions label what."""

from __future__ import annotations


def labelers(member_folds: list[int], source: str) -> tuple[list[int], list[list[int]]]:
    """For whom labels are made, and by which members (positions in `member_folds`).

    `per_fold`: a fold's labels come only from its own members, which never saw its validation images.
    `ensemble`: from all members, for any fold (-1).

    >>> labelers([0, 0, 1], "per_fold")
    ([0, 1], [[0, 1], [2]])
    >>> labelers([0, 0, 1], "ensemble")
    ([-1], [[0, 1, 2]])
    """
    if source == "ensemble":
        return [-1], [list(range(len(member_folds)))]
    folds = sorted(set(member_folds))
    return folds, [[i for i, fold in enumerate(member_folds) if fold == wanted] for wanted in folds]
