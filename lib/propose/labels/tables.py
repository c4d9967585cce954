"""Recognises labels that are run-lengths in a CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.labels.mask_file import MaskFile
from lib.competition.labels.template import Names
from lib.propose.folder import Folder
from lib.propose.found import Notes, OptionChoice
from lib.propose.labels.found import FoundLabels, surplus
from lib.propose.labels.mask_kinds import masks_below
from lib.propose.labels.run_lengths import read_layout
from lib.propose.names import Form, form_of, form_of_most

RUNS = re.compile(r"\d+ \d+( \d+ \d+)*\s*")
MAX_COMPARED_PIXELS = 2**25  # a larger mask is not compared with run-lengths


def from_tables(folder: Folder, asked: set[str], notes: Notes, masks: FoundLabels | None = None) -> FoundLabels | None:
    """Run-lengths of the table that names the most images; None where there are none.

    `asked`: ids of the test images, whose labels are not used. `masks`: labels of the same images, which confirm how
    runs are counted.
    """
    known, fitting = folder.known(), []
    for name, table in folder.tables.items():
        if "submission" in name.lower():
            continue
        runs = [column for column in table.columns if _holds_runs(table[column])]
        for column in (c for c in table.columns if runs and c != runs[-1]):
            form, strangers = form_of_most(list(table[column]), known)
            if form and form.ids <= asked:
                notes.found.append(f"{name} labels test images; it is not used")
                break
            if form:
                fitting.append((len(form.ids), name, column, form, runs[-1], strangers))
                break
        else:
            if runs:
                example = next(iter(known.parts))
                notes.unsure.append(
                    f"whether {name} holds labels: it has run-lengths, but no column names images such as {example}"
                )
    if not fitting:
        return None
    _, name, column, form, runs, strangers = max(fitting, key=lambda one: one[0])
    return _of_table(folder, name, (column, runs), form, notes, (strangers, masks))


def _holds_runs(cells: pd.Series) -> bool:
    """Whether a column holds run-lengths. Short cells may be words for "no object"."""
    cells = cells.str.strip()
    runs = cells.str.fullmatch(RUNS)
    return bool(runs.any() and (runs | (cells.str.len() < 5)).all() and cells.str.len().max() > 5)


def _of_table(
    folder: Folder,
    name: str,
    columns: tuple[str, str],
    form: Form,
    notes: Notes,
    more: tuple[list[str], FoundLabels | None],
) -> FoundLabels:
    """`columns`: of ids and of run-lengths. `more`: cells that name no image, and masks that confirm the runs."""
    start, (column, runs), (strangers, masks) = "competition.labels.", columns, more
    table = folder.tables[name]
    table = table[~table[column].isin(strangers)]
    choices = [
        OptionChoice(start + "format", "rle_csv"),
        OptionChoice(start + "path", name),
        OptionChoice(start + "id_column", column),
    ]
    choices += surplus(strangers, notes)
    if form.template != "{id}":
        choices.append(OptionChoice(start + "id_template", form.template))
    choices.append(OptionChoice(start + "rle_column", runs))
    classes, repeated = form.classes, table[column].duplicated().any()
    if not classes and repeated:
        others = [c for c in table.columns if c not in (column, runs) and 2 <= table[c].nunique() <= 64]
        keyed = [c for c in others if not table.duplicated([column, c]).any()]
        if keyed:
            classes = sorted(table[keyed[0]].unique())
            choices.append(OptionChoice(start + "class_column", keyed[0]))
    rows = "class" if classes else "object" if repeated else "image"
    notes.found.append(f"{name}: one row for each {'image and class' if rows == 'class' else rows}")
    names, images = Names(form.template, form.classes, form.ids), folder.images()
    ids = [names.read(cell)[0] for cell in table[column]]
    cells = table[runs].str.strip()
    texts = [(images[i], text) for i, text in zip(ids, cells, strict=True) if RUNS.fullmatch(text)]
    mask_of = masks_of(folder, masks) if masks and rows == "image" else None
    choices += read_layout([(folder.root / name, text) for name, text in texts], folder.pixels, notes, mask_of)
    chosen = {choice.key.rsplit(".", 1)[1]: choice.value for choice in choices}
    keys = ("id_column", "id_template", "rle_column", "class_column", "order", "base")
    answer = {"codec": "rle", "relative": False} | {key: chosen[key] for key in keys if key in chosen}
    answer |= {"relative": True} if chosen.get("relative") else {}
    kind, names = f"run-lengths in {name}", classes or ["object"]
    return FoundLabels(kind, choices, form.ids, names, painted=bool(classes), rows=rows, answer=answer)


def masks_of(folder: Folder, masks: FoundLabels) -> Callable[[Path], np.ndarray | None]:
    """A function that gives a picture's mask, (H, W) bool; it gives None where there is not one file for the image."""
    base, below = masks_below(folder, sorted(masks.files))
    form = form_of(below, folder.known(), files=True)
    if form is None or form.classes or not form.alone:
        return lambda _: None
    names = Names(form.template, [], form.ids)
    of_id = {names.read(path)[0]: folder.root / base / path for path in below}
    of_picture = {folder.root / name: of_id.get(image_id) for image_id, name in folder.images().items()}

    def mask(picture: Path) -> np.ndarray | None:
        path = of_picture.get(picture)
        if path is None:
            return None
        file = MaskFile(path, coloured=False)
        if file.height * file.width > MAX_COMPARED_PIXELS:
            return None
        values = file.read(0, 0, file.height, file.width)
        return (values if values.ndim == 2 else values.max(axis=-1)) > 0

    return mask
