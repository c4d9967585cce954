"""Recognises labels that are mask images."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from lib.competition.labels.mask_file import MaskFile
from lib.competition.labels.template import Names
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.propose.folder import MASK_VALUES, Folder, soft_level, values_of
from lib.propose.found import Notes, OptionChoice, evenly, some
from lib.propose.labels.classes import NO_CLASS, names_of_values, palette_of
from lib.propose.labels.found import FoundLabels, surplus
from lib.propose.names import Form, form_of, form_of_most
from lib.propose.pixels.depth import middle

BLANK, CLEAR = 0.98, 0.02  # share of blank image pixels where a mask says no data, and at most elsewhere
BLANK_LOOKED, SIDE = 12, 1024  # masks, and pixels of a side of each, that are compared with their images
BLANK_LEVELS = 8  # that a blank pixel may be away from black or white, as JPEG makes it
OPENED_MASKS = 100  # masks
MOST_COLOURS = 32  # more are no classes
BY_CLASS, OTHERWISE = r"label|class|semantic|index|mask", r"instance|object|colou?r|panoptic|preview|vis"


@dataclass(frozen=True)
class Masks:
    """Masks of one kind: `choices` that find them, their different values or colours."""

    folder: Folder
    names: list[str]
    kind: str
    choices: list[OptionChoice]
    ids: set[str]

    def values(self, coloured: bool = False) -> np.ndarray:
        """Different values, or colours, of some masks, rising."""
        some_of = evenly(self.names, OPENED_MASKS)
        found = np.unique(np.concatenate([values_of(self.folder.root / name, coloured) for name in some_of]))
        return found[found >= 0].astype(np.int64)  # -1 and NaN: see `_with_unknown`

    def check_alike(self) -> None:
        """Raises UserError, naming the file, where one or few of the masks hold far more values than the others."""
        counts = {name: len(values_of(self.folder.root / name, True)) for name in evenly(self.names, OPENED_MASKS)}
        usual = sorted(counts.values())[len(counts) // 2]
        odd = [name for name, count in counts.items() if count > max(MASK_VALUES, 4 * usual)]
        if odd and usual <= MASK_VALUES:
            raise UserError(
                f"{self.folder.root / odd[0]} holds {counts[odd[0]]} different values or colours, where most masks "
                f"hold {usual} ({len(odd)} such files); replace it by a mask, or remove it with its image"
            )

    def answer(self, template: str, labels: FoundLabels) -> dict[str, object]:
        """Options of answers that are files such as these masks; none where such cannot be written."""
        suffix = PurePosixPath(template).suffix.lower()
        codec = {".tif": "tif", ".tiff": "tif", ".png": "png"}.get(suffix)
        chosen = {choice.key.rsplit(".", 1)[1]: choice.value for choice in labels.choices}
        palette = chosen.get("palette") or {}
        if codec is None or isinstance(palette, str) or any(isinstance(value, list) for value in palette.values()):
            return {}
        top = int(self.values()[-1])
        one = {"object_value": top} if len(labels.classes) == 1 and 1 < top < 256 else {}
        if labels.background and palette and list(palette.values()) != list(range(len(palette))):
            return {}  # answers hold label indices, and nothing says that the masks' own numbers are not wanted
        return {"codec": codec, "id_template": PurePosixPath(template).name, **one}

    def pictures(self) -> dict[str, str]:
        """Mask → the picture of its image."""
        base, below = self.folder.where(self.names)
        form, images = form_of(below, self.folder.known(), files=True), self.folder.images()
        names = Names(form.template, form.classes, form.ids)
        return {name: images[names.read(one)[0]] for name, one in zip(self.names, below, strict=True)}

    def labels(
        self, what: str, choices: list[OptionChoice], classes: list[str], background: bool = True
    ) -> FoundLabels:
        files = frozenset(self.names)
        return FoundLabels(
            self.kind + what, [*self.choices, *choices], self.ids, classes, background, files, whole=True
        )


def from_masks(folder: Folder, asked: set[str], notes: Notes) -> FoundLabels | None:
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
    place = [
        OptionChoice(start + "format", "mask_images"),
        OptionChoice(start + "path", base or "."),
        *surplus(strangers, notes),
    ]
    blurred = PurePosixPath(names[0]).suffix.lower() in (".jpg", ".jpeg") or any(
        soft_level(folder.root / name) for name in evenly(names, 5)
    )
    threshold = [OptionChoice(start + "threshold", 127, "edges are grey between 0 and 255")] if blurred else []
    suffix, where = form.template.removeprefix("{id}"), f"{base}/{form.template}".removeprefix("/")
    if form.classes or not form.alone:
        by_file = OptionChoice(start + "files", form.template, "by class" if form.classes else "one mask per object")
        choices, painted = [*place, by_file, *threshold], bool(form.classes)
        kind, classes = f"masks {where}", form.classes or ["object"]
        rows = "class" if painted else "object"
        return FoundLabels(kind, choices, form.ids, classes, files=frozenset(names), painted=painted, rows=rows)
    simple = form.template.startswith("{id}") and not set(suffix) & set("/*{")
    found = OptionChoice(start + "suffix", suffix) if simple else OptionChoice(start + "files", form.template)
    masks = Masks(folder, names, f"masks {where}", [*place, found], form.ids)
    if blurred:
        return masks.labels(" with grey edges", threshold, ["object"])
    masks.check_alike()
    labels = _with_unknown(masks, _by_values(masks, notes), notes)
    return labels and replace(labels, answer=masks.answer(form.template, labels))


def _with_unknown(masks: Masks, labels: FoundLabels | None, notes: Notes) -> FoundLabels | None:
    """The labels; negative values and NaN in masks stand for pixels that nobody knows, which are ignored."""
    unknown = any((~(values_of(masks.folder.root / name) >= 0)).any() for name in evenly(masks.names, OPENED_MASKS))
    if not labels or not unknown:
        return labels
    notes.unsure.append("what negative values or NaN in the masks mean: their pixels are not scored (labels.other)")
    if any(choice.key.endswith(".other") for choice in labels.choices):
        return labels
    ignore = OptionChoice("competition.labels.other", "ignore", "negative values or NaN in masks")
    return replace(labels, choices=[*labels.choices, ignore])


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


def _by_values(masks: Masks, notes: Notes) -> FoundLabels | None:
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
        above = OptionChoice(start + "threshold", 0, f"values 0 and {values[-1]}")
        return masks.labels(" (object against the rest)", [above], ["object"])
    names = names_of_values(masks.folder, int(max(values[values < 255])))
    if names is None and max(values[values < 255]) >= 2 * len(values) and len(values) <= MOST_COLOURS:
        what = f" of grey levels {some([str(v) for v in values.tolist()], 20)}"
        return _named_by_value(masks, what, values, notes)
    return _indexed(masks, values, names, notes)


def _coloured(masks: Masks, values: np.ndarray, notes: Notes) -> FoundLabels | None:
    found = palette_of(masks.folder)
    if not found and len(values) > MOST_COLOURS:
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
    choices = [
        OptionChoice("competition.labels.palette", where if table else palette, "" if table else f"as {where} says")
    ]
    if strange or len(classes) + background < len(palette):
        why = f"colours of no class: {some(strange)}" if strange else "some colours are of no class"
        choices.append(OptionChoice("competition.labels.other", "ignore", why))
        notes.found.append(f"{why}; their pixels are ignored")
    if not background:
        notes.unsure.append("whether pixels may belong to no class: the palette names no background, so they may not")
    return masks.labels(f" in the colours of {where}", choices, classes, background)


def _named_by_value(masks: Masks, what: str, values: np.ndarray, notes: Notes) -> FoundLabels:
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
    palette = OptionChoice("competition.labels.palette", names, "as found: give them their names, here and above")
    return masks.labels(what, [palette], classes, "background" in names)


def _rgb(code: int) -> list[int]:
    return [code >> 16, code >> 8 & 255, code & 255]


def _indexed(masks: Masks, values: np.ndarray, names: dict[int, str] | None, notes: Notes) -> FoundLabels:
    here, start = [v for v in values.tolist() if v < 255 or (names and v in names)], "competition.labels."
    if names is None:
        names = {i: f"class{i}" for i in range(1, max(here) + 1)}
        blank = 0 in here and len(names) > 1 and _blank_where_zero(masks)
        meaning = "ground without data, where images are blank, and is not scored" if blank else "background"
        notes.unsure.append(f"the names of the classes 1 to {max(here)}; 0 is taken for {meaning}")
        if blank:
            notes.unsure.append("whether 0 is a class of background all the same: set background to true then")
            palette = {name: i for i, name in names.items() if i in here}
            choices = [
                OptionChoice(start + "palette", palette, "values in the masks"),
                OptionChoice(start + "other", "ignore", "0: no data"),
            ]
            what = f" of class indices {some([str(v) for v in values.tolist()], 20)}"
            return masks.labels(what, choices, list(palette), background=False)
    background = names.get(0, "background").lower() in NO_CLASS
    void = {i for i, name in names.items() if name.lower() in NO_CLASS}
    absent = sorted(set(names) - void - set(here))
    classes = {i: names[i] for i in sorted(names) if i not in void | set(absent)}
    choices = []
    if list(classes) != list(range(int(background), len(classes) + background)):
        palette = ({"background": 0} if background else {}) | {name: i for i, name in classes.items()}
        choices.append(OptionChoice("competition.labels.palette", palette, "values in the masks"))
    if absent:
        notes.unsure.append(
            f"whether {some([names[i] for i in absent])} ({some([str(i) for i in absent])}) occur: not in the "
            f"{min(len(masks.names), OPENED_MASKS)} masks that were looked at, so they are left out"
        )
    if other := [str(v) for v in values.tolist() if v not in classes and (v or not background)]:
        choices.append(OptionChoice("competition.labels.other", "ignore", f"{some(other)} of no class"))
    what = f" of class indices {some([str(v) for v in values.tolist()], 20)}"
    return masks.labels(what, choices, list(classes.values()), background)


def _blank_where_zero(masks: Masks) -> bool:
    """Whether images are black, or white, where masks hold 0, and hardly elsewhere: 0 then means no data."""
    pictures = masks.pictures()
    inside, outside = [], []
    for name in evenly(masks.names, BLANK_LOOKED):
        mask = MaskFile(masks.folder.root / name, coloured=False)
        box = middle(mask.height, mask.width, SIDE)
        zero = mask.read(*box) == 0
        with open_image(masks.folder.root / pictures[name], masks.folder.pixels) as reader:
            if (reader.height, reader.width) != (mask.height, mask.width) or zero.ndim == 3:
                return False
            seen = reader.read(*box).astype(int)
        inside.append(seen[zero])
        outside.append(seen[~zero])
    inside, outside = np.concatenate(inside), np.concatenate(outside)
    for level in (0, 255):
        there, else_where = (np.mean((abs(one - level) <= BLANK_LEVELS).all(-1)) for one in (inside, outside))
        if len(inside) and len(outside) and there >= BLANK and else_where <= CLEAR:
            return True
    return False
