"""Finds groups of images that must share a fold: by metadata columns, folders, or families of names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from lib.competition.labels.template import Names
from lib.propose.folder import Folder
from lib.propose.found import Notes, OptionChoice, abbreviated, choice_if
from lib.propose.names import Known, family, family_pattern, form_of

GROUP_WORDS = ("patient", "subject", "case", "slide", "donor", "person", "place", "site", "city", "area", "tile",
               "scene", "video", "study", "group", "location", "source")  # fmt: skip
NO_GROUP = re.compile(r"split|fold|^set$|file|path|height|width|size|usage|rle|encod|resolution|^age$", re.IGNORECASE)
RUN_COLUMN = re.compile(r"rle|encod|mask", re.IGNORECASE)
MIN_GROUPS = 4
MAX_GROUPS_PER_IMAGE = 0.9  # with more groups, hardly any image shares its group with another
EQUAL_STEPS = 0.7  # share of the steps between frame numbers that must be equal
MAX_FAMILY_WORDS = 8  # at most so many words are cut off a name


@dataclass(frozen=True)
class Grouping:
    """`choices`: options of `folds` and of metadata. `groups`: how many groups the training images have."""

    choices: list[OptionChoice]
    groups: int


def find_groups(folder: Folder, train: set[str], test: set[str], not_metadata: set[str], notes: Notes) -> Grouping:
    """Groups from a metadata table, else from folders, else from families of names.

    `train` and `test`: image ids. `not_metadata`: tables with another purpose. The table with the most columns wins.
    """
    choices: list[OptionChoice] = []
    known = folder.known()
    for name, table in sorted(folder.tables.items(), key=lambda item: -len(item[1].columns)):
        if name in not_metadata or len(table.columns) < 2 + any(map(RUN_COLUMN.search, table.columns)):
            continue
        key, template = _key(table, train, known)
        if not key:
            continue
        names = Names(template, [], train | test)
        table = table.set_axis([(names.read(cell) or (cell,))[0] for cell in table[key]]).drop(columns=key)
        choices = [OptionChoice("competition.metadata", name), OptionChoice("competition.metadata_id", key)]
        choices += choice_if(template != "{id}", "competition.metadata_template", template)
        notes.found.append(f"metadata {name}: {abbreviated(list(table.columns), 12)}")
        grouping = _of_columns(table, train, test, notes)
        if grouping:
            return Grouping(choices + grouping.choices, grouping.groups)
        strata = [c for c in table.columns if _is_stratum(table[c], train)]
        if strata:
            choices.append(
                OptionChoice(
                    "folds.stratify_column", strata[0], f"{abbreviated(set(table.loc[sorted(train), strata[0]]))}"
                )
            )
        break
    by_name = _of_folders(folder.images(), train, test, notes) or _of_names(train, test, notes)
    return Grouping(choices + by_name.choices, by_name.groups)


def _key(table: pd.DataFrame, train: set[str], known: Known) -> tuple[str, str]:
    """The column that names every training image once, and its template; empty strings where there is none."""
    single = [column for column in table.columns if len(table) and not table[column].duplicated().any()]
    for column in single:
        if train <= set(table[column]):
            return column, "{id}"
    for column in single:
        form = form_of(list(table[column]), known)
        if form and not form.classes and form.alone and train <= form.ids:
            return column, form.template
    return "", ""


def _of_columns(table: pd.DataFrame, train: set[str], test: set[str], notes: Notes) -> Grouping | None:
    """A column with the name of a group, such as patient, or whose values no training and test image share."""
    train_rows, test_rows = table.loc[sorted(train)], table.loc[[i for i in sorted(test) if i in table.index]]
    for column in sorted(table.columns, key=lambda c: not any(word in c.lower() for word in GROUP_WORDS)):
        values = set(train_rows[column])
        count = len(values)
        if NO_GROUP.search(column) or not 2 <= count < len(train_rows):
            continue
        named = any(word in column.lower() for word in GROUP_WORDS)
        disjoint = len(test_rows) > 0 and not values & set(test_rows[column]) and 2 * count <= len(train_rows)
        if named or disjoint:
            why = f"{count} values"
            if disjoint:
                why += "; the test images have other values, so folds must not share one either"
            notes.found.append(f"groups: metadata column {column} ({why})")
            return Grouping([OptionChoice("folds.group_column", column, why)], count)
    return None


def _is_stratum(values: pd.Series, train: set[str]) -> bool:
    values = values.loc[sorted(train)]
    numeric = values.str.fullmatch(r"-?\d+(\.\d+)?").all()
    return not NO_GROUP.search(values.name) and 2 <= values.nunique() <= len(values) // 3 and not numeric


def _of_folders(files: dict[str, str], train: set[str], test: set[str], notes: Notes) -> Grouping | None:
    """Folders of several training images each, such as one for each patient, that hold no test image.

    The outermost such level counts. `files`: image id -> path. A few large folders are parts of a data set rather
    than groups, hence `MIN_GROUPS`.
    """
    parents = {name: PurePosixPath(files[name]).parts[:-1] for name in sorted(train | test)}
    depth = min(map(len, parents.values()), default=0)
    for level in range(depth, 0, -1):  # 1: the folder of the image
        folders, test_folders = ({parents[name][-level] for name in names} for names in (train, test))
        if MIN_GROUPS <= len(folders) <= MAX_GROUPS_PER_IMAGE * len(train) and not folders & test_folders:
            why = f"{len(folders)} folders, such as {min(folders)}; none of them holds a test image"
            notes.found.append(f"groups: {why}")
            notes.unsure.append(
                "whether images of one folder belong together: they stay in one fold (folds.group_regex)"
            )
            regex = r"([^/]+)/" + r"[^/]+/" * (level - 1) + r"[^/]+$"
            return Grouping([OptionChoice("folds.group_regex", regex, why)], len(folders))
    return None


def _of_names(train: set[str], test: set[str], notes: Notes) -> Grouping:
    """Families of names that start alike. As few words as possible are cut off the names' ends."""
    grids, one_sequence = _grids(train), False
    for parts in range(2 if grids else 1, MAX_FAMILY_WORDS + 1):
        families = {family(name, parts) for name in train}
        running = parts == 1 and _running(train)
        one_sequence |= running and len(families) == 1
        if len(families) < (2 if running or grids else MIN_GROUPS):
            break
        if len(families) <= MAX_GROUPS_PER_IMAGE * len(train):
            shared = families & {family(name, parts) for name in test}
            why = f"{len(families)} families of names, such as {min(families)}"
            why += ", with running numbers" if running else ""
            if not shared and test:
                why += "; no test image belongs to them"
            notes.found.append(f"groups: {why}")
            notes.unsure.append(
                "whether images whose names start alike belong together: they stay in one fold (folds.group_regex)"
            )
            regex = family_pattern(parts, any(family(name, parts) == name for name in train))
            return Grouping([OptionChoice("folds.group_regex", regex, why)], len(families))
    if one_sequence:
        notes.unsure.append(
            "whether neighbouring frames or slices look alike: all names are running numbers of one sequence, so two "
            "folds may show the same thing (give blocks of frames a group in a metadata column, folds.group_column)"
        )
        return Grouping([], len(train))
    notes.unsure.append(
        "whether images belong together (patients, places): nothing says so, so each image is a group "
        "(folds.group_column, or group_regex, as in ^(.+?)_)"
    )
    return Grouping([], len(train))


def _grids(names: set[str]) -> bool:
    """Whether names end in two coordinates, as those of tiles do that were cut from a few larger images.

    >>> _grids({"rome_0_0", "rome_0_512", "rome_512_0", "rome_512_512", "oslo_0_0", "oslo_512_0"})
    True
    >>> _grids({"aachen_000001_000019", "aachen_000002_000019", "ulm_000001_000019", "ulm_000007_000019"})
    False
    """
    matches = [re.fullmatch(r"(.+?)[_.-]([A-Za-z]?\d+)[_.-]([A-Za-z]?\d+)", name) for name in names]
    if not all(matches):
        return False
    images = {match[1] for match in matches}
    rows, columns = {(match[1], match[2]) for match in matches}, {(match[1], match[3]) for match in matches}
    # In a grid a row has several columns, and a column several rows.
    return 2 <= len(images) < len(names) / 2 and max(len(rows), len(columns)) <= 0.75 * len(names)


def _running(names: set[str]) -> bool:
    """Whether names end in the numbers of frames or slices: most families count up in steps of one size.

    >>> _running({"seq01_0120", "seq01_0150", "seq01_0180", "seq02_0030", "seq02_0060"})
    True
    >>> _running({"a_17", "a_3", "a_90", "b_41", "b_5"})
    False
    """
    frames: dict[str, list[int]] = {}
    for name in names:
        match = re.fullmatch(r"(.+?)[_.-][A-Za-z]*(\d+)", name)
        if not match:
            return False
        frames.setdefault(match[1], []).append(int(match[2]))
    steps = [np.diff(sorted(numbers)) for numbers in frames.values() if len(numbers) > 1]
    even = [sizes for sizes in steps if np.mean(sizes == np.median(sizes)) >= EQUAL_STEPS]
    return len(steps) > len(frames) / 2 and len(even) > len(steps) / 2
