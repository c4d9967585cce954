"""Recognises labels that are mask images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from lib.competition.labels.mask_file import MaskFile
from lib.competition.labels.template import Names
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.imaging.volumes.hdf5 import HDF5_SUFFIXES, only_array
from lib.imaging.writers.pyramid_tiff import geo_tags_of
from lib.propose.folder import MASK_VALUES, Folder, soft_level, values_of
from lib.propose.found import Notes, OptionChoice, abbreviated, evenly_spaced
from lib.propose.labels.classes import NO_CLASS, names_of_values, palette_of
from lib.propose.labels.found import FoundLabels, file_choice, surplus
from lib.propose.labels.mask_kinds import masks_below, masks_of_one_kind
from lib.propose.names import form_of
from lib.propose.pixels.depth import middle

ANSWER_SUFFIXES = (".tif", ".tiff", ".png", ".h5", ".hdf5", ".npy")  # of masks that a codec writes too
MIN_BLANK_INSIDE = 0.98  # 0 means no data where at least this share of the image pixels below it is blank,
MAX_BLANK_OUTSIDE = 0.02  # and at most this share of all other pixels
COMPARED_MASKS, COMPARED_SIDE = 12, 1024  # masks compared with their images, and pixels of a side of each
BLANK_LEVELS = 8  # how far JPEG may move a blank pixel away from black or white
OPENED_MASKS = 100  # so many masks are opened to find their values
MAX_COLOURS = 32  # more different values than this are not classes


def _own_name(name: str, parts: int, ids: set[str]) -> str:
    """The name of an answer's file. Where folders are `parts` of an id, a number alone stands in it.

    >>> _own_name("mask_{id}.h5", 2, {"TrainData_1"}), _own_name("{id}_kelp.tif", 1, {"a"})
    ('mask_{number}.h5', '{id}_kelp.tif')
    """
    numbered = parts > 1 and all(image_id.rpartition("_")[2].isdecimal() for image_id in ids)
    return name.replace("{id}", "{number}") if numbered else name


def place_of_answers(folder: Folder) -> dict[str, object]:
    """The option `submission.georeference`, where all pictures are TIFFs that say where on Earth they lie."""
    some = evenly_spaced(folder.pictures, COMPARED_MASKS)
    return {"georeference": True} if all(geo_tags_of(folder.root / name) for name in some) else {}


@dataclass(frozen=True)
class Masks:
    """Masks of one kind. `names`: paths. `kind`: a phrase for the user. `choices`: options that find the files."""

    folder: Folder
    names: list[str]
    kind: str
    choices: list[OptionChoice]
    ids: set[str]

    def values(self, coloured: bool = False) -> np.ndarray:
        """The different values, or colours, of at most `OPENED_MASKS` masks, ascending."""
        opened = evenly_spaced(self.names, OPENED_MASKS)
        values = np.unique(np.concatenate([values_of(self.folder.root / name, coloured) for name in opened]))
        return values[values >= 0].astype(np.int64)  # `_with_unknown` handles -1 and NaN

    def check_alike(self) -> None:
        """Raises UserError, naming the file, where a few of the masks hold far more values than the others."""
        counts = {
            name: len(values_of(self.folder.root / name, True)) for name in evenly_spaced(self.names, OPENED_MASKS)
        }
        usual = sorted(counts.values())[len(counts) // 2]
        odd = [name for name, count in counts.items() if count > max(MASK_VALUES, 4 * usual)]
        if odd and usual <= MASK_VALUES:
            raise UserError(
                f"{self.folder.root / odd[0]} holds {counts[odd[0]]} different values or colours, where most masks "
                f"hold {usual} ({len(odd)} such files); replace it by a mask, or remove it with its image"
            )

    def answer(self, template: str, labels: FoundLabels) -> dict[str, object]:
        """Options of answers that are files like these masks; empty where no codec writes such files."""
        name = PurePosixPath(template)
        suffix, parts = name.suffix.lower(), template.count("{id}")
        codec = {".tif": "tif", ".tiff": "tif", ".png": "png"}.get(suffix, "files")
        if suffix not in ANSWER_SUFFIXES:
            return {}
        form: dict[str, object] = {"codec": codec, "id_template": _own_name(name.name, parts, self.ids)}
        if codec == "tif":
            form |= place_of_answers(self.folder)
        if suffix in HDF5_SUFFIXES:
            form["dataset"] = only_array(self.folder.root / self.names[0])
        chosen = {choice.key.rsplit(".", 1)[1]: choice.value for choice in labels.choices}
        palette = chosen.get("palette") or {}
        named = palette_of(self.folder)[1] if isinstance(palette, str) else palette
        coloured = any(isinstance(value, list) for value in named.values())
        if coloured or (labels.background and palette and list(palette.values()) != list(range(len(palette)))):
            # Label indices would be other numbers than those that the organiser writes.
            wanted = {*["background"] * labels.background, *labels.classes}
            return {**form, "palette": "labels"} if wanted <= set(named) else {}
        top = int(self.values()[-1])
        object_value = {"object_value": top} if len(labels.classes) == 1 and 1 < top < 256 else {}
        return {**form, **object_value}

    def pictures(self) -> dict[str, str]:
        """Mask -> the picture that it labels."""
        base, below = masks_below(self.folder, self.names)
        form, images = form_of(below, self.folder.known(), files=True), self.folder.images()
        names = Names(form.template, form.classes, form.ids)
        return {name: images[names.read(one)[0]] for name, one in zip(self.names, below, strict=True)}

    def labels(
        self, content: str, choices: list[OptionChoice], classes: list[str], background: bool = True
    ) -> FoundLabels:
        """These masks as labels. `content`: a phrase on their values. `choices`: options that read the values."""
        files = frozenset(self.names)
        return FoundLabels(
            self.kind + content, [*self.choices, *choices], self.ids, classes, background, files, whole=True
        )


def from_masks(folder: Folder, notes: Notes) -> FoundLabels | None:
    """The labels of a folder's mask images; None where it has none, or none whose names follow the images' names."""
    if not folder.masks:
        return None
    names, form, strangers = masks_of_one_kind(folder, notes)
    if form is None:
        notes.unsure.append(
            f"whether {len(folder.masks)} files with few values ({abbreviated(folder.masks, 2)}) are masks: their "
            "names do not follow the images' names"
        )
        return None
    start, (base, _) = "competition.labels.", masks_below(folder, names)
    place = [
        OptionChoice(start + "format", "mask_images"),
        OptionChoice(start + "path", base or "."),
        *surplus(strangers, notes),
    ]
    blurred = PurePosixPath(names[0]).suffix.lower() in (".jpg", ".jpeg") or any(
        soft_level(folder.root / name) for name in evenly_spaced(names, 5)
    )
    threshold = [OptionChoice(start + "threshold", 127, "edges are grey between 0 and 255")] if blurred else []
    kind = "masks " + f"{base}/{form.template}".removeprefix("/")
    if form.classes or not form.alone:
        rows, classes = "class" if form.classes else "object", form.classes or ["object"]
        choices = [*place, OptionChoice(start + "files", form.template, f"one mask for each {rows}"), *threshold]
        painted = rows == "class"
        return FoundLabels(kind, choices, form.ids, classes, files=frozenset(names), painted=painted, rows=rows)
    masks = Masks(folder, names, kind, [*place, file_choice(form)], form.ids)
    if blurred:
        return masks.labels(" with grey edges", threshold, ["object"])
    masks.check_alike()
    labels = _with_unknown(masks, _by_values(masks, notes), notes)
    return labels and replace(labels, answer=masks.answer(form.template, labels))


def _with_unknown(masks: Masks, labels: FoundLabels | None, notes: Notes) -> FoundLabels | None:
    """The labels, with `labels.other: ignore` where masks hold negative values or NaN."""
    unknown = any(
        (~(values_of(masks.folder.root / name) >= 0)).any() for name in evenly_spaced(masks.names, OPENED_MASKS)
    )
    if not labels or not unknown:
        return labels
    notes.unsure.append("what negative values or NaN in the masks mean: their pixels are not scored (labels.other)")
    if any(choice.key.endswith(".other") for choice in labels.choices):
        return labels
    ignore = OptionChoice("competition.labels.other", "ignore", "negative values or NaN in masks")
    return replace(labels, choices=[*labels.choices, ignore])


def _by_values(masks: Masks, notes: Notes) -> FoundLabels | None:
    """Labels by the kind of the masks' values: object and background, class indices, grey levels, or colours."""
    start, values = "competition.labels.", masks.values()
    if values[-1] > 255 and values[-1] < 2**16 + 2**8:  # grey with more than 8 bits
        values = np.unique(np.minimum(values, 255))
    if not values.any():
        notes.unsure.append(f"what {masks.kind} show: all that were opened are empty")
        return None
    if values[-1] > 255:
        return _coloured(masks, masks.values(coloured=True), notes)
    if len(values[values > 0]) == 1:
        above = OptionChoice(start + "threshold", 0, f"values 0 and {values[-1]}")
        return masks.labels(" (object and background)", [above], ["object"])
    names = names_of_values(masks.folder, int(max(values[values < 255])))
    if names is None and max(values[values < 255]) >= 2 * len(values) and len(values) <= MAX_COLOURS:
        levels = f" of grey levels {abbreviated([str(v) for v in values.tolist()], 20)}"
        return _named_by_value(masks, levels, values, notes)
    return _indexed(masks, values, names, notes)


def _coloured(masks: Masks, values: np.ndarray, notes: Notes) -> FoundLabels | None:
    """Labels whose classes are colours: named by a file of the folder, or by their numbers where there are few."""
    source = palette_of(masks.folder)
    if not source and len(values) > MAX_COLOURS:
        notes.unsure.append(
            f"which of {len(values)} colours of the masks are classes: no CSV has the columns name,r,g,b, and no JSON "
            "has colours"
        )
        return None
    if not source:
        return _named_by_value(masks, f" in {len(values)} colours", values, notes)
    file, palette, is_csv = source
    classes = [name for name in palette if name.lower() not in NO_CLASS]
    codes = {r << 16 | g << 8 | b for r, g, b in palette.values()}
    background = "background" in palette
    strange = [str(_rgb(v)) for v in values.tolist() if v not in codes]
    option, reason = (file, "") if is_csv else (palette, f"from {file}")
    choices = [OptionChoice("competition.labels.palette", option, reason)]
    if strange or len(classes) + background < len(palette):
        why = f"colours of no class: {abbreviated(strange)}" if strange else "some colours are of no class"
        choices.append(OptionChoice("competition.labels.other", "ignore", why))
        notes.found.append(f"{why}; their pixels are ignored")
    if not background:
        notes.unsure.append(
            "whether pixels may belong to no class: the palette names no background, so every pixel has a class"
        )
    return masks.labels(f" in the colours of {file}", choices, classes, background)


def _named_by_value(masks: Masks, content: str, values: np.ndarray, notes: Notes) -> FoundLabels:
    """Labels whose classes are called after their values. 0, or black, is background. The user may rename them."""
    grey = values[-1] <= 255
    names = {
        ("background" if not v else f"value{v}" if grey else f"color_{v:06x}"): v if grey else _rgb(v)
        for v in values.tolist()
    }
    classes = [name for name in names if name != "background"]
    notes.unsure.append(
        f"what the {'values' if grey else 'colours'} of the masks mean ({abbreviated(classes, 12)}): rename them in "
        "classes and palette"
    )
    palette = OptionChoice("competition.labels.palette", names, "give the classes their names, here and in classes")
    return masks.labels(content, [palette], classes, "background" in names)


def _rgb(code: int) -> list[int]:
    return [code >> 16, code >> 8 & 255, code & 255]


def _indexed(masks: Masks, values: np.ndarray, names: dict[int, str] | None, notes: Notes) -> FoundLabels:
    """Labels whose values are class indices. `names`: value -> class name, where a file of the folder gives names."""
    present, start = [v for v in values.tolist() if v < 255 or (names and v in names)], "competition.labels."
    content = f" of class indices {abbreviated([str(v) for v in values.tolist()], 20)}"
    if names is None:
        names = {i: f"class{i}" for i in range(1, max(present) + 1)}
        blank = 0 in present and len(names) > 1 and _blank_where_zero(masks)
        meaning = "ground without data, where images are blank, and is not scored" if blank else "background"
        notes.unsure.append(f"the names of the classes 1 to {max(present)}; 0 is taken for {meaning}")
        if blank:
            notes.unsure.append("whether 0 is a class of background nevertheless: if so, set background to true")
            palette = {name: i for i, name in names.items() if i in present}
            choices = [
                OptionChoice(start + "palette", palette, "values in the masks"),
                OptionChoice(start + "other", "ignore", "0: no data"),
            ]
            return masks.labels(content, choices, list(palette), background=False)
    background = names.get(0, "background").lower() in NO_CLASS
    void = {i for i, name in names.items() if name.lower() in NO_CLASS}
    absent = sorted(set(names) - void - set(present))
    classes = {i: names[i] for i in sorted(names) if i not in void | set(absent)}
    choices = []
    if list(classes) != list(range(int(background), len(classes) + background)):
        palette = ({"background": 0} if background else {}) | {name: i for i, name in classes.items()}
        choices.append(OptionChoice("competition.labels.palette", palette, "values in the masks"))
    if absent:
        notes.unsure.append(
            f"whether {abbreviated([names[i] for i in absent])} ({abbreviated([str(i) for i in absent])}) occur: the "
            f"{min(len(masks.names), OPENED_MASKS)} masks that were opened do not hold them, so they are left out"
        )
    if other := [str(v) for v in values.tolist() if v not in classes and (v or not background)]:
        choices.append(OptionChoice("competition.labels.other", "ignore", f"{abbreviated(other)} of no class"))
    return masks.labels(content, choices, list(classes.values()), background)


def _blank_where_zero(masks: Masks) -> bool:
    """Whether images are black or white where masks hold 0, and hardly anywhere else. If so, 0 means no data."""
    pictures = masks.pictures()
    inside, outside = [], []
    for name in evenly_spaced(masks.names, COMPARED_MASKS):
        mask = MaskFile(masks.folder.root / name, coloured=False)
        box = middle(mask.height, mask.width, COMPARED_SIDE)
        zero = mask.read(*box) == 0
        with open_image(masks.folder.root / pictures[name], masks.folder.pixels) as reader:
            if (reader.height, reader.width) != (mask.height, mask.width) or zero.ndim == 3:
                return False
            pixels = reader.read(*box).astype(int)
        inside.append(pixels[zero])
        outside.append(pixels[~zero])
    inside, outside = np.concatenate(inside), np.concatenate(outside)
    if not len(inside) or not len(outside):
        return False
    for level in (0, 255):
        blank = [np.mean((abs(pixels - level) <= BLANK_LEVELS).all(-1)) for pixels in (inside, outside)]
        if blank[0] >= MIN_BLANK_INSIDE and blank[1] <= MAX_BLANK_OUTSIDE:
            return True
    return False
