"""Which submissions to choose for the private leaderboard: strong ones that differ."""

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

Sizes = dict[str, tuple[int, int]]
TOGETHER = 2**28  # pixels of images whose runs are held at once
BAND = 2**22  # pixels compared at once
WITHIN = 0.01  # of the best score: what is chosen for being different is no weaker than that, if it can be


@dataclass(frozen=True)
class Choice:
    """A submission; `strength` as in `strengths`; `differs` from the nearest one chosen before, 0 to 1, if any was."""

    file: str
    strength: float
    differs: float | None


def strengths(table: pd.DataFrame) -> pd.Series:
    """What each submission of the ledger scores on the public board; NaN where nothing is known.

    Where it was not uploaded, its crossed out-of-fold score (of images of one group alone, which cannot be crossed, the
    plain one), moved by the median gap of those that have both.
    """
    public, cross = table["public"].astype(float), table["cross"].astype(float)
    cross = cross.fillna(table["oof"].astype(float)) if "oof" in table else cross
    gap = (public - cross).median()
    return public.fillna(cross + (0.0 if np.isnan(gap) else gap))


def choose(competition: Competition, workspace: Workspace, count: int, within: float = WITHIN) -> list[Choice]:
    """The strongest submission, then, one by one, what differs most from all chosen so far.

    Only what is at most `within` below the strongest, or, where there are too few, the next best. Files that are gone,
    are no answers (any more), or say the same as a chosen one are left out. Raises UserError when fewer than `count`
    are left.
    """
    table = ledger.read(workspace)
    table = table.assign(strength=strengths(table)).dropna(subset=["strength"])
    table = table[table["file"].map(lambda file: ledger.path_of(workspace, file).is_file()).astype(bool)]
    waiting = table.sort_values("strength", ascending=False, kind="stable").set_index("file")["strength"]
    sizes = test_sizes(competition)
    waiting = waiting[[is_answer(competition, ledger.path_of(workspace, file), sizes) for file in waiting.index]]
    differs = pd.Series(1.0, index=waiting.index)
    least = waiting.max() - within
    chosen: list[Choice] = []
    while len(chosen) < count and len(waiting):
        strong = waiting[waiting >= least] if waiting.iloc[0] >= least else waiting[:1]
        file = differs[strong.index].idxmax()  # of equals the first, which is the strongest
        chosen.append(Choice(file, float(waiting[file]), float(differs[file]) if chosen else None))
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


def is_answer(competition: Competition, path: Path, sizes: Sizes) -> bool:
    """Whether a file is what the organiser asks for, as far as is known now; if not, says why."""
    try:
        open_codec(competition).check(path, sizes)
    except UserError as error:
        print(f"left out: {error}")
        return False
    return True


def difference(competition: Competition, one: Path, other: Path, sizes: Sizes) -> float:
    """Share of the pixels with an object in either CSV (of all, without background) that get different labels.

    Both are read by bands of rows, some images at a time. Raises UserError when a codec cannot read its CSVs.
    """
    codec = open_codec(competition)
    size_of = getattr(codec, "answer_size", lambda height, width: (height, width))  # some write in other pixels
    if not hasattr(codec, "read"):
        name = competition.settings.submission.codec
        raise UserError(f"the codec {name} has no read(path, sizes), which comparing two submissions needs")
    different, marked = 0, 0
    for some in _batches(sizes):
        mine, theirs = codec.read(one, some), codec.read(other, some)
        for image_id, size in some.items():
            height, width = size_of(*size)
            rows = max(1, BAND // width)
            for y in range(0, height, rows):
                box = (y, 0, min(rows, height - y), width)
                a, b = mine[image_id].read(*box), theirs[image_id].read(*box)
                different += int(np.count_nonzero(a != b))
                either = (a > 0) | (b > 0) if competition.settings.background else np.ones_like(a)
                marked += int(np.count_nonzero(either))
    return different / marked if marked else 0.0


def _batches(sizes: Sizes) -> Iterator[Sizes]:
    """Images of at most `TOGETHER` pixels, or one alone."""
    batch: Sizes = {}
    for image_id, (height, width) in sizes.items():
        if batch and sum(h * w for h, w in batch.values()) + height * width > TOGETHER:
            yield batch
            batch = {}
        batch[image_id] = (height, width)
    yield batch
