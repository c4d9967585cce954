"""Splitting images into folds: groups stay together, classes are spread evenly."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from lib.config.folds import Folds
from lib.errors import UserError


def name_groups(image_ids: list[str], metadata: pd.DataFrame, config: Folds) -> list[str]:
    """The group of every image: from a metadata column, a regular expression on the id, or its own."""
    if config.group_column:
        return list(column_of(metadata, config.group_column, image_ids, "folds.group_column"))
    if not config.group_regex:
        return list(image_ids)
    try:
        pattern = re.compile(config.group_regex)
    except re.error as error:
        raise UserError(f"folds.group_regex {config.group_regex!r} is no regular expression: {error}") from None
    groups = []
    for image_id in image_ids:
        match = pattern.search(image_id)
        if not match:
            raise UserError(f"folds.group_regex {config.group_regex!r} does not match the id {image_id!r}")
        groups.append(match.group(1) if match.groups() else match.group(0))
    return groups


def column_of(metadata: pd.DataFrame, column: str, image_ids: list[str], key: str) -> pd.Series:
    """A metadata column for these images. Raises UserError when column or image is missing."""
    if column not in metadata.columns:
        have = ", ".join(metadata.columns) or "nothing: set competition.metadata"
        raise UserError(f"{key}: the metadata have no column {column!r}; they have {have}")
    missing = [i for i in image_ids if i not in metadata.index]
    if missing:
        raise UserError(f"{key}: image {missing[0]!r} is not in the metadata ({len(missing)} such images)")
    return metadata.loc[image_ids, column]


def merge_groups(groups: list[str], pairs: list[tuple[int, int]]) -> list[str]:
    """Union of groups over pairs of image positions; the merged group keeps its first name.

    >>> merge_groups(["a", "b", "c", "b"], [(0, 1)])
    ['a', 'a', 'c', 'a']
    """
    parent = {name: name for name in groups}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for i, j in pairs:
        a, b = sorted((root(groups[i]), root(groups[j])))
        parent[b] = a
    return [root(name) for name in groups]


def assign_folds(groups: list[str], content: np.ndarray, config: Folds) -> np.ndarray:
    """Fold of every image (N,). `content` (N, F): what is to be spread evenly, any non-negative units.

    Whole groups, largest first, each to the fold that this leaves most even. Raises UserError with fewer
    groups than folds.
    """
    names = sorted(set(groups))
    k = 2 if config.scheme == "holdout" else config.k
    if len(names) < k:
        raise UserError(
            f"folds: {len(names)} group(s) cannot fill {k} folds; lower folds.k, or check folds.group_column, "
            "folds.group_regex and the merged leaks"
        )
    share = np.array([1 / k] * k) if config.scheme == "kfold" else holdout_shares(config)
    features = np.column_stack([np.ones(len(groups)), content]).astype(np.float64)
    features /= np.maximum(features.sum(0), 1e-12)
    weight = {name: features[[g == name for g in groups]].sum(0) for name in names}
    rng = np.random.default_rng(config.seed)
    order = sorted(rng.permutation(names), key=lambda name: -weight[name].sum())
    filled = np.zeros((k, features.shape[1]))
    fold_of = {}
    for position, name in enumerate(order):
        empty = np.flatnonzero(filled[:, 0] == 0)
        left = len(order) - position
        # Never leave a fold empty: the last groups go where nothing is yet.
        choices = empty if len(empty) >= left else range(k)
        fold = min(choices, key=lambda f: _unevenness(filled, f, weight[name], share))
        filled[fold] += weight[name]
        fold_of[name] = fold
    folds = np.array([fold_of[g] for g in groups])
    return np.where(folds == 0, 0, -1) if config.scheme == "holdout" else folds


def holdout_shares(config: Folds) -> np.ndarray:
    """Fold 0 is held out; the rest is always trained on."""
    return np.array([config.holdout_share, 1 - config.holdout_share])


def _unevenness(filled: np.ndarray, fold: int, weight: np.ndarray, share: np.ndarray) -> float:
    after = filled.copy()
    after[fold] += weight
    return float((((after - share[:, None]) / share[:, None]) ** 2).sum())


def check_folds(table: pd.DataFrame) -> None:
    """Raises UserError when a group sits in two folds, or a fold is empty."""
    spread = table.groupby("group")["fold"].nunique()
    if (spread > 1).any():
        raise UserError(
            f"folds: group {spread.index[spread > 1][0]!r} is in more than one fold, so validation would leak; "
            "mend the column that names the folds, or the groups"
        )
    used = sorted(set(table["fold"]) - {-1})
    if not used or used != list(range(len(used))):
        raise UserError(f"folds: the folds in use are {used}; expected 0, 1, … without a gap")


def imbalance(table: pd.DataFrame, pixels: pd.DataFrame) -> pd.DataFrame:
    """Images, groups and share of each class's pixels by fold."""
    joined = table.merge(pixels, left_on="image_id", right_index=True)
    by_fold = joined.groupby("fold")
    out = pd.DataFrame({"images": by_fold.size(), "groups": by_fold["group"].nunique()})
    for column in pixels.columns:
        total = max(1, joined[column].sum())
        out[column.removeprefix("px_")] = (by_fold[column].sum() / total).round(3)
    return out
