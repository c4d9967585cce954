"""Recognising what the organiser wants back: the sample submission's columns, ids and classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

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
    stems = set(folder.stems())
    for name in sorted(folder.tables, key=lambda name: ("sample" not in name.lower(), name)):
        table = folder.tables[name]
        if "sample" not in name.lower() and "submission" not in name.lower():
            break
        forms = [(c, form) for c in table.columns if (form := form_of(list(table[c]), stems))]
        if forms:
            return _of_table(name, table, *forms[0], notes)
        notes.unsure.append(f"{name} is no sample of this folder's images: no column holds their names")
    return _tiffs(folder, notes)


def _tiffs(folder: Folder, notes: Notes) -> Wanted | None:
    """Where masks are TIFFs and there is no sample, answers are taken for a ZIP of such."""
    ids = {i for i, name in folder.stems().items() if "test" in str(PurePosixPath(name).parent).lower()}
    if not ids or not folder.masks or any(PurePosixPath(name).suffix not in (".tif", ".tiff") for name in folder.masks):
        return None
    white = any(255 in values_of(folder.root / name) for name in evenly(folder.masks, 5))
    preset = "inria" if white else "drivendata"
    notes.unsure.append(
        "what to hand in: there is no sample submission, but masks are TIFFs, so answers are such, zipped"
    )
    why = f"no sample; the masks' objects are {255 if white else 1}"
    return Wanted([Choice("competition.submission.preset", preset, why)], ids, [], DEFAULTS | PRESETS[preset])


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
    known.sort(key=lambda preset: PRESETS[preset].get("id_template", "{id}") != form.template)
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
    return Wanted(choices, form.ids, classes, options)
