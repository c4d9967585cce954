"""Splitting images into folds: groups stay together, classes are spread evenly."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.config.folds import Folds
from lib.errors import UserError
from lib.tables import NOT_VALIDATED

ONE_GROUP = (
    "one image or one group cannot be validated: label more images, or check folds.group_column, folds.group_regex and "
    "the merged leaks; or train without a score (03_train.py --train.folds all, 05_infer_ensemble.py --infer.folds all)"
)
BLANK_CELLS = {"", "nan", "none", "null", "<na>", "n/a", "#n/a"}  # in lower case


def is_blank(cell: object) -> bool:
    """Whether a cell of a metadata table is empty, or a word for that.

    >>> is_blank(" "), is_blank("NaN"), is_blank(float("nan")), is_blank("0")
    (True, True, True, False)
    """
    return str(cell).strip().lower() in BLANK_CELLS


def name_groups(
    image_ids: list[str], metadata: pd.DataFrame, config: Folds, files: Mapping[str, str] | None = None
) -> list[str]:
    """The group of every image: from a metadata column, from a regular expression on the id or path, or the image.

    `files`: image id → path below the competition's folder, to which a regular expression with a `/` is applied. Each
    image with a blank cell becomes a group of its own, and the number of such images is printed. Raises UserError if
    the regular expression finds no group in an id, because then the option is wrong.
    """
    if config.group_column:
        return _groups_of_column(image_ids, metadata, config.group_column)
    if not config.group_regex:
        return list(image_ids)
    try:
        pattern = re.compile(config.group_regex)
    except re.error as error:
        raise UserError(f"folds.group_regex {config.group_regex!r} is not a regular expression: {error}") from None
    texts = [files[image_id] for image_id in image_ids] if files and "/" in config.group_regex else image_ids
    matches = [pattern.search(text) for text in texts]
    groups = [match and (match.group(1) if match.groups() else match.group(0)) for match in matches]
    nameless = [text for text, group in zip(texts, groups, strict=True) if not (group or "").strip()]
    if nameless:
        searched = "id" if texts is image_ids else "path"
        raise UserError(
            f"folds.group_regex {config.group_regex!r} does not match the {searched} {nameless[0]!r}, or names no "
            f"group for it ({len(nameless)} of {len(image_ids)} images); write a pattern that fits every {searched}"
        )
    return groups


def _groups_of_column(image_ids: list[str], metadata: pd.DataFrame, column: str) -> list[str]:
    """The stripped cells of a column. Images with a blank cell get groups of their own."""
    cells = [str(cell).strip() for cell in column_of(metadata, column, image_ids, "folds.group_column")]
    taken, blank = set(cells), 0
    for i, (image_id, cell) in enumerate(zip(image_ids, cells, strict=True)):
        if is_blank(cell):
            cells[i] = image_id if image_id not in taken else f"{image_id} alone"
            blank += 1
    if blank:
        print(
            f"02: folds.group_column {column} is blank for {blank} of {len(image_ids)} images; each of them is a group "
            "of its own"
        )
    return cells


def folds_of_column(metadata: pd.DataFrame, column: str, image_ids: list[str]) -> np.ndarray:
    """Fold numbers (N,) int64 from a metadata column: whole numbers from 0, as text or as floats ("2.0").

    -1 is an image that no fold validates on. Raises UserError, naming the image, for any other cell.
    """
    cells = column_of(metadata, column, image_ids, "folds.column")
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~((numbers >= -1) & (numbers == np.floor(numbers)) & (numbers < len(image_ids))))
    if len(wrong):
        raise UserError(
            f"folds.column {column}: image {image_ids[wrong[0]]!r} has {cells.iloc[wrong[0]]!r} ({len(wrong)} such "
            "images); expected the number of a fold (0, 1, 2, …), or -1 for an image that is always trained on"
        )
    return numbers.astype(np.int64)


def column_of(metadata: pd.DataFrame, column: str, image_ids: list[str], key: str) -> pd.Series:
    """A metadata column for these images. `key`: the option that names it. Raises UserError if either is missing."""
    if column not in metadata.columns:
        have = ", ".join(metadata.columns) or "nothing: set competition.metadata"
        raise UserError(f"{key}: the metadata have no column {column!r}; they have {have}")
    missing = [i for i in image_ids if i not in metadata.index]
    if missing:
        raise UserError(f"{key}: image {missing[0]!r} is not in the metadata ({len(missing)} such images)")
    return metadata.loc[image_ids, column]


def merge_groups(groups: list[str], pairs: list[tuple[int, int]]) -> list[str]:
    """Groups after the groups of each pair of image positions are merged. A merged group keeps its first name.

    >>> merge_groups(["a", "b", "c", "b"], [(0, 1)])
    ['a', 'a', 'c', 'a']
    """
    parent = {name: name for name in groups}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]  # path halving keeps long chains of copies cheap
            name = parent[name]
        return name

    for i, j in pairs:
        a, b = sorted((root(groups[i]), root(groups[j])))
        parent[b] = a
    return [root(name) for name in groups]


def make_folds(groups: list[str], content: np.ndarray, config: Folds) -> np.ndarray:
    """Fold of every image (N,), as `assign_folds`. With a single group all folds are -1, and a warning is printed."""
    if len(set(groups)) > 1:
        return assign_folds(groups, content, config)
    print(f"warning: every image gets fold -1 (never validated), because {ONE_GROUP}")
    return np.full(len(groups), NOT_VALIDATED)


def assign_folds(groups: list[str], content: np.ndarray, config: Folds) -> np.ndarray:
    """Fold of every image (N,). `content` (N, F): what to spread evenly over the folds, in any non-negative units.

    Whole groups are assigned, the largest first, each to the fold that leaves the content most even. Raises UserError
    if there are fewer groups than folds.
    """
    check_counts(len(set(groups)), config)
    k = 2 if config.scheme == "holdout" else config.k
    share = np.array([1 / k] * k) if config.scheme == "kfold" else holdout_shares(config)
    features = np.column_stack([np.ones(len(groups)), content]).astype(np.float64)
    features /= np.maximum(features.sum(0), 1e-12)
    names, group, sizes = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    by_group = features[np.argsort(group, kind="stable")]  # one sort instead of a comparison for each group
    weight = np.stack([rows.sum(0) for rows in np.split(by_group, np.cumsum(sizes)[:-1])])
    shuffled = np.random.default_rng(config.seed).permutation(len(names))
    order = shuffled[np.argsort([-weight[name].sum() for name in shuffled], kind="stable")]
    filled, fold_of = np.zeros((k, features.shape[1])), np.empty(len(names), np.int64)
    for position, name in enumerate(order):
        empty = np.flatnonzero(filled[:, 0] == 0)
        remaining = len(order) - position
        # No fold may stay empty, so the last groups go to the empty folds.
        choices = empty if len(empty) >= remaining else range(k)
        fold = min(choices, key=lambda f: _unevenness(filled, f, weight[name], share))
        filled[fold] += weight[name]
        fold_of[name] = fold
    folds = fold_of[group]
    return np.where(folds == 0, 0, NOT_VALIDATED) if config.scheme == "holdout" else folds


def check_counts(groups: int, config: Folds) -> None:
    """Raises UserError if so many groups cannot fill the folds. Its advice passes the other checks."""
    if groups < 2:
        raise UserError(f"folds: {groups} group(s) cannot fill any fold; {ONE_GROUP}")
    if config.scheme == "kfold" and groups < config.k:
        raise UserError(
            f"folds: {groups} groups cannot fill {config.k} folds; set folds.k to "
            f"{groups if groups == 2 else f'a number from 2 to {groups}'}, or check folds.group_column, "
            "folds.group_regex and the merged leaks"
        )


def holdout_shares(config: Folds) -> np.ndarray:
    """Shares of fold 0, which is held out, and of the images that are always trained on."""
    return np.array([config.holdout_share, 1 - config.holdout_share])


def _unevenness(filled: np.ndarray, fold: int, weight: np.ndarray, share: np.ndarray) -> float:
    """Squared relative deviation from the shares `share` (k,), if a group of `weight` (F,) joins `fold`."""
    after = filled.copy()
    after[fold] += weight
    return float((((after - share[:, None]) / share[:, None]) ** 2).sum())


def imbalance(table: pd.DataFrame, pixels: pd.DataFrame) -> pd.DataFrame:
    """By fold: the numbers of images and groups, and the share of each class's pixels."""
    joined = table.merge(pixels, left_on="image_id", right_index=True)
    by_fold = joined.groupby("fold")
    out = pd.DataFrame({"images": by_fold.size(), "groups": by_fold["group"].nunique()})
    for column in pixels.columns:
        total = max(1, joined[column].sum())
        out[column.removeprefix("px_")] = (by_fold[column].sum() / total).round(3)
    return out
