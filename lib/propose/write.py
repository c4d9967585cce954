"""Choices as a YAML with a comment on each."""

from __future__ import annotations

import yaml

from lib.propose.found import OptionChoice

COMMENT = 40  # column where comments start
WIDEST = 60  # longer lines have theirs above


def text_of(title: str, choices: list[OptionChoice]) -> str:
    """The YAML: sections in the order in which they first occur.

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
        here = tree
        for parent in parents:
            here = here.setdefault(parent, {})
        here[last] = choice
    return "\n".join([f"# {line}" for line in title.splitlines()] + list(_lines(tree, 0))) + "\n"


def _lines(tree: dict, depth: int):
    for key, value in tree.items():
        start = "  " * depth + f"{key}:"
        if isinstance(value, dict):
            yield start
            yield from _lines(value, depth + 1)
            continue
        text = f"{start} {_scalar(value.value)}"
        if value.why and len(text) > WIDEST:
            yield f"{'  ' * depth}# {value.why}"
            value = OptionChoice(value.key, value.value)
        yield f"{text:<{COMMENT}} # {value.why}" if value.why else text


def _scalar(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
