"""Chooses submissions for the private leaderboard: strong ones that differ from each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.dataset import Competition
from lib.competition.scoring import open_codec, test_sizes
from lib.errors import UserError
from lib.submissions import ledger
from lib.workspace import Workspace

SizeById = dict[str, tuple[int, int]]
PIXELS_PER_BATCH = 2**28  # of images whose run-lengths are held at once
PIXELS_PER_BAND = 2**22  # that are compared at once
WITHIN = 0.01  # a submission chosen because it differs is at most this much below the best score, if possible


@dataclass(frozen=True)
class ChosenSubmission:
    """A chosen submission. `differs`: from the nearest one chosen before, 0 to 1; None for the first one."""

    file: str
    strength: float
    differs: float | None


def strengths(table: pd.DataFrame) -> pd.Series:
    """The known or expected public score of each submission of the ledger; NaN where nothing is known.

    What was not uploaded is expected to score its cross-fitted out-of-fold score (the plain one where all images are of
    one group) plus the median gap of the submissions that have both.
    """
    public, cross = table["public"].astype(float), table["cross"].astype(float)
    cross = cross.fillna(table["oof"].astype(float)) if "oof" in table else cross
    gap = (public - cross).median()
    return public.fillna(cross + (0.0 if np.isnan(gap) else gap))


def choose(
    competition: Competition, workspace: Workspace, count: int, within: float = WITHIN
) -> list[ChosenSubmission]:
    """The strongest submission, and then, one by one, the submission that differs most from those already chosen.

    Only submissions at most `within` below the strongest are considered, or the next best where there are too few.
    Files that are missing, are not valid answers, or equal a chosen one are left out. Raises UserError where fewer than
    `count` are left.
    """
    table = ledger.read_ledger(workspace)
    table = table.assign(strength=strengths(table)).dropna(subset=["strength"])
    table = table[table["file"].map(lambda file: ledger.path_of(workspace, file).is_file()).astype(bool)]
    waiting = table.sort_values("strength", ascending=False, kind="stable").set_index("file")["strength"]
    sizes = test_sizes(competition)
    waiting = waiting[[is_answer(competition, ledger.path_of(workspace, file), sizes) for file in waiting.index]]
    differs = pd.Series(1.0, index=waiting.index)
    least = waiting.max() - within
    chosen: list[ChosenSubmission] = []
    while len(chosen) < count and len(waiting):
        strong = waiting[waiting >= least] if waiting.iloc[0] >= least else waiting[:1]
        file = differs[strong.index].idxmax()  # of equals the first, which is the strongest
        chosen.append(ChosenSubmission(file, float(waiting[file]), float(differs[file]) if chosen else None))
        waiting = waiting.drop(file)
        for other in waiting.index if len(chosen) < count else []:
            paths = ledger.path_of(workspace, file), ledger.path_of(workspace, other)
            differs[other] = min(differs[other], difference(competition, *paths, sizes))
        waiting = waiting[differs[waiting.index] > 0]
    if len(chosen) < count:
        raise UserError(
            f"{workspace.ledger} lists {len(chosen)} submissions with a score and an answer of their own, expected "
            f"{count}; make more with 05_infer_ensemble.py, or select fewer"
        )
    return chosen


def is_answer(competition: Competition, path: Path, sizes: SizeById) -> bool:
    """Whether a file has the form that the organiser asks for; if not, prints why."""
    try:
        open_codec(competition).check(path, sizes)
    except UserError as error:
        print(f"left out: {error}")
        return False
    return True


def difference(competition: Competition, one: Path, other: Path, sizes: SizeById) -> float:
    """The share of pixels with different labels, of those with an object in either CSV (without background: of all).

    Both are read in bands of rows, a batch of images at a time. Raises UserError where the codec cannot read CSVs.
    """
    codec = open_codec(competition)
    size_of = getattr(codec, "answer_size", lambda height, width: (height, width))  # some answers have another size
    if not hasattr(codec, "read"):
        name = competition.settings.submission.codec
        raise UserError(f"the codec {name} has no read(path, sizes), which comparing two submissions needs")
    different, marked = 0, 0
    for batch in _batches(sizes):
        of_one, of_other = codec.read(one, batch), codec.read(other, batch)
        for image_id, size in batch.items():
            height, width = size_of(*size)
            rows = max(1, PIXELS_PER_BAND // width)
            for y in range(0, height, rows):
                box = (y, 0, min(rows, height - y), width)
                a, b = of_one[image_id].read(*box), of_other[image_id].read(*box)
                different += int(np.count_nonzero(a != b))
                either = (a > 0) | (b > 0) if competition.settings.background else np.ones_like(a)
                marked += int(np.count_nonzero(either))
    return different / marked if marked else 0.0


def _batches(sizes: SizeById) -> Iterator[SizeById]:
    """Batches of images with at most `PIXELS_PER_BATCH` pixels in all, or of one image."""
    batch: SizeById = {}
    for image_id, (height, width) in sizes.items():
        if batch and sum(h * w for h, w in batch.values()) + height * width > PIXELS_PER_BATCH:
            yield batch
            batch = {}
        batch[image_id] = (height, width)
    yield batch
