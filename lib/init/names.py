"""How CSV cells and paths name images: the template that explains all of them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

CLASSES = 64  # more different words than this are no classes
SEPARATORS = "_-./ "


@dataclass(frozen=True)
class Form:
    """`template` as in `competition.labels.id_template` and `.files`; `ids` it finds; `classes`, if it names some."""

    template: str
    ids: set[str]
    classes: list[str]


def form_of(cells: list[str], stems: set[str], files: bool = False) -> Form | None:
    """The template of texts that name images by their stems; None when they do not, or not all alike.

    `files`: the texts are paths, of which a folder may name the image.

    >>> form_of(["a.jpg_1", "a.jpg_2", "b.jpg_1"], {"a", "b", "c"})
    Form(template='{id}.jpg_{class}', ids=..., classes=['1', '2'])
    >>> form_of(["a/m/1.png", "a/m/2.png", "b/m/7.png"], {"a", "b"}, files=True).template
    '{id}/m/*.png'
    """
    shapes: dict[str, set[str]] = {}
    for cell in dict.fromkeys(cells):
        split = _split(cell, stems, files)
        if not split:
            return None
        shapes.setdefault(split[0], set()).add(split[1])
    ids = set().union(*shapes.values()) if shapes else set()
    if len(shapes) == 1:
        return Form(next(iter(shapes)), ids, [])
    if not shapes:
        return None
    start, end, middles = _differ(list(shapes))
    if "{id}" not in start + end or any("{id}" in middle or "/" in middle or not middle for middle in middles):
        return None
    numbers = all(middle.isdecimal() for middle in middles)
    suffixes = start.endswith(".") and not end  # .jpg here, .JPG there
    if suffixes or (files and numbers and len(middles) > 12):
        return Form(f"{start}*{end}", ids, [])
    if len(middles) > CLASSES:
        return None
    ordered = sorted(middles, key=lambda word: (int(word) if word.isdecimal() else 0, word))
    return Form(f"{start}{{class}}{end}", ids, ordered)


def _split(cell: str, stems: set[str], files: bool) -> tuple[str, str] | None:
    """(`cell` with {id} in the place of an image's stem, that stem); the longest stem that it may be."""
    folder, slash, name = cell.rpartition("/")
    parts = folder.split("/")
    named = [i for i, part in enumerate(parts) if part in stems]
    stem = next((name[:cut] for cut in range(len(name), 0, -1) if name[:cut] in stems and _ends(name, cut)), None)
    if stem is None and files and named:
        stem, parts[named[-1]] = parts[named[-1]], "{id}"
        return "/".join(parts) + "/*" + PurePosixPath(name).suffix, stem
    return None if stem is None else (f"{folder}{slash}{{id}}{name[len(stem) :]}", stem)


def _ends(name: str, cut: int) -> bool:
    return cut == len(name) or name[cut] in SEPARATORS


def _differ(texts: list[str]) -> tuple[str, str, list[str]]:
    """What all texts start and end with, cut at separators, and what is between."""
    start = os.path.commonprefix(texts)
    start = start[: max((i + 1 for i, c in enumerate(start) if c in SEPARATORS + "}"), default=0)]
    backwards = os.path.commonprefix([text[len(start) :][::-1] for text in texts])
    end = backwards[: max((i + 1 for i, c in enumerate(backwards) if c in SEPARATORS), default=0)][::-1]
    return start, end, [text[len(start) : len(text) - len(end)] for text in texts]


def family(stem: str, parts: int) -> str:
    """An image's name without its last `parts` words.

    >>> family("IMG_12_scaled_0", 2)
    'IMG_12'
    """
    found = re.match(family_pattern(parts), stem)
    return found[1] if found else stem


def family_pattern(parts: int) -> str:
    """The regular expression of `family`; a name of fewer words is its own family."""
    word = "[_.-][^_.-]+"
    return f"^(.+?){word if parts == 1 else f'(?:{word}){{{parts}}}'}$"
