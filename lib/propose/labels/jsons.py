"""Recognises labels in JSONs: COCO (all images in one file), labelme and Cityscapes (a file per image)."""

from __future__ import annotations

from pathlib import Path

from lib.competition.labels.labelme import read_shapes
from lib.competition.labels.template import written_id
from lib.config.reserved import meaning_of
from lib.errors import UserError
from lib.propose.folder import Folder
from lib.propose.found import Notes, OptionChoice, some
from lib.propose.labels.classes import NO_CLASS
from lib.propose.labels.found import FoundLabels
from lib.propose.names import form_of


def from_coco(folder: Folder, asked: set[str], notes: Notes) -> FoundLabels | None:
    """The COCO JSON that labels the most images."""
    known, fitting = set(folder.images()), {}
    for name, content in folder.cocos.items():
        listed = _listed(name, content, folder, notes)
        if not content["annotations"]:
            continue
        if not listed & known:
            first = content["images"][0]["file_name"] if content["images"] else "nothing"
            notes.unsure.append(f"{name} labels no image of this folder: it lists {first!r}; correct its file_name")
        elif listed & asked:
            notes.unsure.append(f"{name} annotates {len(listed & asked)} test images; it is not used")
        else:
            fitting[name] = listed
    if not fitting:
        return None
    name = max(fitting, key=lambda name: (len(fitting[name] & known), -len(fitting[name])))
    if len(fitting) > 1:
        notes.found.append(f"COCO JSONs too, which label fewer images: {some(sorted(set(fitting) - {name}))}")
    return _of_coco(name, folder.cocos[name], fitting[name], notes)


def _listed(name: str, content: dict, folder: Folder, notes: Notes) -> set[str]:
    """Ids of the images that a COCO JSON lists, as far as they can be read from file names."""
    try:
        known = set(folder.images())
        return {written_id(image["file_name"], folder.image_ids, known) for image in content["images"]}
    except UserError as error:
        notes.unsure.append(f"{name} is not used: {error}")
        return set()


def _of_coco(name: str, content: dict, listed: set[str], notes: Notes) -> FoundLabels:
    used = {annotation["category_id"] for annotation in content["annotations"]}
    classes = [str(c["name"]) for c in sorted(content["categories"], key=lambda c: c["id"]) if c["id"] in used]
    idle = [str(c["name"]) for c in content["categories"] if c["id"] not in used]
    if idle:
        notes.found.append(f"categories without annotation, left out: {some(idle)}")
    start = "competition.labels."
    classes, other = _no_classes(classes, notes)
    choices = [
        OptionChoice(start + "format", "coco"),
        OptionChoice(start + "path", name),
        OptionChoice(start + "paint", "area", "where objects overlap, the smaller one lies on top; else `file`"),
        *other,
    ]
    if any(annotation.get("iscrowd") for annotation in content["annotations"]):
        choices.append(OptionChoice(start + "crowd", "ignore", "there are crowds: not scored here"))
    what = f"COCO JSON {name}, {len(content['annotations'])} objects"
    return FoundLabels(what, choices, listed, classes, painted=True)


def _no_classes(names: list[str], notes: Notes) -> tuple[list[str], list[OptionChoice]]:
    """(the names that are classes, what `labels.other` says of those that mean that there is none)."""
    none = [name for name in names if meaning_of(name) or name.strip("_").lower() in NO_CLASS]
    told = [name for name in none if meaning_of(name)]  # readers know these words by themselves
    if told:
        notes.found.append(f"no classes: {some([f'{name} ({meaning_of(name)})' for name in told])}")
    others = [name for name in none if name not in told]
    classes = [name for name in names if name not in none]
    if not others:
        return classes, []
    notes.unsure.append(
        f"what {some(others)} means: no class here, its pixels are not scored (competition.labels.other)"
    )
    return classes, [OptionChoice("competition.labels.other", "ignore", f"{some(others)} is no class")]


def from_labelme(folder: Folder, asked: set[str], notes: Notes) -> FoundLabels | None:
    """A JSON of polygons per image."""
    names = [name for name in folder.texts if name.lower().endswith(".json")]
    shown = {name: shapes for name in names if (shapes := _shapes(folder.root / name)) is not None}
    form = form_of(folder.where(list(shown))[1], folder.known(), files=True) if shown else None
    if form is None or form.classes or not form.alone:
        return None
    start, (base, _) = "competition.labels.", folder.where(list(shown))
    suffix = form.template.removeprefix("{id}")
    simple = form.template.startswith("{id}") and not set(suffix) & set("/*{")
    classes = sorted({name for shapes in shown.values() for name, _ in shapes})
    classes, other = _no_classes(classes, notes)
    choices = [
        OptionChoice(start + "format", "labelme"),
        OptionChoice(start + "path", base or "."),
        OptionChoice(start + "suffix", suffix) if simple else OptionChoice(start + "files", form.template),
        OptionChoice(start + "paint", "area", "where objects overlap, the smaller one lies on top; else `file`"),
        *other,
    ]
    return FoundLabels(f"polygons {base}/{form.template}", choices, form.ids, classes, whole=True, painted=True)


def _shapes(path: Path) -> list | None:
    try:
        return read_shapes(path)[1]
    except UserError:
        return None
