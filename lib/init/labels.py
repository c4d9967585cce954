"""Recognising how training labels are written: masks, COCO JSON, run-lengths in a CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.init.folder import Folder, values_of
from lib.init.found import Choice, Notes, evenly, some
from lib.init.names import form_of
from lib.init.run_lengths import read_layout

RUNS = re.compile(r"\d+ \d+( \d+ \d+)*\s*")
NO_CLASS = ("background", "unlabeled", "unlabelled", "void", "ignore", "other", "none", "unknown")
LOOKED = 40  # masks
COLOURS = 32  # more are no classes


@dataclass(frozen=True)
class Labels:
    """`choices`: of `competition.labels`, and of `competition` what comes with it; `ids` of the labeled images."""

    kind: str
    choices: list[Choice]
    ids: set[str]
    classes: list[str]
    background: bool = True


def recognise(folder: Folder, asked: set[str], notes: Notes) -> Labels | None:
    """The labels that are there, those first of which least has to be guessed. `asked`: ids of test images."""
    stems = folder.stems()
    recognisers: list[Callable] = [from_masks, from_coco, from_tables]
    found = [labels for one in recognisers if (labels := one(folder, stems, asked, notes))]
    for other in found[1:]:
        notes.found.append(f"labels too, not used: {other.kind}")
    return found[0] if found else None


def from_masks(folder: Folder, stems: dict[str, str], asked: set[str], notes: Notes) -> Labels | None:
    if not folder.masks:
        return None
    base = _common_folder(folder.masks)
    names = [name[len(base) + 1 :] if base else name for name in folder.masks]
    form = form_of(names, set(stems), files=True)
    if form is None:
        notes.unsure.append(
            f"{len(folder.masks)} files with few values ({some(folder.masks, 2)}) are no masks whose names follow the "
            "images' names"
        )
        return None
    start = "competition.labels."
    place = [Choice(start + "format", "mask_images"), Choice(start + "path", base or ".")]
    single = not form.classes and "*" not in form.template and form.template.startswith("{id}")
    suffix = form.template.removeprefix("{id}")
    by_file = Choice(start + "files", form.template, "by class" if form.classes else "one mask per object")
    blurred = Path(suffix).suffix.lower() in (".jpg", ".jpeg")
    threshold = [Choice(start + "threshold", 127, "JPEG blurs 0 and 255")] if blurred else []
    if not single or "/" in suffix:
        kind = f"masks {base}/{form.template}"
        return Labels(kind, [*place, by_file, *threshold], form.ids, form.classes or ["object"])
    place.append(Choice(start + "suffix", suffix))
    values = _values(folder, coloured=False)
    kind = f"masks {base}/*{suffix}"
    if values[-1] > 255 and values[-1] < 2**16 + 2**8:  # deep grey
        values = np.minimum(values, 255)
    if blurred:
        return Labels(kind + " (grey JPEG)", [*place, *threshold], form.ids, ["object"])
    if not values.any():
        notes.unsure.append(f"what {kind} show: those that were looked at are empty")
        return None
    if len(values[values > 0]) == 1 and values[-1] <= 255:
        above = Choice(start + "threshold", 0, f"values 0 and {values[-1]}")
        return Labels(kind + " (object against the rest)", [*place, above], form.ids, ["object"])
    if values[-1] > 255:
        return _coloured(folder, place, kind, form.ids, _values(folder, coloured=True), notes)
    if max(values[values < 255]) >= 2 * len(values) and len(values) <= COLOURS:
        kind += f" of grey levels {some([str(v) for v in values.tolist()], 20)}"
        return _named_by_colour(place, kind, form.ids, values * 0x010101, notes)
    return _indexed(folder, place, kind, form.ids, values, notes)


def _values(folder: Folder, coloured: bool) -> np.ndarray:
    """Different values, or colours, of some masks, rising."""
    return np.unique(np.concatenate([values_of(folder.root / n, coloured) for n in evenly(folder.masks, LOOKED)]))


def _coloured(
    folder: Folder, place: list[Choice], kind: str, ids: set[str], values: np.ndarray, notes: Notes
) -> Labels | None:
    palettes = [name for name, table in folder.tables.items() if _is_palette(table)]
    if not palettes and len(values) > COLOURS:
        notes.unsure.append(f"which of {len(values)} colours of the masks are classes: no CSV has columns name,r,g,b")
        return None
    if not palettes:
        return _named_by_colour(place, f"{kind} in {len(values)} colours", ids, values, notes)
    table = folder.tables[palettes[0]]
    classes = [name for name in table["name"] if name.lower() not in NO_CLASS]
    codes = {int(r) << 16 | int(g) << 8 | int(b) for r, g, b in zip(table["r"], table["g"], table["b"], strict=True)}
    background = "background" in set(table["name"])
    strange = [str(_rgb(v)) for v in values.tolist() if v not in codes]
    choices = [*place, Choice("competition.labels.palette", palettes[0])]
    if strange or len(classes) + background < len(table):
        why = f"colours of no class: {some(strange)}" if strange else "some colours are of no class"
        choices.append(Choice("competition.labels.other", "ignore", why))
        notes.found.append(f"{why}; their pixels are ignored")
    if not background:
        notes.unsure.append("whether pixels may belong to no class: the palette names no background, so they may not")
    return Labels(f"{kind} in the colours of {palettes[0]}", choices, ids, classes, background)


def _is_palette(table: pd.DataFrame) -> bool:
    columns = {"name", "r", "g", "b"} <= set(table.columns)
    return columns and all(table[c].str.fullmatch(r"\d{1,3}").all() for c in "rgb")


def _named_by_colour(place: list[Choice], kind: str, ids: set[str], values: np.ndarray, notes: Notes) -> Labels:
    """Black is background, the other colours are classes; who knows their names puts them in."""
    names = {f"color_{v:06x}" if v else "background": _rgb(v) for v in values.tolist()}
    classes = [name for name in names if name != "background"]
    notes.unsure.append(f"what the colours of the masks mean ({some(classes, 12)}): rename them in classes and palette")
    choices = [
        *place,
        Choice("competition.labels.palette", names, "colours found: give them their names, here and above"),
    ]
    return Labels(kind, choices, ids, classes, "background" in names)


def _rgb(code: int) -> list[int]:
    return [code >> 16, code >> 8 & 255, code & 255]


def _indexed(
    folder: Folder, place: list[Choice], kind: str, ids: set[str], values: np.ndarray, notes: Notes
) -> Labels | None:
    indices = [v for v in values.tolist() if v < 255]
    count = max(indices)
    names = _names_of_indices(folder, count)
    if names is None:
        names = {i: f"class{i}" for i in range(1, count + 1)}
        notes.unsure.append(f"the names of the classes 1 to {count}; 0 is taken for background")
    background = names.get(0, "background").lower() in NO_CLASS
    classes = [names[i] for i in sorted(names) if i or not background]
    choices = list(place)
    if 255 in values:
        choices.append(Choice("competition.labels.other", "ignore", "255 is no class"))
    return Labels(
        f"{kind} of class indices {some([str(v) for v in values.tolist()], 20)}", choices, ids, classes, background
    )


def _names_of_indices(folder: Folder, count: int) -> dict[int, str] | None:
    """Index → name, from a table that has both."""
    for table in folder.tables.values():
        columns = {column.strip().lower(): column for column in table.columns}
        index = next((columns[c] for c in ("index", "id", "value", "class_id", "label") if c in columns), None)
        name = next((columns[c] for c in ("name", "class", "class_name", "category") if c in columns), None)
        if index and name and len(table) <= 256 and table[index].str.fullmatch(r"\d+").all():
            names = dict(zip(table[index].astype(int), table[name], strict=True))
            if sorted(names) in (list(range(len(names))), list(range(1, len(names) + 1))) and max(names) >= count:
                return names
    return None


def from_coco(folder: Folder, stems: dict[str, str], asked: set[str], notes: Notes) -> Labels | None:
    for name, content in folder.cocos.items():
        listed = {Path(image["file_name"]).stem for image in content["images"]}
        if not content["annotations"] or not listed & set(stems) or listed & asked:
            continue
        used = {annotation["category_id"] for annotation in content["annotations"]}
        classes = [c["name"] for c in sorted(content["categories"], key=lambda c: c["id"]) if c["id"] in used]
        idle = [c["name"] for c in content["categories"] if c["id"] not in used]
        if idle:
            notes.found.append(f"categories without annotation, left out: {some(idle)}")
        start = "competition.labels."
        choices = [
            Choice(start + "format", "coco"),
            Choice(start + "path", name),
            Choice(start + "paint", "area", "where objects overlap, the smaller one lies on top; else `file`"),
        ]
        notes.unsure.append("which of two overlapping objects counts: the smaller one is painted over the larger")
        if any(annotation.get("iscrowd") for annotation in content["annotations"]):
            choices.append(Choice(start + "crowd", "ignore", "there are crowds: not scored here"))
        return Labels(f"COCO JSON {name}, {len(content['annotations'])} objects", choices, listed, classes)
    return None


def from_tables(folder: Folder, stems: dict[str, str], asked: set[str], notes: Notes) -> Labels | None:
    for name, table in folder.tables.items():
        columns = [c for c in table.columns if table[c].str.fullmatch(RUNS).any()]
        columns = [c for c in columns if (table[c].str.fullmatch(RUNS) | (table[c].str.len() < 5)).all()]
        columns = [c for c in columns if table[c].str.len().max() > 5]
        if not columns or "submission" in name.lower():
            continue
        runs = columns[-1]
        for column in table.columns:
            form = form_of(list(table[column]), set(stems)) if column != runs else None
            if form and form.ids <= asked:
                notes.found.append(f"{name} labels test images; it is not used")
                break
            if form:
                return _of_table(folder, name, table, column, form, runs, stems, notes)
    return None


def _of_table(
    folder: Folder, name: str, table: pd.DataFrame, column: str, form, runs: str, stems: dict[str, str], notes: Notes
) -> Labels:
    start = "competition.labels."
    choices = [Choice(start + "format", "rle_csv"), Choice(start + "path", name), Choice(start + "id_column", column)]
    if form.template != "{id}":
        choices.append(Choice(start + "id_template", form.template))
    choices.append(Choice(start + "rle_column", runs))
    classes, twice = form.classes, table[column].duplicated().any()
    if not classes and twice:
        others = [c for c in table.columns if c not in (column, runs) and 2 <= table[c].nunique() <= 64]
        keyed = [c for c in others if not table.duplicated([column, c]).any()]
        if keyed:
            classes = sorted(table[keyed[0]].unique())
            choices.append(Choice(start + "class_column", keyed[0]))
    rows = "class" if classes else "object" if twice else "image"
    notes.found.append(f"{name}: one row per {'image and class' if rows == 'class' else rows}")
    known = set(stems)
    images = [form_of([cell], known) for cell in table[column]] if twice or form.template != "{id}" else None
    ids = [next(iter(one.ids)) for one in images] if images else list(table[column])
    texts = [(stems[i], text) for i, text in zip(ids, table[runs], strict=True) if RUNS.fullmatch(text)]
    choices += read_layout([(folder.root / name, text) for name, text in texts], folder.pixels, notes)
    return Labels(f"run-lengths in {name}", choices, form.ids, classes or ["object"])


def _common_folder(names: list[str]) -> str:
    parts = [Path(name).parent.parts for name in names]
    out = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        out.append(level[0])
    return "/".join(out)
