"""Recognises labels in JSONs: COCO (one file for all images), labelme and Cityscapes (one file for each image)."""

from __future__ import annotations

from pathlib import Path

from lib.competition.labels.labelme import read_shapes
from lib.competition.labels.template import written_id
from lib.config.reserved import meaning_of
from lib.errors import UserError
from lib.propose.folder import Folder
from lib.propose.found import Notes, OptionChoice, abbreviated
from lib.propose.labels.classes import NO_CLASS
from lib.propose.labels.found import FoundLabels, file_choice
from lib.propose.names import form_of

PAINT_REASON = "where objects overlap, the smaller one lies on top; `file` takes the order of the file"


def from_coco(folder: Folder, asked: set[str], notes: Notes) -> FoundLabels | None:
    """The COCO JSON that labels the most images. `asked`: ids of the test images, which no labels may name."""
    known, fitting = set(folder.images()), {}
    for name, content in folder.cocos.items():
        listed = _listed(name, content, folder, notes)
        if not content["annotations"]:
            continue
        if not listed & known:
            first = content["images"][0]["file_name"] if content["images"] else "nothing"
            notes.unsure.append(
                f"which images {name} labels: it lists {first!r}, which is not in the folder; correct its file_name"
            )
        elif listed & asked:
            notes.unsure.append(f"what {name} is for: it labels {len(listed & asked)} test images, so it is not used")
        else:
            fitting[name] = listed
    if not fitting:
        return None
    name = max(fitting, key=lambda name: (len(fitting[name] & known), -len(fitting[name])))
    if len(fitting) > 1:
        notes.found.append(f"COCO JSONs too, which label fewer images: {abbreviated(sorted(set(fitting) - {name}))}")
    return _of_coco(name, folder.cocos[name], fitting[name], notes)


def _listed(name: str, content: dict, folder: Folder, notes: Notes) -> set[str]:
    """Ids of the images that a COCO JSON lists; empty where a file name gives no id."""
    try:
        known = set(folder.images())
        return {written_id(image["file_name"], folder.image_ids, known) for image in content["images"]}
    except UserError as error:
        notes.unsure.append(f"which images {name} labels, so it is not used: {error}")
        return set()


def _of_coco(name: str, content: dict, listed: set[str], notes: Notes) -> FoundLabels:
    used = {annotation["category_id"] for annotation in content["annotations"]}
    classes = [str(c["name"]) for c in sorted(content["categories"], key=lambda c: c["id"]) if c["id"] in used]
    idle = [str(c["name"]) for c in content["categories"] if c["id"] not in used]
    if idle:
        notes.found.append(f"categories without annotation, left out: {abbreviated(idle)}")
    start = "competition.labels."
    classes, other = _without_reserved(classes, notes)
    choices = [
        OptionChoice(start + "format", "coco"),
        OptionChoice(start + "path", name),
        OptionChoice(start + "paint", "area", PAINT_REASON),
        *other,
    ]
    if any(annotation.get("iscrowd") for annotation in content["annotations"]):
        choices.append(OptionChoice(start + "crowd", "ignore", "crowd regions are not scored"))
    kind = f"COCO JSON {name}, {len(content['annotations'])} objects"
    return FoundLabels(kind, choices, listed, classes, painted=True)


def _without_reserved(names: list[str], notes: Notes) -> tuple[list[str], list[OptionChoice]]:
    """(the names of classes, the choice of `labels.other` where other names such as void mean that there is none)."""
    not_classes = [name for name in names if meaning_of(name) or name.strip("_").lower() in NO_CLASS]
    reserved = [name for name in not_classes if meaning_of(name)]  # readers know these words
    if reserved:
        notes.found.append(f"not classes: {abbreviated([f'{name} ({meaning_of(name)})' for name in reserved])}")
    others = [name for name in not_classes if name not in reserved]
    classes = [name for name in names if name not in not_classes]
    if not others:
        return classes, []
    notes.unsure.append(
        f"what {abbreviated(others)} means: it is not taken for a class, and its pixels are not scored "
        "(competition.labels.other)"
    )
    return classes, [OptionChoice("competition.labels.other", "ignore", f"{abbreviated(others)} is not a class")]


def from_labelme(folder: Folder, asked: set[str], notes: Notes) -> FoundLabels | None:
    """One JSON of polygons for each image; None where there are none."""
    names = [name for name in folder.texts if name.lower().endswith(".json")]
    polygons = {name: shapes for name in names if (shapes := _shapes(folder.root / name)) is not None}
    if not polygons:
        return None
    base, paths = folder.split_base(list(polygons))
    form = form_of(paths, folder.known(), files=True)
    if form is None or form.classes or not form.alone:
        return None
    start = "competition.labels."
    classes = sorted({name for shapes in polygons.values() for name, _ in shapes})
    classes, other = _without_reserved(classes, notes)
    choices = [
        OptionChoice(start + "format", "labelme"),
        OptionChoice(start + "path", base or "."),
        file_choice(form),
        OptionChoice(start + "paint", "area", PAINT_REASON),
        *other,
    ]
    return FoundLabels(f"polygons {base}/{form.template}", choices, form.ids, classes, whole=True, painted=True)


def _shapes(path: Path) -> list | None:
    try:
        return read_shapes(path)[1]
    except UserError:
        return None
