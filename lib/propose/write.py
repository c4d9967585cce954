"""Writes choices as a YAML with a comment on each."""

from __future__ import annotations

import yaml

from lib.errors import one_line
from lib.propose.found import OptionChoice

COMMENT_COLUMN = 40  # where comments start
MAX_WIDTH = 60  # the comment of a longer line stands above it


def text_of(title: str, choices: list[OptionChoice]) -> str:
    """The YAML text. Sections stand in the order in which they first occur. `title`: a comment at the top.

    >>> print(text_of("Found.", [OptionChoice("a.b", 1, "why"), OptionChoice("a.c.d", [2]), OptionChoice("e", "x: y")]))
    # Found.
    a:
      b: 1                                   # why
      c:
        d: [2]
    e: 'x: y'
    <BLANKLINE>
    """
    tree: dict = {}
    for choice in choices:
        *parents, last = choice.key.split(".")
        section = tree
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = choice
    text = "\n".join([f"# {line}" for line in title.splitlines()] + list(_lines(tree, 0))) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()  # names of files may be no text at all


def _lines(tree: dict, depth: int):
    for key, value in tree.items():
        start = "  " * depth + f"{key}:"
        if isinstance(value, dict):
            yield start
            yield from _lines(value, depth + 1)
            continue
        text, why = f"{start} {_scalar(value.value)}", one_line(value.why)
        if why and len(text) > MAX_WIDTH:
            yield f"{'  ' * depth}# {why}"
            yield text
        else:
            yield f"{text:<{COMMENT_COLUMN}} # {why}" if why else text


def _scalar(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
