"""Finds image ids: file names, parts of file names, or file names with folders."""

from __future__ import annotations

import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from lib.competition.labels.template import image_id_of, pattern
from lib.errors import UserError
from lib.propose.found import evenly_spaced
from lib.propose.names import NAME_SEPARATORS, Form, Known, form_of

EXPLAINED_CELLS = 60  # so many cells of a column, and so many masks, must fit a template
MAX_WORDS_CUT = 6  # at most so many words are cut off a name
FOLDER_LEVELS = 4  # at most so many folders above a file are part of its id
MAX_BANDS = 16  # files of one image, at most
CHANNEL_NAMES = (("B04", "B03", "B02"), ("red", "green", "blue"), ("R", "G", "B"))


def find_ids(
    pictures: list[str], columns: list[list[list[str]]], masks: list[str]
) -> tuple[str, tuple[str, ...], list[str]]:
    """The template of image ids that fits the most tables and masks.

    `columns`: for each table, the cells of its columns. Returns (`competition.image_ids`, `competition.pixels.files`,
    how the names of all channel files end where they do not name red, green and blue). Raises UserError where two
    pictures get the same id from every template.
    """
    columns = [[evenly_spaced(cells, EXPLAINED_CELLS) for cells in table] for table in columns]
    masks = evenly_spaced(masks, EXPLAINED_CELLS)
    template, score = _best(pictures, columns, masks)
    bands = _bands(pictures)
    if bands and score < len(columns) + bool(masks) and not _views(bands, columns, masks):
        files = _red_green_blue(bands)
        band_template, band_score = _best(of_first_band(pictures, files), columns, masks)
        if band_template is not None and band_score > score:
            named = any({name.lower() for name in names} <= {one.lower() for one in files} for names in CHANNEL_NAMES)
            return band_template, files, [] if named else sorted(next(iter(bands.values())))
    if template is None:
        names = defaultdict(list)
        for name in pictures:
            names[PurePosixPath(name).stem].append(name)
        one, other = next(paths for paths in names.values() if len(paths) > 1)[:2]
        raise UserError(
            f"two images would have the same id: {one} and {other}; remove one of them, or give it a name of its own"
        )
    return template, (), []


def endings_of(pictures: list[str]) -> list[str]:
    """How the names of an image's files end, where all images have files with the same few endings."""
    return sorted(next(iter(_bands(pictures).values()), ()))


def of_first_band(pictures: list[str], files: tuple[str, ...]) -> list[str]:
    """The pictures whose names end like the first of `competition.pixels.files`; all of them where `files` is ()."""
    return [name for name in pictures if not files or PurePosixPath(name).stem.endswith(files[0])]


def known_of(pictures: list[str], template: str) -> Known | None:
    """The ids of pictures; None where the template does not fit all of them, or gives two the same id."""
    names = [PurePosixPath(name) for name in pictures]
    if not template:
        ids = [(name.stem,) for name in names]
    else:
        end, deep = pattern(template, []), 1 + template.count("/")
        matches = [end.fullmatch("/".join([*name.parts[:-1], name.stem][-deep:])) for name in names]
        ids = [match.groups() for match in matches if match]
    known = Known(ids)
    return known if len(known.parts) == len(pictures) else None


def _best(pictures: list[str], columns: list[list[list[str]]], masks: list[str]) -> tuple[str | None, float]:
    """The first template that fits the most tables and masks, and how many it fits; (None, -1.0) for no template."""
    best, most = None, -1.0
    for template in _templates(pictures):
        known = known_of(pictures, template)
        if known is None:
            continue
        score = sum(max((_evidence(form_of(cells, known)) for cells in table), default=0) for table in columns)
        score += bool(masks) and form_of(masks, known, files=True) is not None
        if score > most:
            best, most = template, score
        if most == len(columns) + bool(masks):
            break
    return best, most


def _evidence(form: Form | None) -> float:
    """How much a column supports a template: a number alone is weaker evidence than a name."""
    return 0 if form is None else 0.5 if "{number" in form.template else 1


def _templates(pictures: list[str]) -> Iterator[str]:
    """Templates of `competition.image_ids`, the simplest first."""
    paths = [PurePosixPath(name) for name in pictures]
    names = _names([path.stem for path in paths])
    depth = min(FOLDER_LEVELS, min(len(path.parts) - 1 for path in paths))
    levels = [{path.parts[-2 - i] for path in paths} for i in range(depth)]  # from the file up
    varied = [i for i, level in enumerate(levels) if len(level) > 1]
    yield from names
    stems = {path.stem for path in paths}
    constant = [next(iter(stems))] if len(stems) == 1 else ["*"]
    for count in (1, 2):
        for chosen in itertools.combinations(varied, count):
            above = ["{id}" if i in chosen else next(iter(levels[i])) if len(levels[i]) == 1 else "*"
                     for i in range(chosen[-1] + 1)]  # fmt: skip
            for name in (*names, *constant):
                yield "/".join([*reversed(above), name or "{id}"])


def _names(stems: list[str]) -> list[str]:
    """Templates of file names: the whole name, without a common start or end, or without its last words."""
    start, end = os.path.commonprefix(stems), os.path.commonprefix([stem[::-1] for stem in stems])[::-1]
    start = re.match(rf".*[{re.escape(NAME_SEPARATORS)}]|.*[^\W\d](?=\d)|", start)[0]
    end = re.search(rf"[{re.escape(NAME_SEPARATORS)}].*|$", end)[0]
    whole = len(start) + len(end) >= min(map(len, stems))
    out = [""] + [f"{a}{{id}}{b}" for a, b in ((start, ""), ("", end), (start, end)) if a + b and not whole]
    words = min(stem.count("_") for stem in stems)
    return [*dict.fromkeys(out), *("{id}" + "_*" * count for count in range(1, min(words, MAX_WORDS_CUT) + 1))]


def _views(bands: dict[str, set[str]], columns: list[list[list[str]]], masks: list[str]) -> bool:
    """Whether files that look like channels are separate images, such as views of one object.

    Each separate image has a mask, or, where there are no masks, a cell in a table.
    """
    known = Known.of({PurePosixPath(image.rstrip("_-")).name for image in bands})
    if masks:
        forms = [form_of(masks, known, files=True)]
    else:
        forms = [form_of(cells, known) for table in columns for cells in table]
    return any(form and len(next(iter(bands.values())) & set(form.classes)) > 1 for form in forms)


def _bands(pictures: list[str]) -> dict[str, set[str]]:
    """Image -> the endings of its files, where all images have files with the same few endings; else empty."""
    for split in (r"(?P<image>.*)/(?P<band>[^/]+)", r"(?P<image>.*[_-])(?P<band>[^/_-]+)"):
        bands = defaultdict(set)
        for name in pictures:
            if match := re.fullmatch(split, str(PurePosixPath(name).with_suffix(""))):
                bands[match["image"]].add(match["band"])
        sets = {frozenset(endings) for endings in bands.values()}
        if len(sets) == 1 and len(bands) > 1 and 2 <= len(next(iter(sets))) <= MAX_BANDS:
            return bands
    return {}


def _red_green_blue(bands: dict[str, set[str]]) -> tuple[str, ...]:
    """How the file names of red, green and blue end. Where no name says so, the first three endings."""
    endings = {band.lower(): band for band in sorted(next(iter(bands.values()), ()))}
    usual = next((names for names in CHANNEL_NAMES if all(name.lower() in endings for name in names)), None)
    return tuple(endings[name.lower()] for name in usual) if usual else (*endings.values(), *endings.values())[:3]


def ids_of(pictures: list[str], template: str) -> dict[str, str]:
    """Image id -> picture."""
    return {image_id_of(name, template): name for name in pictures}
