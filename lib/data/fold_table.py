"""Stage 2's table: the group and fold of every training image, and the folds that external images are kept from."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.competition.dataset import HOME, Competition
from lib.config.folds import Folds
from lib.data.folds import column_of, folds_of_column, make_folds, merge_groups
from lib.session import Session
from lib.tables import NOT_VALIDATED


def own_images(images: pd.DataFrame) -> pd.DataFrame:
    """The rows of images.csv that folds split: training images of the competition itself."""
    return images[(images["split"] == "train") & (images["source"] == HOME)]


def class_pixel_columns(images: pd.DataFrame) -> pd.DataFrame:
    """Pixels of each class by image id, without ignored ones."""
    return images.set_index("image_id").filter(regex="^px_(?!ignore)")


def fold_table(session: Session, groups: list[str], leaks: list[tuple[str, str]]) -> pd.DataFrame:
    """Rows of folds.csv, the competition's own images first.

    `groups`: of each row of `own_images`. `leaks`: as `report_leaks` returns them; images of one leak share a group.
    """
    images, folds = own_images(session.images), session.config.folds
    ids = list(images["image_id"])
    place = {image_id: i for i, image_id in enumerate(ids)}
    groups = merge_groups(groups, [(place[a], place[b]) for a, b in leaks if a in place and b in place])
    if folds.scheme == "column":
        fold = folds_of_column(session.competition.metadata, folds.column, ids)
    else:
        fold = make_folds(groups, _content(class_pixel_columns(images), session.competition, folds), folds)
    table = pd.DataFrame({"image_id": ids, "group": groups, "fold": list(fold), "kept_from": ""})
    train = session.images[session.images["split"] == "train"]
    external = list(train.loc[train["source"] != HOME, "image_id"])
    return pd.concat([table, _external_rows(external, leaks, table)], ignore_index=True)


def _content(pixels: pd.DataFrame, competition: Competition, config: Folds) -> np.ndarray:
    """What folds should share evenly, (images, values): pixels of each class, and 0 or 1 for each stratum."""
    content = pixels.reset_index(drop=True)
    if config.stratify_column:
        strata = column_of(competition.metadata, config.stratify_column, list(pixels.index), "folds.stratify_column")
        content = pd.concat([content, pd.get_dummies(strata).reset_index(drop=True).astype(float)], axis=1)
    return content.to_numpy(float)


def _external_rows(external: list[str], leaks: list[tuple[str, str]], table: pd.DataFrame) -> pd.DataFrame:
    """Rows of external images, each of which is kept from the folds that validate on an image it shares ground with."""
    fold_of = dict(zip(table["image_id"], table["fold"], strict=True))
    folds_sharing: dict[str, set[int]] = {image_id: set() for image_id in external}
    for a, b in leaks:
        if b in folds_sharing and fold_of[a] != NOT_VALIDATED:
            folds_sharing[b].add(fold_of[a])
    kept_from = [" ".join(map(str, sorted(folds_sharing[image_id]))) for image_id in external]
    return pd.DataFrame({"image_id": external, "group": external, "fold": NOT_VALIDATED, "kept_from": kept_from})
