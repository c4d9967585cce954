"""Finds groups of images that must share a fold: by metadata columns, folders, or families of names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from lib.competition.labels.template import Names
from lib.propose.folder import Folder
from lib.propose.found import Notes, OptionChoice, choice_if, some
from lib.propose.names import Known, family, family_pattern, form_of

GROUP_WORDS = ("patient", "subject", "case", "slide", "donor", "person", "place", "site", "city", "area", "tile",
               "scene", "video", "study", "group", "location", "source")  # fmt: skip
NO_GROUP = re.compile(r"split|fold|^set$|file|path|height|width|size|usage|rle|encod|resolution|^age$", re.IGNORECASE)
RUN_COLUMN = re.compile(r"rle|encod|mask", re.IGNORECASE)
MIN_GROUPS = 4
MOST_ALONE = 0.9  # groups for each image, at most: with more, hardly any image shares its group
EQUAL_STEPS = 0.7  # share of the steps between the numbers of frames that are equal
WORDS_CUT = 8  # at most so many words are cut off a name


@dataclass(frozen=True)
class Grouping:
    """`choices` of `folds` and metadata; how many groups the training images have."""

    choices: list[OptionChoice]
    groups: int


def find_groups(folder: Folder, train: set[str], test: set[str], taken: set[str], notes: Notes) -> Grouping:
    """`taken`: tables that are no metadata. Those of more columns come first."""
    choices: list[OptionChoice] = []
    known = folder.known()
    for name, table in sorted(folder.tables.items(), key=lambda item: -len(item[1].columns)):
        if name in taken or len(table.columns) < 2 + any(map(RUN_COLUMN.search, table.columns)):
            continue
        key, template = _key(table, train, known)
        if not key:
            continue
        names = Names(template, [], train | test)
        table = table.set_axis([(names.read(cell) or (cell,))[0] for cell in table[key]]).drop(columns=key)
        choices = [OptionChoice("competition.metadata", name), OptionChoice("competition.metadata_id", key)]
        choices += choice_if(template != "{id}", "competition.metadata_template", template)
        notes.found.append(f"metadata {name}: {some(list(table.columns), 12)}")
        grouping = _of_columns(table, train, test, notes)
        if grouping:
            return Grouping(choices + grouping.choices, grouping.groups)
        strata = [c for c in table.columns if _is_stratum(table[c], train)]
        if strata:
            choices.append(
                OptionChoice("folds.stratify_column", strata[0], f"{some(set(table.loc[sorted(train), strata[0]]))}")
            )
        break
    by_name = _of_folders(folder.images(), train, test, notes) or _of_names(train, test, notes)
    return Grouping(choices + by_name.choices, by_name.groups)


def _key(table: pd.DataFrame, train: set[str], known: Known) -> tuple[str, str]:
    """(the column that names every training image once, its template); empty where there is none."""
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
    """A column that tells test from training images by its values, or that is called like one."""
    here, there = table.loc[sorted(train)], table.loc[[i for i in sorted(test) if i in table.index]]
    for column in sorted(table.columns, key=lambda c: not any(word in c.lower() for word in GROUP_WORDS)):
        count = here[column].nunique()
        if NO_GROUP.search(column) or not 2 <= count < len(here):
            continue
        named = any(word in column.lower() for word in GROUP_WORDS)
        apart = len(there) > 0 and not set(here[column]) & set(there[column]) and 2 * count <= len(here)
        if named or apart:
            why = f"{count} values"
            if apart:
                why += ", others than the test images have: so folds must not share one either"
            notes.found.append(f"groups: metadata column {column} ({why})")
            return Grouping([OptionChoice("folds.group_column", column, why)], count)
    return None


def _is_stratum(values: pd.Series, train: set[str]) -> bool:
    here = values.loc[sorted(train)]
    numeric = here.str.fullmatch(r"-?\d+(\.\d+)?").all()
    return not NO_GROUP.search(values.name) and 2 <= here.nunique() <= len(here) // 3 and not numeric


def _of_folders(files: dict[str, str], train: set[str], test: set[str], notes: Notes) -> Grouping | None:
    """Folders of several training images each, such as a patient's, in which no test image lies; the outermost such
    level. `files`: where the images lie.

    A few large folders are parts of a data set rather than groups, hence `MIN_GROUPS`.
    """
    parents = {name: PurePosixPath(files[name]).parts[:-1] for name in sorted(train | test)}
    for level in range(min((len(own) for own in parents.values()), default=0), 0, -1):  # 1: the folder of the image
        here, there = ({parents[name][-level] for name in names} for names in (train, test))
        if MIN_GROUPS <= len(here) <= MOST_ALONE * len(train) and not here & there:
            why = f"{len(here)} folders, such as {min(here)}; no test image lies in one of them"
            notes.found.append(f"groups: {why}")
            notes.unsure.append(
                "whether images of one folder belong together: they stay in one fold (folds.group_regex)"
            )
            regex = r"([^/]+)/" + r"[^/]+/" * (level - 1) + r"[^/]+$"
            return Grouping([OptionChoice("folds.group_regex", regex, why)], len(here))
    return None


def _of_names(train: set[str], test: set[str], notes: Notes) -> Grouping:
    """Frames of one sequence, or the fewest words to cut off the names that make families of them."""
    grids, one_sequence = _grids(train), False
    for parts in range(2 if grids else 1, WORDS_CUT + 1):
        families = {family(name, parts) for name in train}
        running = parts == 1 and _running(train)
        one_sequence |= running and len(families) == 1
        if len(families) < (2 if running or grids else MIN_GROUPS):
            break
        if len(families) <= MOST_ALONE * len(train):
            shared = families & {family(name, parts) for name in test}
            why = f"{len(families)} families of names, such as {min(families)}"
            why += ", with running numbers" if running else ""
            if not shared and test:
                why += "; the test images are of others"
            notes.found.append(f"groups: {why}")
            notes.unsure.append(
                "whether images whose names start alike belong together: they stay in one fold (folds.group_regex)"
            )
            regex = family_pattern(parts, any(family(name, parts) == name for name in train))
            return Grouping([OptionChoice("folds.group_regex", regex, why)], len(families))
    if one_sequence:
        notes.unsure.append(
            "whether neighbouring frames or slices look alike: all names are running numbers of one sequence, so folds "
            "may share what they show (give blocks of them a group in a metadata column, folds.group_column)"
        )
        return Grouping([], len(train))
    notes.unsure.append(
        "whether images belong together (patients, places): nothing says so, each is its own group "
        "(folds.group_column, or group_regex, as in ^(.+?)_)"
    )
    return Grouping([], len(train))


def _grids(names: set[str]) -> bool:
    """Whether names end in the two coordinates of tiles that are cut from a few larger images.

    >>> _grids({"rome_0_0", "rome_0_512", "rome_512_0", "rome_512_512", "oslo_0_0", "oslo_512_0"})
    True
    >>> _grids({"aachen_000001_000019", "aachen_000002_000019", "ulm_000001_000019", "ulm_000007_000019"})
    False
    """
    found = [re.fullmatch(r"(.+?)[_.-]([A-Za-z]?\d+)[_.-]([A-Za-z]?\d+)", name) for name in names]
    if not all(found):
        return False
    whole = {match[1] for match in found}
    rows, columns = {(match[1], match[2]) for match in found}, {(match[1], match[3]) for match in found}
    # In a grid a row has several columns, and a column several rows.
    return 2 <= len(whole) < len(names) / 2 and max(len(rows), len(columns)) <= 0.75 * len(names)


def _running(names: set[str]) -> bool:
    """Whether names end in the numbers of frames or slices: most families count on in steps of one size.

    >>> _running({"seq01_0120", "seq01_0150", "seq01_0180", "seq02_0030", "seq02_0060"})
    True
    >>> _running({"a_17", "a_3", "a_90", "b_41", "b_5"})
    False
    """
    frames: dict[str, list[int]] = {}
    for name in names:
        found = re.fullmatch(r"(.+?)[_.-][A-Za-z]*(\d+)", name)
        if not found:
            return False
        frames.setdefault(found[1], []).append(int(found[2]))
    several = [np.diff(sorted(own)) for own in frames.values() if len(own) > 1]
    even = [own for own in several if np.mean(own == np.median(own)) >= EQUAL_STEPS]
    return len(several) > len(frames) / 2 and len(even) > len(several) / 2
