"""Recognising what the organiser wants back: the sample submission's columns, ids and classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from lib.competition.dataset import listed_names
from lib.competition.labels.rle_csv import NOTHING
from lib.config.presets import PRESETS
from lib.init.folder import Folder, values_of
from lib.init.found import Choice, Notes, evenly
from lib.init.names import Form, form_of

DEFAULTS = {"codec": "rle", "id_column": "id", "class_column": "", "rle_column": "predicted"}
COLUMNS = ("id_column", "class_column", "rle_column")


@dataclass(frozen=True)
class Wanted:
    """`choices`: of `competition.submission`; `ids` of the images asked for; `classes` as far as rows name them."""

    choices: list[Choice]
    ids: set[str]
    classes: list[str]
    options: dict[str, object]


def recognise(folder: Folder, notes: Notes) -> Wanted | None:
    """The sample submission; None, with the reason noted, when nothing looks like one."""
    known = folder.known()
    for name in sorted(folder.tables, key=lambda name: ("sample" not in name.lower(), name)):
        table = folder.tables[name]
        if "sample" not in name.lower() and "submission" not in name.lower():
            break
        forms = [(c, form) for c in table.columns if (form := form_of(list(table[c]), known))]
        if forms:
            return _of_table(name, table, *forms[0], notes)
        notes.unsure.append(
            f"{name} is no sample of this folder's images: no column holds names such as {next(iter(known.parts))}"
        )
    ids, listed = _test_images(folder)
    return (_tiffs(folder, ids, listed, notes) or _rows(ids, listed, notes)) if ids else None


def _test_images(folder: Folder) -> tuple[set[str], list[Choice]]:
    """The images of a folder called test, or those that a list called so names."""
    ids = {i for i, name in folder.images().items() if "test" in str(PurePosixPath(name).parent).lower()}
    if ids:
        return ids, []
    for name in [*folder.texts, *folder.tables]:
        if "test" in PurePosixPath(name).name.lower() and name.lower().endswith((".txt", ".csv")):
            form = form_of(sorted(listed_names(folder.root / name) - {""}), folder.known())
            if form and not form.classes:
                return form.ids, [Choice("competition.test_list", name, "names the test images")]
    return set(), []


def _rows(ids: set[str], listed: list[Choice], notes: Notes) -> Wanted:
    """Where there is no sample, answers are taken for a CSV of run-lengths."""
    notes.unsure.append(
        "what to hand in: there is no sample submission; answers are written as run-lengths of all test images (codec, "
        "columns and id_template stand under submission)"
    )
    return Wanted([*listed, Choice("competition.submission.sample", "", "there is none")], ids, [], DEFAULTS)


def _tiffs(folder: Folder, ids: set[str], listed: list[Choice], notes: Notes) -> Wanted | None:
    """Where masks are TIFFs and there is no sample, answers are taken for a ZIP of such."""
    if not folder.masks or any(not name.lower().endswith((".tif", ".tiff")) for name in folder.masks):
        return None
    white = any(255 in values_of(folder.root / name) for name in evenly(folder.masks, 5))
    preset = "inria" if white else "drivendata"
    notes.unsure.append(
        "what to hand in: there is no sample submission, but masks are TIFFs, so answers are such, zipped"
    )
    why = f"no sample; the masks' objects are {255 if white else 1}"
    choices = [*listed, Choice("competition.submission.preset", preset, why)]
    return Wanted(choices, ids, [], DEFAULTS | PRESETS[preset])


def _of_table(name: str, table: pd.DataFrame, id_column: str, form: Form, notes: Notes) -> Wanted:
    others = [c for c in table.columns if c != id_column]
    class_column = ""
    if not form.classes and table[id_column].duplicated().any():
        keyed = [c for c in others if 2 <= table[c].nunique() <= 64 and not table.duplicated([id_column, c]).any()]
        class_column = keyed[0] if keyed else ""
    answers = [c for c in others if c != class_column]
    columns = {"id_column": id_column, "class_column": class_column, "rle_column": answers[-1] if answers else ""}
    classes = form.classes or (list(dict.fromkeys(table[class_column])) if class_column else [])
    start = "competition.submission."
    known = [p for p, options in PRESETS.items() if all({**DEFAULTS, **options}[c] == columns[c] for c in COLUMNS)]
    word = _only_cell(table, columns["rle_column"])
    known.sort(
        key=lambda name: (
            PRESETS[name].get("id_template", "{id}") != form.template,
            PRESETS[name].get("empty", "") != word,
        )
    )
    choices, options = [], dict(DEFAULTS)
    if known:
        options |= PRESETS[known[0]]
        choices.append(Choice(start + "preset", known[0], f"the columns are {', '.join(table.columns)}"))
        notes.found.append(f"{name} has the columns of {known[0]}")
        notes.unsure.append(f"whether answers are written as there; the settings are those of {known[0]}")
    else:
        choices += [Choice(start + c, columns[c]) for c in COLUMNS if columns[c] != DEFAULTS[c]]
        notes.unsure.append(
            f"how {name} wants masks written: its columns are those of no competition that is known here"
        )
    if name != "sample_submission.csv":
        choices.append(Choice(start + "sample", name))
    template = form.template
    if template != options.get("id_template", "{id}"):
        choices.append(Choice(start + "id_template", template, f"as in {table[id_column].iloc[0]}"))
    choices += _word_for_empty(name, word, options, notes)
    if table.attrs["separator"] != ",":
        notes.found.append(f"{name} is parted by {table.attrs['separator']!r}; answers are too")
    return Wanted(choices, form.ids, classes, options)


def _only_cell(table: pd.DataFrame, column: str) -> str:
    """What all cells of a column hold; empty where they differ."""
    cells = set(table[column]) if column else set()
    return cells.pop() if len(cells) == 1 else ""


def _word_for_empty(name: str, word: str, options: dict[str, object], notes: Notes) -> list[Choice]:
    """`word`: what all cells of a sample hold; taken if it means that there is no object."""
    if options["codec"] != "rle" or not word or word == options.get("empty"):
        return []
    if word.lower() in NOTHING:
        return [Choice("competition.submission.empty", word, "as the sample's cells")]
    notes.unsure.append(
        f"whether {word[:20]!r}, in all rows of {name}, means that there is no object: set submission.empty"
    )
    return []
