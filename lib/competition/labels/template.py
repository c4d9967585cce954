"""Texts such as `{id}.jpg_{class}`: how files and CSV cells name an image and a class."""

from __future__ import annotations

import re

PARTS = {"{id}": "(?P<id>.+)", "{class}": "(?P<name>[^/]+)", "*": "[^/]*"}


def pattern(template: str, classes: list[str]) -> re.Pattern:
    """A regular expression whose groups `id` and, where the template has it, `name` are an image and its class.

    >>> pattern("{id}.jpg_{class}", ["1", "2"]).fullmatch("a_3.jpg_2").groupdict()
    {'id': 'a_3', 'name': '2'}
    """
    parts = re.split(r"(\{id\}|\{class\}|\*)", template)
    known = "|".join(map(re.escape, sorted(classes, key=len, reverse=True)))  # `_` may be part of a name
    expression = "".join(PARTS.get(part, re.escape(part)) for part in parts)
    return re.compile(expression.replace(PARTS["{class}"], f"(?P<name>{known})") if known else expression)
