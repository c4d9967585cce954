"""Finds image ids: file names, parts of them, or folders too."""

from __future__ import annotations

import itertools
import os
import re
from collections import defaultdict
from pathlib import PurePosixPath

from lib.competition.labels.template import image_id_of, pattern
from lib.errors import UserError
from lib.propose.found import evenly
from lib.propose.names import NAME_SEPARATORS, Known, form_of

EXPLAINED_CELLS = 60  # cells of a column, and masks, that a template has to explain
CUT = 6  # words that are cut off a name
FOLDER_LEVELS = 4  # folders above a file that may name it
BANDS = 16  # files of one image, at most
CHANNEL_NAMES = (("B04", "B03", "B02"), ("red", "green", "blue"), ("R", "G", "B"))


def find_ids(
    pictures: list[str], columns: list[list[list[str]]], masks: list[str]
) -> tuple[str, tuple[str, ...], list[str]]:
    """(`competition.image_ids`, `competition.pixels.files`) that explain most of what names the images; how the files
    of all channels end, where no name tells which are red, green and blue.

    `columns`: of each table, the cells of its columns. Raises UserError where nothing tells two pictures apart.
    """
    columns = [[evenly(cells, EXPLAINED_CELLS) for cells in table] for table in columns]
    masks = evenly(masks, EXPLAINED_CELLS)
    template, score = _best(pictures, columns, masks)
    bands = _bands(pictures)
    if bands and score < len(columns) + bool(masks) and not _views(bands, columns, masks):
        files = _red_green_blue(bands)
        apart, better = _best(of_first_band(pictures, files), columns, masks)
        if apart is not None and better > score:
            named = any({name.lower() for name in names} <= {one.lower() for one in files} for names in CHANNEL_NAMES)
            return apart, files, [] if named else sorted(next(iter(bands.values())))
    if template is None:
        names = defaultdict(list)
        for name in pictures:
            names[PurePosixPath(name).stem].append(name)
        one, other = next(own for own in names.values() if len(own) > 1)[:2]
        raise UserError(f"nothing in their paths tells {one} from {other}; remove one of them")
    return template, (), []


def of_first_band(pictures: list[str], files: tuple[str, ...]) -> list[str]:
    """Those pictures whose names end as the first of `competition.pixels.files`."""
    return [name for name in pictures if not files or PurePosixPath(name).stem.endswith(files[0])]


def known_of(pictures: list[str], template: str) -> Known | None:
    """The ids of pictures; None when a template does not fit all, or makes one id of two."""
    names = [PurePosixPath(name) for name in pictures]
    if not template:
        ids = [(name.stem,) for name in names]
    else:
        end, deep = pattern(template, []), 1 + template.count("/")
        found = [end.fullmatch("/".join([*name.parts[:-1], name.stem][-deep:])) for name in names]
        ids = [match.groups() for match in found if match]
    known = Known(ids)
    return known if len(known.parts) == len(pictures) else None


def _best(pictures: list[str], columns: list[list[list[str]]], masks: list[str]) -> tuple[str | None, float]:
    """(the first of the templates that explain most, how many tables and masks it explains)."""
    best, most = None, -1.0
    for template in _templates(pictures):
        known = known_of(pictures, template)
        if known is None:
            continue
        score = sum(max((_told(form_of(cells, known)) for cells in table), default=0) for table in columns)
        score += bool(masks) and form_of(masks, known, files=True) is not None
        if score > most:
            best, most = template, score
        if most == len(columns) + bool(masks):
            break
    return best, most


def _told(form) -> float:
    """A number alone tells less than a name."""
    return 0 if form is None else 0.5 if "{number" in form.template else 1


def _templates(pictures: list[str]):
    """Templates of `competition.image_ids`, the plainest first."""
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
    """Forms of file names: whole, without what all start or end with, without their last words."""
    start, end = os.path.commonprefix(stems), os.path.commonprefix([stem[::-1] for stem in stems])[::-1]
    start = re.match(rf".*[{re.escape(NAME_SEPARATORS)}]|.*[^\W\d](?=\d)|", start)[0]
    end = re.search(rf"[{re.escape(NAME_SEPARATORS)}].*|$", end)[0]
    whole = len(start) + len(end) >= min(map(len, stems))
    out = [""] + [f"{a}{{id}}{b}" for a, b in ((start, ""), ("", end), (start, end)) if a + b and not whole]
    words = min(stem.count("_") for stem in stems)
    return [*dict.fromkeys(out), *("{id}" + "_*" * count for count in range(1, min(words, CUT) + 1))]


def _views(bands: dict[str, set[str]], columns: list[list[list[str]]], masks: list[str]) -> bool:
    """Whether what may be channels are images of their own, such as views of one object: each has a mask, or, where
    there are no masks, a cell in a table."""
    known = Known.of({PurePosixPath(image.rstrip("_-")).name for image in bands})
    told = [form_of(cells, known) for table in columns for cells in table]
    told = [form_of(masks, known, files=True)] if masks else told
    return any(form and len(next(iter(bands.values())) & set(form.classes)) > 1 for form in told)


def _bands(pictures: list[str]) -> dict[str, set[str]]:
    """Image → how its files end, where all images have files of the same few endings; else nothing."""
    for split in (r"(?P<image>.*)/(?P<band>[^/]+)", r"(?P<image>.*[_-])(?P<band>[^/_-]+)"):
        bands = defaultdict(set)
        for name in pictures:
            found = re.fullmatch(split, str(PurePosixPath(name).with_suffix("")))
            if found:
                bands[found["image"]].add(found["band"])
        sets = {frozenset(own) for own in bands.values()}
        if len(sets) == 1 and len(bands) > 1 and 2 <= len(next(iter(sets))) <= BANDS:
            return bands
    return {}


def _red_green_blue(bands: dict[str, set[str]]) -> tuple[str, ...]:
    """How the names of red, green and blue end, as far as names tell."""
    here = {band.lower(): band for band in sorted(next(iter(bands.values()), ()))}
    usual = next((names for names in CHANNEL_NAMES if all(name.lower() in here for name in names)), None)
    return tuple(here[name.lower()] for name in usual) if usual else (*here.values(), *here.values())[:3]


def ids_of(pictures: list[str], template: str) -> dict[str, str]:
    """Image id → picture."""
    return {image_id_of(name, template): name for name in pictures}
