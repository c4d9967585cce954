"""Finds the template by which CSV cells and paths name images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from lib.competition.labels.template import last_number

MAX_TEXT = 1000  # letters of a text that may name an image; run-lengths have millions
MAX_CLASSES = 64  # more different words than this do not name classes
NAME_SEPARATORS = "_-./ "


@dataclass(frozen=True)
class Form:
    """How texts name images.

    `template`: as in `competition.labels.id_template` and `.files`. `ids`: the images that the texts name. `classes`:
    the classes that they name. `alone`: whether no two texts name the same image.
    """

    template: str
    ids: set[str]
    classes: list[str]
    alone: bool = True


class Known:
    """The ids of a folder's images, and the parts of each id as they stand in paths."""

    def __init__(self, ids: Iterable[tuple[str, ...]]):
        self.parts = {"_".join(parts): parts for parts in ids}
        self.by_last: dict[str, list[tuple[str, ...]]] = {}
        self.by_number: dict[int, str] = {}
        for joined, parts in self.parts.items():
            self.by_last.setdefault(parts[-1], []).append(parts)
            if (number := last_number(joined)) is not None:
                self.by_number.setdefault(number, joined)

    @classmethod
    def of(cls, ids: Iterable[str]) -> Known:
        return cls((one,) for one in ids)


def form_of(cells: list[str], known: Known, files: bool = False) -> Form | None:
    """The template of texts that name images by their ids; None where some text names none, or no one template fits.

    `files`: the texts are paths; a folder may name the image, or a part of its id.

    >>> form_of(["a.jpg_1", "a.jpg_2", "b.jpg_1"], Known.of(["a", "b", "c"]))
    Form(template='{id}.jpg_{class}', ids=..., classes=['1', '2'], alone=False)
    >>> form_of(["a/m/1.png", "a/m/2.png", "b/m/7.png"], Known.of(["a", "b"]), files=True).template
    '{id}/m/*.png'
    >>> form_of(["k1/01.jpg_1", "k2/01.jpg_2"], Known([("k1", "01"), ("k2", "01")])).template
    '{path}.jpg_{class}'
    >>> form_of(["7", "12"], Known.of(["007", "012"])).template
    '{number}'
    >>> form_of(["k1/l/01.tif", "k2/l/01.tif"], Known([("k1", "01"), ("k2", "01")]), files=True).template
    '{id}/l/{id}.tif'
    """
    shapes: dict[str, list[str]] = {}
    cells = list(dict.fromkeys(cells))
    for cell in cells:
        split = _split(cell, known, files)
        if not split:
            return _numbered(cells, known) if not files else None
        shapes.setdefault(split[0], []).append(split[1])
    ids = set().union(*shapes.values()) if shapes else set()
    alone = sum(map(len, shapes.values())) == len(ids)
    names = {PurePosixPath(cell).name for cell in cells}
    if files and len(names) == 1 and all(PurePosixPath(shape).stem == "*" for shape in shapes):  # folders are names
        name = names.pop()
        shapes = {str(PurePosixPath(shape).with_name(name)): found for shape, found in shapes.items()}
    if files and alone and len(shapes) > 1:
        shapes = _without_folders(shapes)
    if len(shapes) == 1:
        return Form(next(iter(shapes)), ids, [], alone)
    if not shapes:
        return None
    start, end, middles = _differ(list(shapes))
    named = any(hole in start + end for hole in ("{id}", "{number}", "{path}"))
    if not named or any("{" in middle or "/" in middle or not middle for middle in middles):
        return None
    numbers = all(middle.isdecimal() for middle in middles)
    suffixes = start.endswith(".") and not end  # .jpg here, .JPG there
    if suffixes or (files and numbers and len(middles) > 12):
        return Form(f"{start}*{end}", ids, [], alone)
    if len(middles) > MAX_CLASSES:
        return None
    ordered = sorted(middles, key=lambda word: (int(word) if word.isdecimal() else 0, word))
    return Form(f"{start}{{class}}{end}", ids, ordered, alone)


def form_of_most(cells: list[str], known: Known, files: bool = False) -> tuple[Form | None, list[str]]:
    """The form of the texts that name an image, and the texts that name none; at least half must name one.

    >>> form_of_most(["a.png", "b.png", "x.png"], Known.of(["a", "b"]))
    (Form(template='{id}.png', ...), ['x.png'])
    """
    form = form_of(cells, known, files)
    if form:
        return form, []
    named = {cell for cell in dict.fromkeys(cells) if _split(cell, known, files)}
    strangers = [cell for cell in dict.fromkeys(cells) if cell not in named]
    if not named or len(strangers) > len(named):
        return None, []
    return form_of([cell for cell in cells if cell in named], known, files), strangers


def _split(cell: str, known: Known, files: bool) -> tuple[str, str] | None:
    """`cell` with {id} in the place of an image's id, and that id: the longest one that the text holds."""
    if len(cell) > MAX_TEXT:
        return None
    folder, slash, name = cell.rpartition("/")
    words = sorted(_words(name), key=lambda span: (span[0] > 0, span[0] - span[1]))
    for start, end in words:
        if name[start:end] in known.parts:
            return f"{folder}{slash}{name[:start]}{{id}}{name[end:]}", name[start:end]
    if not files:
        return _by_path(PurePosixPath(cell), known)
    parts = folder.split("/")
    for start, end in words:
        for wanted in known.by_last.get(name[start:end], ()):
            if all(part in parts for part in wanted[:-1]):
                above = ["{id}" if part in wanted[:-1] else part for part in parts]
                return "/".join([*above, f"{name[:start]}{{id}}{name[end:]}"]), "_".join(wanted)
    named = [i for i, part in enumerate(parts) if part in known.parts]
    if named:
        stem, parts[named[-1]] = parts[named[-1]], "{id}"
        return "/".join(parts) + "/*" + PurePosixPath(name).suffix, stem
    return None


def _by_path(cell: PurePosixPath, known: Known) -> tuple[str, str] | None:
    """`cell` with {path} in the place of all parts of an id, and that id; for images whose ids contain folders.

    >>> _by_path(PurePosixPath("in/batch_01/0003.jpg"), Known([("batch_01", "0003")]))
    ('in/{path}.jpg', 'batch_01_0003')
    """
    for wanted in known.by_last.get(cell.stem, ()):
        place = len(cell.parts) - len(wanted)
        if place >= 0 and (*cell.parts[place:-1], cell.stem) == wanted:
            return "/".join([*cell.parts[:place], "{path}" + cell.suffix]), "_".join(wanted)
    return None


def _words(name: str) -> list[tuple[int, int]]:
    """(start, end) of every run of words. A word begins after a separator, or at a digit that follows a letter."""
    starts = [
        0,
        *(i for i in range(1, len(name)) if name[i - 1] in NAME_SEPARATORS or re.match(r"[^\W\d]\d", name[i - 1 :])),
    ]
    ends = [i for i in range(1, len(name) + 1) if i == len(name) or name[i] in NAME_SEPARATORS]
    return [(start, end) for start in starts for end in ends if start < end]


def _numbered(cells: list[str], known: Known) -> Form | None:
    """The form of cells that start with an image's number. Leading zeros may differ from those of its id."""
    matches = [re.fullmatch(r"(\d+)(|[^\d].*)", cell) for cell in cells]
    if not cells or not all(match and int(match[1]) in known.by_number for match in matches):
        return None
    width = {len(match[1]) for match in matches}
    zeros = len(width) == 1 and any(len(match[1]) > 1 and match[1].startswith("0") for match in matches)
    hole = f"{{number:0{width.pop()}}}" if zeros else "{number}"
    named = [known.by_number[int(match[1])] + match[2] for match in matches]
    form = form_of(named, known) if all(_split(cell, known, False) for cell in named) else None
    return replace(form, template=form.template.replace("{id}", hole)) if form else None


def _without_folders(shapes: dict[str, list[str]]) -> dict[str, list[str]]:
    """Templates that differ only in folders, merged into one with wildcards. No image may occur in two of them."""
    split = [shape.split("/") for shape in shapes]
    if len({(len(parts), parts[-1]) for parts in split}) != 1:
        return shapes
    levels = [level[0] if len(set(level)) == 1 else "*" for level in zip(*split, strict=True)]
    return {"/".join(levels): sum(shapes.values(), [])} if "{id}" in "/".join(levels) else shapes


def _differ(texts: list[str]) -> tuple[str, str, list[str]]:
    """The common start and end of all texts, both cut at separators, and each text's middle."""
    start = os.path.commonprefix(texts)
    start = start[: max((i + 1 for i, c in enumerate(start) if c in NAME_SEPARATORS + "}"), default=0)]
    backwards = os.path.commonprefix([text[len(start) :][::-1] for text in texts])
    end = backwards[: max((i + 1 for i, c in enumerate(backwards) if c in NAME_SEPARATORS), default=0)][::-1]
    return start, end, [text[len(start) : len(text) - len(end)] for text in texts]


def family(stem: str, parts: int) -> str:
    """An image's name without its last `parts` words; the whole name where it has no more words than that.

    >>> family("IMG_12_scaled_0", 2)
    'IMG_12'
    """
    match = re.match(family_pattern(parts), stem)
    return match[1] if match else stem


def family_pattern(parts: int, shorter: bool = False) -> str:
    """The regular expression of `family`. `shorter`: it also matches names of fewer words, each its own family.

    >>> [re.search(family_pattern(2, True), name)[1] for name in ("a_b_c", "a_b", "a")]
    ['a', 'a_b', 'a']
    """
    word = "[_.-][^_.-]+"
    cut = word if parts == 1 else f"(?:{word}){{{parts}}}"
    return f"^(.+?)(?:{cut})?$" if shorter else f"^(.+?){cut}$"
