"""Texts such as `{id}.jpg_{class}`: how files and CSV cells name an image and a class."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from lib.competition.texts import readings, same_form
from lib.errors import UserError

HOLES = re.compile(r"(\{id\}|\{number(?::0?\d+)?\}|\{class\}|\*)")


def pattern(template: str, classes: list[str]) -> re.Pattern:
    """A regular expression of which group `name` is the class, `number` the number, `id`, `id1`, … the parts of the id.

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
            expression += f"(?P<name>{known or '[^/]+'})"
        elif part.startswith("{number"):
            expression += r"(?P<number>\d+)"
        else:
            expression += "[^/]*" if part == "*" else re.escape(part)
    return re.compile(expression)


def joined(found: re.Match) -> str:
    """The id of a match: its parts, joined by `_`.

    >>> joined(pattern("{id}/labels/{id}.tif", []).fullmatch("kidney_1/labels/0007.tif"))
    'kidney_1_0007'
    """
    return "_".join(text for name, text in found.groupdict().items() if name.startswith("id"))


class Names:
    """What texts in the form of a template name.

    >>> Names("{number}.png", [], {"007", "b12"}).read("7.png")
    ('007', '')
    """

    def __init__(self, template: str, classes: list[str], known_ids: set[str]):
        """Raises UserError when the template asks for a number, and two images share one."""
        self.pattern = pattern(template, classes)
        self.by_number: dict[int, str] = {}
        if "{number" not in template:
            return
        numbered = {image_id: last_number(image_id) for image_id in known_ids}
        twice = [number for number, count in Counter(numbered.values()).items() if count > 1 and number is not None]
        if twice:
            one, other = sorted(i for i, number in numbered.items() if number == twice[0])[:2]
            raise UserError(f"{template} names two images with {twice[0]}, {one!r} and {other!r}; use {{id}} in it")
        self.by_number = {number: image_id for image_id, number in numbered.items() if number is not None}

    def read(self, text: str) -> tuple[str, str] | None:
        """(image id, class or ""); None for a text of another form. A number that no image has stays a text."""
        texts = [same_form(text), PureWindowsPath(same_form(text)).as_posix()]
        found = next((match for one in texts if (match := self.pattern.fullmatch(one))), None)
        if not found:
            return None
        groups = found.groupdict()
        number = groups.get("number")
        image_id = joined(found) if number is None else self.by_number.get(int(number), number)
        return image_id, groups.get("name") or ""


def last_number(image_id: str) -> int | None:
    """The last whole number in an id.

    >>> last_number("case2_slice_0010")
    10
    """
    numbers = re.findall(r"\d+", image_id)
    return int(numbers[-1]) if numbers else None


def image_id_of(path: str | Path, template: str) -> str:
    """The id of an image from the end of its path, as `competition.image_ids` says. Raises UserError when it cannot.

    >>> image_id_of("train/case1/case1_day0/scans/slice_0001_266.png", "{id}/scans/{id}_*")
    'case1_day0_slice_0001'
    >>> image_id_of("train/a 1.b.JPG", "")
    'a 1.b'
    """
    path = Path(same_form(str(path)))
    if not template:
        return path.stem
    end = "/".join([*path.parts[:-1], path.stem][-1 - template.count("/") :])
    found = _pattern(template).fullmatch(end)
    if not found:
        raise UserError(f"the image {path} is not named like competition.image_ids, {template}; mend the option")
    return joined(found)


def written_id(name: str, template: str, known_ids: set[str]) -> str:
    """The id of an image that a list or a JSON names in its own way (`readings`); of none that is known, its plain id.

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
