"""Before long work: can the real tables be split as the options ask? A rehearsal, with few images, cannot tell."""

from __future__ import annotations

import pandas as pd

from lib import tables
from lib.competition.dataset import Competition
from lib.config import Config
from lib.config.load import workspace_of
from lib.data.folds import ONE_GROUP, check_counts, column_of, folds_of_column, name_groups
from lib.errors import UserError
from lib.tables import check_folds, validation_folds
from lib.workspace import Workspace


def check_split(config: Config, competition: Competition) -> None:
    """Check groups, folds, strata and the folds to train on all training images. Reads no image.

    Leaks may still merge groups. Raises UserError with the sentence that 02 or 03 would end with.
    """
    ids = competition.ids("train")
    groups = name_groups(ids, competition.metadata, config.folds, competition.files)
    if config.folds.stratify_column:
        column_of(competition.metadata, config.folds.stratify_column, ids, "folds.stratify_column")
    folds = folds_asked(config, competition, ids, groups)
    if not folds and (set(config.train.folds) != {"all"} or config.infer.folds != "all"):
        raise UserError(f"no image is validated on: {ONE_GROUP}")
    strangers = sorted(set(config.train.folds) - {*folds, "all"})
    if strangers:
        raise UserError(f"train.folds names fold {strangers[0]}, but there are {folds or 'none'}")
    if folds:
        check_classes(config, competition, ids, groups)


def folds_asked(config: Config, competition: Competition, ids: list[str], groups: list[str]) -> list[int]:
    """The numbers of the folds that 02 will make; none where one group cannot be validated."""
    if config.folds.scheme == "column":
        fold = folds_of_column(competition.metadata, config.folds.column, ids)
        check_folds(pd.DataFrame({"image_id": ids, "group": groups, "fold": fold}))
        return validation_folds(fold.tolist())
    if len(set(groups)) == 1:
        return []
    check_counts(len(set(groups)), config.folds)
    return [0] if config.folds.scheme == "holdout" else list(range(config.folds.k))


def check_classes(config: Config, competition: Competition, ids: list[str], groups: list[str]) -> None:
    """Say which classes only one group holds, where 01 has counted their pixels: a member trains on them or validates
    on them, never both."""
    path = Workspace(workspace_of(config)).images
    if not path.is_file():
        return
    images = tables.read(path, tables.IMAGES, "01_preprocess.py").set_index("image_id")
    group = pd.Series(groups, ids)
    known = images[images.index.isin(ids)]
    for name in competition.settings.classes:
        held = known.index[known.get(f"px_{name}", pd.Series(0, known.index)) > 0]
        if len(held) and group[held].nunique() == 1:
            print(
                f"warning: only one group holds class {name!r} ({len(held)} images, the first is {held[0]!r}), so no "
                "member both learns it and is validated on it; its score says nothing"
            )
