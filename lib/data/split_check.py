"""Preflight: can the images be split as the options ask? A rehearsal with few images cannot tell."""

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
    """Check groups, folds, strata and the folds to train, with all training images. Reads no image file.

    Leaks may still merge groups later. Raises UserError with the message that 02 or 03 would end with.
    """
    ids = competition.ids("train")
    groups = name_groups(ids, competition.metadata, config.folds, competition.files)
    if config.folds.stratify_column:
        column_of(competition.metadata, config.folds.stratify_column, ids, "folds.stratify_column")
    folds = planned_folds(config, competition, ids, groups)
    if not folds and (set(config.train.folds) != {"all"} or config.infer.folds != "all"):
        raise UserError(f"no image is validated on: {ONE_GROUP}")
    unknown = sorted(set(config.train.folds) - {*folds, "all"})
    if unknown:
        raise UserError(f"train.folds names fold {unknown[0]}, but there are {folds or 'none'}")
    if folds:
        check_classes(config, competition, ids, groups)


def planned_folds(config: Config, competition: Competition, ids: list[str], groups: list[str]) -> list[int]:
    """The folds that 02 will make; none if a single group cannot be validated."""
    if config.folds.scheme == "column":
        fold = folds_of_column(competition.metadata, config.folds.column, ids)
        check_folds(pd.DataFrame({"image_id": ids, "group": groups, "fold": fold}))
        return validation_folds(fold.tolist())
    if len(set(groups)) == 1:
        return []
    check_counts(len(set(groups)), config.folds)
    return [0] if config.folds.scheme == "holdout" else list(range(config.folds.k))


def check_classes(config: Config, competition: Competition, ids: list[str], groups: list[str]) -> None:
    """Print a warning for each class that occurs in one group only: no member both learns it and is validated on it.

    Does nothing before 01 has counted the pixels of classes.
    """
    path = Workspace(workspace_of(config)).images
    if not path.is_file():
        return
    images = tables.read(path, tables.IMAGES, "01_preprocess.py").set_index("image_id")
    group = pd.Series(groups, ids)
    known = images[images.index.isin(ids)]
    for name in competition.settings.classes:
        with_class = known.index[known.get(f"px_{name}", pd.Series(0, known.index)) > 0]
        if len(with_class) and group[with_class].nunique() == 1:
            print(
                f"warning: only one group holds class {name!r} ({len(with_class)} images, the first is "
                f"{with_class[0]!r}), so no member both learns it and is validated on it; its score says nothing"
            )
