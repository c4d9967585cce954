"""Recognising training labels that are masks, or run-lengths in a CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from lib.competition.labels.mask_file import MaskFile
from lib.competition.labels.template import Names
from lib.errors import UserError
from lib.init.classes import NO_CLASS, names_of_values, palette_of
from lib.init.folder import VALUES, Folder, soft_level, values_of
from lib.init.found import Choice, Notes, evenly, some
from lib.init.names import Form, form_of, form_of_most
from lib.init.run_lengths import read_layout

RUNS = re.compile(r"\d+ \d+( \d+ \d+)*\s*")
LARGEST = 2**25  # pixels of a mask that run-lengths are compared with
LOOKED = 100  # masks
COLOURS = 32  # more are no classes
BY_CLASS, OTHERWISE = r"label|class|semantic|index|mask", r"instance|object|colou?r|panoptic|preview|vis"


@dataclass(frozen=True)
class Labels:
    """`choices`: of `competition.labels`, and of `competition` what comes with it; `ids` of the labeled images.

    `files`: masks. `whole`: whether each file is all of an image's label, so that an image without one is unlabeled.
    `painted`: whether classes are painted one over another.
    """

    kind: str
    choices: list[Choice]
    ids: set[str]
    classes: list[str]
    background: bool = True
    files: frozenset[str] = frozenset()
    whole: bool = False
    painted: bool = False
    rows: str = ""
    """What has a row, or a mask, of its own: `image`, `class` or `object`."""
    answer: dict[str, object] = field(default_factory=dict)
    """Options of `competition.submission` for answers in the form of the labels, as far as these tell."""


@dataclass(frozen=True)
class Masks:
    """Masks of one kind: `choices` that find them, their different values or colours."""

    folder: Folder
    names: list[str]
    kind: str
    choices: list[Choice]
    ids: set[str]

    def values(self, coloured: bool = False) -> np.ndarray:
        """Different values, or colours, of some masks, rising."""
        some_of = evenly(self.names, LOOKED)
        return np.unique(np.concatenate([values_of(self.folder.root / name, coloured) for name in some_of]))

    def check_alike(self) -> None:
        """Raises UserError, naming the file, where one or few of the masks hold far more values than the others."""
        counts = {name: len(values_of(self.folder.root / name, True)) for name in evenly(self.names, LOOKED)}
        usual = sorted(counts.values())[len(counts) // 2]
        odd = [name for name, count in counts.items() if count > max(VALUES, 4 * usual)]
        if odd and usual <= VALUES:
            raise UserError(
                f"{self.folder.root / odd[0]} holds {counts[odd[0]]} different values or colours, where most masks "
                f"hold {usual} ({len(odd)} such files); replace it by a mask, or remove it with its image"
            )

    def answer(self, template: str, labels: Labels) -> dict[str, object]:
        """Options of answers that are files such as these masks; none where such cannot be written."""
        suffix = PurePosixPath(template).suffix.lower()
        codec = {".tif": "tif", ".tiff": "tif", ".png": "png"}.get(suffix)
        chosen = {choice.key.rsplit(".", 1)[1]: choice.value for choice in labels.choices}
        palette = chosen.get("palette") or {}
        if codec is None or isinstance(palette, str) or any(isinstance(value, list) for value in palette.values()):
            return {}
        top = int(self.values()[-1])
        one = {"object_value": top} if len(labels.classes) == 1 and 1 < top < 256 else {}
        return {"codec": codec, "id_template": PurePosixPath(template).name, **one}

    def labels(self, what: str, choices: list[Choice], classes: list[str], background: bool = True) -> Labels:
        files = frozenset(self.names)
        return Labels(self.kind + what, [*self.choices, *choices], self.ids, classes, background, files, whole=True)


def from_masks(folder: Folder, asked: set[str], notes: Notes) -> Labels | None:
    if not folder.masks:
        return None
    names, form, strangers = _of_one_kind(folder, notes)
    if form is None:
        notes.unsure.append(
            f"{len(folder.masks)} files with few values ({some(folder.masks, 2)}) are no masks whose names follow the "
            "images' names"
        )
        return None
    start, (base, _) = "competition.labels.", folder.where(names)
    place = [Choice(start + "format", "mask_images"), Choice(start + "path", base or "."), *_surplus(strangers, notes)]
    blurred = PurePosixPath(names[0]).suffix.lower() in (".jpg", ".jpeg") or any(
        soft_level(folder.root / name) for name in evenly(names, 5)
    )
    threshold = [Choice(start + "threshold", 127, "edges are grey between 0 and 255")] if blurred else []
    suffix, where = form.template.removeprefix("{id}"), f"{base}/{form.template}".removeprefix("/")
    if form.classes or not form.alone:
        by_file = Choice(start + "files", form.template, "by class" if form.classes else "one mask per object")
        choices, painted = [*place, by_file, *threshold], bool(form.classes)
        kind, classes = f"masks {where}", form.classes or ["object"]
        rows = "class" if painted else "object"
        return Labels(kind, choices, form.ids, classes, files=frozenset(names), painted=painted, rows=rows)
    simple = form.template.startswith("{id}") and not set(suffix) & set("/*{")
    found = Choice(start + "suffix", suffix) if simple else Choice(start + "files", form.template)
    masks = Masks(folder, names, f"masks {where}", [*place, found], form.ids)
    if blurred:
        return masks.labels(" with grey edges", threshold, ["object"])
    masks.check_alike()
    labels = _by_values(masks, notes)
    return labels and replace(labels, answer=masks.answer(form.template, labels))


def _surplus(strangers: list[str], notes: Notes) -> list[Choice]:
    """The choice for labels whose images are not in the folder."""
    if not strangers:
        return []
    what = f"{len(strangers)} labels have no image here ({some(strangers, 2)})"
    notes.found.append(f"{what}; they are left out")
    return [Choice("competition.labels.surplus", "skip", what)]


def _of_one_kind(folder: Folder, notes: Notes) -> tuple[list[str], Form | None, list[str]]:
    """(the masks, how they are named, those without image that are left out); where they show the same in several
    ways, those that show classes."""
    names, known = folder.masks, folder.known()
    base, below = folder.where(names)
    form, strangers = form_of_most(below, known, files=True)
    names = [name for name, one in zip(names, below, strict=True) if one not in set(strangers)]
    ways: dict[str, list[str]] = {}
    if form is None:
        for name in names:  # by the last word of their names, and by folders
            path = PurePosixPath(name)
            last = re.split("[_-]", path.stem)[-1]
            for word in {*path.parent.parts, *([] if last.isdecimal() else [last])}:
                ways.setdefault(word, []).append(name)
    elif form.classes:
        by_class = Names(form.template, form.classes, set())
        for name, below in zip(names, folder.where(names)[1], strict=True):
            ways.setdefault(by_class.read(below)[1], []).append(name)
        if not any(_several_values(folder, own) for own in ways.values()):
            return names, form, strangers
    forms = {way: form_of(folder.where(own)[1], known, files=True) for way, own in ways.items()}
    ways = {way: own for way, own in ways.items() if forms[way]}
    if not ways:
        return names, form, strangers
    best = min(sorted(ways), key=lambda way: (_rank(way), -len(forms[way].ids)))
    if len(ways) > 1:
        others = some(sorted(set(ways) - {best}))
        notes.unsure.append(f"which masks show the classes: {best} is taken, not {others} (labels.path, labels.files)")
    return ways[best], forms[best], strangers


def _rank(way: str) -> int:
    """Words that say that masks show classes come first, those that say something else last."""
    return 2 if re.search(OTHERWISE, way, re.IGNORECASE) else 0 if re.search(BY_CLASS, way, re.IGNORECASE) else 1


def _several_values(folder: Folder, names: list[str]) -> bool:
    """Whether masks hold more than one value, or colour, besides the lowest; grey edges do not count."""
    values = [values_of(folder.root / n, True) for n in evenly(names, 10) if not soft_level(folder.root / n)]
    jpeg = PurePosixPath(names[0]).suffix.lower() in (".jpg", ".jpeg")
    return bool(values) and not jpeg and len(np.unique(np.concatenate(values))) > 2


def _by_values(masks: Masks, notes: Notes) -> Labels | None:
    """Object against the rest, class indices, grey levels, or colours."""
    start, values = "competition.labels.", masks.values()
    if values[-1] > 255 and values[-1] < 2**16 + 2**8:  # deep grey
        values = np.unique(np.minimum(values, 255))
    if not values.any():
        notes.unsure.append(f"what {masks.kind} show: those that were looked at are empty")
        return None
    if values[-1] > 255:
        return _coloured(masks, masks.values(coloured=True), notes)
    if len(values[values > 0]) == 1:
        above = Choice(start + "threshold", 0, f"values 0 and {values[-1]}")
        return masks.labels(" (object against the rest)", [above], ["object"])
    names = names_of_values(masks.folder, int(max(values[values < 255])))
    if names is None and max(values[values < 255]) >= 2 * len(values) and len(values) <= COLOURS:
        what = f" of grey levels {some([str(v) for v in values.tolist()], 20)}"
        return _named_by_value(masks, what, values, notes)
    return _indexed(masks, values, names, notes)


def _coloured(masks: Masks, values: np.ndarray, notes: Notes) -> Labels | None:
    found = palette_of(masks.folder)
    if not found and len(values) > COLOURS:
        notes.unsure.append(
            f"which of {len(values)} colours of the masks are classes: no CSV has columns name,r,g,b, no JSON colours"
        )
        return None
    if not found:
        return _named_by_value(masks, f" in {len(values)} colours", values, notes)
    where, palette, table = found
    classes = [name for name in palette if name.lower() not in NO_CLASS]
    codes = {r << 16 | g << 8 | b for r, g, b in palette.values()}
    background = "background" in palette
    strange = [str(_rgb(v)) for v in values.tolist() if v not in codes]
    choices = [Choice("competition.labels.palette", where if table else palette, "" if table else f"as {where} says")]
    if strange or len(classes) + background < len(palette):
        why = f"colours of no class: {some(strange)}" if strange else "some colours are of no class"
        choices.append(Choice("competition.labels.other", "ignore", why))
        notes.found.append(f"{why}; their pixels are ignored")
    if not background:
        notes.unsure.append("whether pixels may belong to no class: the palette names no background, so they may not")
    return masks.labels(f" in the colours of {where}", choices, classes, background)


def _named_by_value(masks: Masks, what: str, values: np.ndarray, notes: Notes) -> Labels:
    """0, or black, is background, the others are classes; who knows their names puts them in."""
    grey = values[-1] <= 255
    names = {
        ("background" if not v else f"value{v}" if grey else f"color_{v:06x}"): v if grey else _rgb(v)
        for v in values.tolist()
    }
    classes = [name for name in names if name != "background"]
    notes.unsure.append(
        f"what the {'values' if grey else 'colours'} of the masks mean ({some(classes, 12)}): rename them in classes "
        "and palette"
    )
    palette = Choice("competition.labels.palette", names, "as found: give them their names, here and above")
    return masks.labels(what, [palette], classes, "background" in names)


def _rgb(code: int) -> list[int]:
    return [code >> 16, code >> 8 & 255, code & 255]


def _indexed(masks: Masks, values: np.ndarray, names: dict[int, str] | None, notes: Notes) -> Labels:
    here = [v for v in values.tolist() if v < 255 or (names and v in names)]
    if names is None:
        names = {i: f"class{i}" for i in range(1, max(here) + 1)}
        notes.unsure.append(f"the names of the classes 1 to {max(here)}; 0 is taken for background")
    background = names.get(0, "background").lower() in NO_CLASS
    void = {i for i, name in names.items() if name.lower() in NO_CLASS}
    absent = sorted(set(names) - void - set(here))
    classes = {i: names[i] for i in sorted(names) if i not in void | set(absent)}
    choices = []
    if list(classes) != list(range(int(background), len(classes) + background)):
        palette = ({"background": 0} if background else {}) | {name: i for i, name in classes.items()}
        choices.append(Choice("competition.labels.palette", palette, "values in the masks"))
    if absent:
        notes.unsure.append(
            f"whether {some([names[i] for i in absent])} ({some([str(i) for i in absent])}) occur: not in the "
            f"{min(len(masks.names), LOOKED)} masks that were looked at, so they are left out"
        )
    if other := [str(v) for v in values.tolist() if v not in classes and (v or not background)]:
        choices.append(Choice("competition.labels.other", "ignore", f"{some(other)} of no class"))
    what = f" of class indices {some([str(v) for v in values.tolist()], 20)}"
    return masks.labels(what, choices, list(classes.values()), background)


def from_tables(folder: Folder, asked: set[str], notes: Notes, masks: Labels | None = None) -> Labels | None:
    """Run-lengths of the table that names the most images. `masks`: labels of the same images that confirm them."""
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
                notes.unsure.append(f"{name} holds run-lengths, but no column names images as {example} is named")
    if not fitting:
        return None
    _, name, column, form, runs, strangers = max(fitting, key=lambda one: one[0])
    return _of_table(folder, name, (column, runs), form, notes, (strangers, masks))


def _holds_runs(cells: pd.Series) -> bool:
    """Whether cells are run-lengths, or words for none, with some longer run-lengths among them."""
    cells = cells.str.strip()
    runs = cells.str.fullmatch(RUNS)
    return bool(runs.any() and (runs | (cells.str.len() < 5)).all() and cells.str.len().max() > 5)


def _of_table(
    folder: Folder, name: str, columns: tuple[str, str], form: Form, notes: Notes, more: tuple[list[str], Labels | None]
) -> Labels:
    """`columns`: of ids and of run-lengths. `more`: cells that name no image, and masks that confirm the runs."""
    start, (column, runs), (strangers, masks) = "competition.labels.", columns, more
    table = folder.tables[name]
    table = table[~table[column].isin(strangers)]
    choices = [Choice(start + "format", "rle_csv"), Choice(start + "path", name), Choice(start + "id_column", column)]
    choices += _surplus(strangers, notes)
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
    return Labels(kind, choices, form.ids, names, painted=bool(classes), rows=rows, answer=answer)


def masks_of(folder: Folder, masks: Labels) -> Callable[[Path], np.ndarray | None]:
    """A function from a picture to its mask, where it has one file of it: (H, W) bool."""
    form = form_of(folder.where(sorted(masks.files))[1], folder.known(), files=True)
    if form is None or form.classes or not form.alone:
        return lambda _: None
    base, below = folder.where(sorted(masks.files))
    read = Names(form.template, [], form.ids)
    of_id = {read.read(one)[0]: folder.root / base / one for one in below}
    of_picture = {folder.root / name: of_id.get(image_id) for image_id, name in folder.images().items()}

    def mask(picture: Path) -> np.ndarray | None:
        path = of_picture.get(picture)
        if path is None:
            return None
        file = MaskFile(path, coloured=False)
        if file.height * file.width > LARGEST:
            return None
        values = file.read(0, 0, file.height, file.width)
        return (values if values.ndim == 2 else values.max(axis=-1)) > 0

    return mask
