"""Templates such as `{id}.jpg_{class}`: how files and CSV cells name an image and a class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from lib.errors import UserError
from lib.organiser_text import readings, same_form

HOLES = re.compile(r"(\{id\}|\{path\}|\{number(?::0?\d+)?\}|\{class\}|\*)")
WILD = re.compile(r"[*?[{]")  # a wildcard of a glob


def pattern(template: str, classes: list[str]) -> re.Pattern:
    """A regular expression with the groups `name` (the class), `number`, and `id`, `id1`, … (the parts of the id).

    >>> pattern("{id}.jpg_{class}", ["1", "2"]).fullmatch("a_3.jpg_2").groupdict()
    {'id': 'a_3', 'name': '2'}
    """
    known = "|".join(map(re.escape, sorted(classes, key=len, reverse=True)))  # `_` may be part of a name
    expression, parts = "", 0
    for part in HOLES.split(template):
        if part == "{id}":
            expression += f"(?P<id{parts or ''}>[^/]+)"
            parts += 1
        elif part == "{class}":
            expression += "(?P=name)" if "<name>" in expression else f"(?P<name>{known or '[^/]+'})"
        elif part.startswith("{number"):
            expression += "(?P=number)" if "<number>" in expression else r"(?P<number>\d+)"
        else:
            expression += "[^/]*" if part == "*" else re.escape(part)
    return re.compile(expression)


def joined(match: re.Match) -> str:
    """The id in a match of `pattern`: its parts, joined by `_`.

    >>> joined(pattern("{id}/labels/{id}.tif", []).fullmatch("kidney_1/labels/0007.tif"))
    'kidney_1_0007'
    """
    return "_".join(text for name, text in match.groupdict().items() if name.startswith("id"))


@dataclass(frozen=True)
class Reading:
    """One way to read a text: what each hole of the template holds. `wild`: the number of letters that `*` holds."""

    ids: tuple[str, ...] = ()
    path: str = ""
    number: str = ""
    name: str = ""
    wild: int = 0

    def with_part(self, hole: str, text: str, classes: Collection[str]) -> Reading | None:
        """This reading with the text of another hole; None where the hole cannot hold the text."""
        if hole == "{path}":
            return replace(self, path=text) if text and self.path in ("", text) else None
        if "/" in text or not (text or hole == "*"):
            return None
        if hole == "{id}":
            return replace(self, ids=(*self.ids, text))
        if hole == "{class}":
            legal = (not classes or text in classes) and self.name in ("", text)
            return replace(self, name=text) if legal else None
        if hole == "*":
            return replace(self, wild=self.wild + len(text))
        legal = text.isdecimal() and (not self.number or int(self.number) == int(text))
        return replace(self, number=text) if legal else None


def ways_to_read(text: str, template: str, classes: Collection[str]) -> Iterator[Reading]:
    """All ways to read a text: `a_large_bowel` as `{id}_{class}` is `a` and `large_bowel`, or `a_large` and `bowel`.

    >>> [(way.ids, way.name) for way in ways_to_read("a_b_c", "{id}_{class}", ["c", "b_c"])]
    [(('a',), 'b_c'), (('a_b',), 'c')]
    """
    literal, *parts = HOLES.split(template)
    if text.startswith(literal):
        yield from _ways(text, len(literal), parts, Reading(), classes)


def _ways(text: str, start: int, parts: list[str], reading: Reading, classes: Collection[str]) -> Iterator[Reading]:
    """All ways to complete a reading. `parts`: of the template, for the text from `start` on: hole, literal, hole, …"""
    if not parts:
        if start == len(text):
            yield reading
        return
    hole, literal, *later = parts
    for end in _ends(text, start, literal, last=not later):
        longer = reading.with_part(hole, text[start:end], classes)
        if longer:
            yield from _ways(text, end + len(literal), later, longer, classes)


def _ends(text: str, start: int, literal: str, last: bool) -> Iterator[int]:
    """Where a hole's text may end: before each `literal`. `last`: the literal ends the template, and so the text."""
    if last:
        end = len(text) - len(literal)
        if end >= start and text.endswith(literal):
            yield end
        return
    end = text.find(literal, start)
    while end >= 0:
        yield end
        end = text.find(literal, end + 1)


class Names:
    """Reads texts that a template describes. Where a text can be read in two ways, the image that exists decides.

    `classes`: legal names; empty for any. `known_ids`: of the images that exist. `id_of_path`: the id of an image from
    the text of `{path}`. Raises UserError where the template has a number that two images share.

    >>> Names("{number}.png", [], {"007", "b12"}).read("7.png")
    ('007', '')
    >>> Names("{id}_{class}", ["bowel", "large_bowel"], {"a"}).read("a_large_bowel")
    ('a', 'large_bowel')
    """

    def __init__(
        self,
        template: str,
        classes: Collection[str],
        known_ids: Collection[str],
        id_of_path: Callable[[str], str] = lambda path: path.replace("/", "_"),
    ):
        self.template, self.classes, self.known, self.id_of_path = template, frozenset(classes), known_ids, id_of_path
        self.by_number: dict[int, str] = {}
        if "{number" not in template:
            return
        numbered = {image_id: last_number(image_id) for image_id in known_ids}
        twice = [number for number, count in Counter(numbered.values()).items() if count > 1 and number is not None]
        if twice:
            one, other = sorted(i for i, number in numbered.items() if number == twice[0])[:2]
            raise UserError(f"{template} names two images by {twice[0]}: {one!r} and {other!r}; use {{id}} in it")
        self.by_number = {number: image_id for image_id, number in numbered.items() if number is not None}

    def read(self, text: str) -> tuple[str, str] | None:
        """(image id, class or ""); None for a text that the template does not describe.

        A number that no image has is returned as text. Raises UserError for a text that names two existing images, or
        two classes of one.
        """
        for spelling in dict.fromkeys([same_form(text), PureWindowsPath(same_form(text)).as_posix()]):
            ways = {(self._id_of(way), way.name): way for way in ways_to_read(spelling, self.template, self.classes)}
            if ways:
                return self._chosen(text, ways)
        return None

    def _chosen(self, text: str, ways: dict[tuple[str, str], Reading]) -> tuple[str, str]:
        known = [named for named in ways if named[0] in self.known]
        # `*` takes as few letters as possible, and a class as many as possible.
        best = sorted(known or ways, key=lambda named: (ways[named].wild, -len(named[1])))
        if len(known) > 1 and ways[best[0]].wild == ways[best[1]].wild:
            one, other = (f"{image_id!r}" + f" and the class {name!r}" * bool(name) for image_id, name in best[:2])
            raise UserError(
                f"{text!r} can be read as {self.template} in two ways: as {one}, and as {other}; rename the images or "
                "the classes, or name the class in a separate column or folder"
            )
        return best[0]

    def _id_of(self, way: Reading) -> str:
        if way.path:
            return self.id_of_path(way.path)
        return self.by_number.get(int(way.number), way.number) if way.number else "_".join(way.ids)


def fixed_part(pattern: str) -> PurePosixPath:
    """The folders of a glob before its first wildcard.

    >>> fixed_part("data/batch_*/*.jpg"), fixed_part("test/a.png")
    (PurePosixPath('data'), PurePosixPath('test'))
    """
    parts = PurePosixPath(pattern).parts[:-1]
    wild = next((i for i, part in enumerate(parts) if WILD.search(part)), len(parts))
    return PurePosixPath(*parts[:wild])


def path_below(path: Path, root: Path, pattern: str) -> str:
    """The text of `{path}`: the path of an image below the fixed part of the `pattern` that matches it, without suffix.

    >>> path_below(Path("in/data/batch_01/0003.jpg"), Path("in"), "data/batch_*/*.jpg")
    'batch_01/0003'
    """
    below = path.relative_to(root / fixed_part(pattern))
    return same_form((below.parent / below.stem).as_posix())


def ids_by_path(pattern: str, image_ids: str) -> Callable[[str], str]:
    """The inverse of `path_below`: a function from the text of `{path}` to the image's id (`competition.image_ids`).

    It returns the text itself where this is not the path of an image.

    >>> ids_by_path("data/batch_*/*.jpg", "{id}/{id}")("batch_01/0003")
    'batch_01_0003'
    """

    def id_of(path: str) -> str:
        try:
            return image_id_of(f"{fixed_part(pattern) / path}.x", image_ids)
        except UserError:
            return path

    return id_of


def last_number(image_id: str) -> int | None:
    """The last whole number in an id; None where it has none.

    >>> last_number("case2_slice_0010")
    10
    """
    numbers = re.findall(r"\d+", image_id)
    return int(numbers[-1]) if numbers else None


def image_id_of(path: str | Path, template: str) -> str:
    """The id of an image from the end of its path. `template`: `competition.image_ids`, which may be empty.

    Raises UserError where the path does not fit the template.

    >>> image_id_of("train/case1/case1_day0/scans/slice_0001_266.png", "{id}/scans/{id}_*")
    'case1_day0_slice_0001'
    >>> image_id_of("train/a 1.b.JPG", "")
    'a 1.b'
    """
    path = Path(same_form(str(path)))
    if not template:
        return path.stem
    end = "/".join([*path.parts[:-1], path.stem][-1 - template.count("/") :])
    match = _pattern(template).fullmatch(end)
    if not match:
        raise UserError(f"the image {path} is not named like competition.image_ids, {template}; correct the option")
    return joined(match)


def written_id(name: str, template: str, known_ids: set[str]) -> str:
    """The id of an image that a list or a JSON names: the first of the name's `readings` that is a known id.

    Where none is known, the id of the name as it stands.

    >>> written_id("C:\\data\\im%2000.PNG", "", {"im 00"})
    'im 00'
    """
    for reading in readings(name):
        try:
            image_id = image_id_of(reading, template)
        except UserError:
            continue
        if image_id in known_ids:
            return image_id
    return image_id_of(name, template)


@lru_cache(maxsize=8)
def _pattern(template: str) -> re.Pattern:
    return pattern(template, [])
