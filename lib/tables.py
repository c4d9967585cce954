"""The tables that stages hand to one another: each one's columns, units and meaning, checked when read.

Tables that users and organisers write are read by lib/user_tables.py.

Coordinates are `(y, x, height, width)` in pixels of the original image.
Class pixel counts stand in columns `px_<class name>`; `px_background` and `px_ignore` always exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

import pandas as pd

from lib.artifacts.read import damaged
from lib.digests import changed_since
from lib.errors import UserError

NOT_VALIDATED = -1  # `fold` of an image that every member trains on
ANY_FOLD = -1  # `fold` of a pseudo-labeled tile that every member may train on
IGNORE = 255  # label index of pixels that are neither trained on nor scored
FULL = 254  # a stored tile of one class holds its share of every pixel: 0 … FULL, or IGNORE

# column -> (dtype, meaning)
IMAGES = {
    "image_id": ("str", "file name's stem"),
    "split": ("str", "train, test or unlabeled"),
    "source": ("str", "where it comes from: competition, or the name of an external set"),
    "path": ("str", "the file"),
    "height": ("int64", "pixels"),
    "width": ("int64", "pixels"),
    "channels": ("int64", "channels of the file"),
    "blank_share": ("float64", "share of blank pixels, 0 to 1"),
    "n_tiles": ("int64", "tiles kept (train only)"),
    "n_dropped": ("int64", "tiles cut and not kept"),
    "content": ("str", "hash of the file and of what is seen of it"),
    "label": ("str", "hash of the label: of every so many pixels of it, and of each tile's count of pixels"),
}
TILES = {
    "tile_id": ("str", "<image_id>_y<y>_x<x>"),
    "image_id": ("str", "image it was cut from"),
    "source": ("str", "as in images.csv; pseudo<round> for pseudo-labels"),
    "y": ("int64", "top, original pixels"),
    "x": ("int64", "left, original pixels"),
    "height": ("int64", "original pixels"),
    "width": ("int64", "original pixels"),
    "image_path": ("str", "stored tile, relative to the table's folder"),
    "mask_path": ("str", "stored label (lib/data/preprocess/tile_labels.py), relative to the table's folder"),
    "blank_share": ("float64", "share of blank pixels, 0 to 1"),
    "contrast": ("float64", "standard deviation of the grey levels"),
    "content": ("str", "hash of the stored pixels and label"),
}
FOLDS = {
    "image_id": ("str", "training image"),
    "group": ("str", "images of one group share a fold"),
    "fold": ("int64", f"validation fold; {NOT_VALIDATED}: always trained on"),
    "kept_from": ("str", "folds, with spaces between, that do not train on it: they validate on a copy"),
}
ADDED = ("content", "label")  # what tables of older versions lack: an empty text
# A pseudo-labeled tile also says for which fold it may be used, and how confident it is.
PSEUDO_TILES = {
    **TILES,
    "fold": ("int64", f"fold whose members may train on it; {ANY_FOLD}: any"),
    "confidence": ("float64", "as pseudo.confidence says, 0 to 1"),
}

# Training images beside their prediction, the worst suspects first.
CLEAN_IMAGES = {
    "image_id": TILES["image_id"],
    "miou": ("float64", "out-of-fold mean IoU with the label, over classes that either has"),
    "short": ("float64", "how much lower it is than the members would expect if the label were right"),
    "seen_miou": ("Float64", "the same of another fold's members, which trained on it; empty where none judged"),
    "seen_short": ("Float64", "how much lower that is than these would expect"),
    "doubt": ("float64", "mean of both shortfalls, by clean.in_sample_weight; the first where there is no other"),
    "object_pixels": ("int64", "pixels, as stored, that label or members take for object"),
    "suspect": ("bool", "whether the label is listed as noisy"),
}
# The same of training tiles.
CLEAN_TILES = {
    **{name: TILES[name] for name in ("tile_id", "image_id", "y", "x", "height", "width")},
    **CLEAN_IMAGES,
    "action": ("str", "keep, drop, relabel, or weigh"),
    "mask_path": ("str", "corrected label, relative to the table's folder; empty for none"),
}

# Every submission, in the order they were made. Float64 is a number that may be unknown: an empty field.
LEDGER = {
    "time": ("str", "when it was made, YYYY-MM-DD HH:MM:SS, local time"),
    "file": ("str", "the CSV in submissions/, or the whole path of one from elsewhere"),
    "config": ("str", "the competition's name and a hash of all options"),
    "members": ("str", "networks of the ensemble, separated by `; `"),
    "oof": ("Float64", "out-of-fold score"),
    "cross": ("Float64", "the same, each image decided by what was fitted on other groups; empty for one group"),
    "public": ("Float64", "score on the public leaderboard"),
    "private": ("Float64", "score on the private leaderboard"),
    "seconds": ("Float64", "time that 05 took"),
    "version": ("str", "git commit; + when files were changed since"),
    "decision": ("str", "what turns probabilities into labels, JSON"),
    "message": ("str", "what was said when it was uploaded"),
}

MAY_BE_EMPTY = (PSEUDO_TILES, LEDGER)
EDITED = (FOLDS, LEDGER)  # users may change these
MANIFEST_OF = {
    "01_preprocess.py": "01_preprocess",
    "04_pseudo_label.py": "04_pseudo_label_{}",
    "04_pseudo_label.py --clean": "04_clean",
}
"""Stage -> name of its manifest; `{}` stands for the name of the table's folder."""


def class_columns(class_names: list[str]) -> list[str]:
    """Columns of pixel counts: each class, background and ignore.

    >>> class_columns(["road"])
    ['px_background', 'px_road', 'px_ignore']
    """
    names = [name for name in class_names if name != "background"]
    return ["px_background", *(f"px_{name}" for name in names), "px_ignore"]


def foreground_pixels(row: dict) -> int:
    """Pixels of a row of tiles.csv that belong to any class but background.

    >>> foreground_pixels({"px_background": 5, "px_road": 2, "px_ignore": 1})
    2
    """
    return sum(n for key, n in row.items() if key.startswith("px_") and key not in ("px_background", "px_ignore"))


def read(path: Path, columns: dict[str, tuple[str, str]], made_by: str, remedy: str = "") -> pd.DataFrame:
    """Read a table, and check its columns, that it has rows, no row twice, and that it is what the stage wrote.

    Raises UserError that names the file and what is wrong with it, or the stage that makes it. `remedy`: what to do
    about a table that a user may have edited.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist yet; run {made_by} first")
    remedy = remedy or f"run {made_by} again"
    try:
        table = typed(path, columns)
    except (ValueError, TypeError, OverflowError) as error:  # pandas' own, and those of decoding, are ValueErrors
        raise damaged(path, error, remedy) from None
    table = table.assign(**{name: "" for name in ADDED if name in columns and name not in table})
    missing = [name for name in columns if name not in table]
    if missing:
        raise UserError(f"{path} lacks the column(s) {', '.join(missing)}; {remedy}")
    if table.empty and columns not in MAY_BE_EMPTY:
        raise UserError(f"{path} has a header and no row; {remedy}")
    _check_rows(path, table, columns, remedy)
    if columns not in EDITED and changed_since(path, MANIFEST_OF.get(made_by, "").format(path.parent.name)):
        raise UserError(f"{path} is not what {made_by} wrote: it was changed since, or cut off; {remedy}")
    return table


def _check_rows(path: Path, table: pd.DataFrame, columns: dict[str, tuple[str, str]], remedy: str) -> None:
    """Raises UserError where a row lacks cells, or stands in the table twice."""
    if not isinstance(table.index, pd.RangeIndex):  # pandas took the first cells for names of rows
        raise UserError(f"{path} has rows with more cells than its header; {remedy}")
    short = table[[name for name, (kind, _) in columns.items() if kind == "str"]].isna().any(axis=1)
    if short.any():
        raise UserError(f"{path}: row {int(short.idxmax()) + 1} has too few cells; {remedy}")
    key = next(iter(columns))
    twice = table.loc[table[key].duplicated(), key] if columns not in (FOLDS, LEDGER) else ()
    if len(twice):
        raise UserError(f"{path} has more than one row for {twice.iloc[0]!r} ({len(twice)} such rows); {remedy}")


def typed(path: Path, columns: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """The table, of which those of `columns` that it has are of their dtypes. Raises ValueError.

    Lines that start with `#` are provenance, not data.
    """
    with path.open(encoding="utf-8-sig") as lines:
        skip = sum(1 for _ in takewhile(lambda line: line.startswith("#"), lines))
    texts = {name: "str" for name, (kind, _) in columns.items() if kind == "str"}
    empty = {name: [""] for name, (kind, _) in columns.items() if kind == "Float64"}
    options = {"keep_default_na": False, "na_values": empty, "skiprows": skip, "encoding": "utf-8-sig"}
    table = pd.read_csv(path, dtype=texts, **options)
    for name in (name for name, (kind, _) in columns.items() if kind == "int64" and name in table):
        if table[name].dtype.kind == "f" and (broken := table.loc[table[name] % 1 != 0, name]).size:
            # astype would cut it
            raise ValueError(f"column {name} holds {broken.iloc[0]}, which is not a whole number")
    return table.astype({name: kind for name, (kind, _) in columns.items() if kind != "str" and name in table})


def read_folds(path: Path, images: pd.DataFrame) -> pd.DataFrame:
    """folds.csv, checked against the rows of images.csv. Every stage after 02 reads it here.

    Raises UserError where a training image has no row or two, where a row names no training image, and as
    `check_folds` does: 01 may have been run again, and users edit this table.
    """
    table = read(path, FOLDS, "02_make_folds.py")
    train = images.loc[images["split"] == "train", "image_id"]
    twice = table.loc[table["image_id"].duplicated(), "image_id"]
    strangers = table.loc[~table["image_id"].isin(train), "image_id"]
    missing = train[~train.isin(table["image_id"])]
    for wrong, what in (
        (twice, "has more than one row for image {}"),
        (strangers, "has a row for {}, which is not a training image of images.csv"),
        (missing, "has no row for the training image {}"),
    ):
        if len(wrong):
            raise UserError(
                f"{path} {what.format(repr(wrong.iloc[0]))} ({len(wrong)} such images); run 02_make_folds.py again, or "
                "correct the table if it was edited"
            )
    try:
        check_folds(table)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return table


def check_folds(table: pd.DataFrame) -> None:
    """Raises UserError when a group sits in two folds, or a fold is empty. No fold at all is right: see `ONE_GROUP`."""
    spread = table.groupby("group")["fold"].nunique()
    if (spread > 1).any():
        raise UserError(
            f"folds: group {spread.index[spread > 1][0]!r} is in more than one fold, so validation would leak; "
            "correct the column that names the folds, or the groups"
        )
    used = validation_folds(table["fold"])
    if used != list(range(len(used))):
        raise UserError(f"folds: the folds in use are {used}; expected 0, 1, … without a gap")


def validation_folds(fold: Iterable[int]) -> list[int]:
    """The folds that images are validated in, in order. `fold`: of each image.

    >>> validation_folds([1, NOT_VALIDATED, 0, 1])
    [0, 1]
    """
    return sorted(set(fold) - {NOT_VALIDATED})
