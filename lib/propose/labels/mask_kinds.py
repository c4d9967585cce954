"""Chooses among several masks of each image, such as instances, classes and a preview."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import numpy as np

from lib.competition.labels.template import Names
from lib.propose.folder import Folder, soft_level, values_of
from lib.propose.found import Notes, abbreviated, evenly_spaced
from lib.propose.names import Form, form_of, form_of_most

CLASS_WORDS, OTHER_WORDS = r"label|class|semantic|index|mask", r"instance|object|colou?r|panoptic|preview|vis"

MOST_NAMES = 12  # so many different names of files are kinds of masks


def masks_of_one_kind(folder: Folder, notes: Notes) -> tuple[list[str], Form | None, list[str]]:
    """(the masks, the form of their names, masks without an image, which are left out).

    Where the folder has several masks of each image, such as instances, classes and a preview, the masks that show
    classes are taken.
    """
    names, known = folder.masks, folder.known()
    base, below = masks_below(folder, names)
    form, strangers = form_of_most(below, known, files=True)
    names = [name for name, path in zip(names, below, strict=True) if path not in set(strangers)]
    kinds: dict[str, list[str]] = {}  # word -> the masks with this word in their path
    stems = {PurePosixPath(name).stem for name in names}
    named = 1 < len(stems) <= MOST_NAMES and not any(map(str.isdecimal, stems))
    if named and (form is None or PurePosixPath(form.template).stem == "*"):  # a few files in a folder for each image
        for name in names:
            kinds.setdefault(PurePosixPath(name).stem, []).append(name)
    elif form is None:
        for name in names:  # by the last word of their names, and by folders
            path = PurePosixPath(name)
            last = re.split("[_-]", path.stem)[-1]
            for word in {*path.parent.parts, *([] if last.isdecimal() else [last])}:
                kinds.setdefault(word, []).append(name)
    elif form.classes:
        by_class = Names(form.template, form.classes, set())
        for name, path in zip(names, masks_below(folder, names)[1], strict=True):
            kinds.setdefault(by_class.read(path)[1], []).append(name)
        if not any(_several_values(folder, masks) for masks in kinds.values()):
            return names, form, strangers
    forms = {word: form_of(masks_below(folder, masks)[1], known, files=True) for word, masks in kinds.items()}
    fitting = sorted(word for word, word_form in forms.items() if word_form)
    if not fitting:
        return names, form, strangers
    best = min(fitting, key=lambda word: (_rank(word), -len(forms[word].ids)))
    if len(fitting) > 1:
        others = abbreviated([word for word in fitting if word != best])
        notes.unsure.append(f"which masks show the classes: {best} is taken, not {others} (labels.path, labels.files)")
    return kinds[best], forms[best], strangers


def masks_below(folder: Folder, names: list[str]) -> tuple[str, list[str]]:
    """The innermost folder that holds all masks, and their paths below it; the root where a folder is part of an id."""
    base, below = folder.split_base(names)
    misfit = base and form_of_most(below, folder.known(), files=True)[0] is None
    return ("", names) if misfit and form_of_most(names, folder.known(), files=True)[0] else (base, below)


def _rank(word: str) -> int:
    """0 for a word that stands for masks of classes, 2 for a word that stands for other masks, 1 for all others."""
    return 2 if re.search(OTHER_WORDS, word, re.IGNORECASE) else 0 if re.search(CLASS_WORDS, word, re.IGNORECASE) else 1


def _several_values(folder: Folder, names: list[str]) -> bool:
    """Whether masks hold more than two different values or colours. Grey edges do not count."""
    values = [values_of(folder.root / n, True) for n in evenly_spaced(names, 10) if not soft_level(folder.root / n)]
    jpeg = PurePosixPath(names[0]).suffix.lower() in (".jpg", ".jpeg")
    return bool(values) and not jpeg and len(np.unique(np.concatenate(values))) > 2
