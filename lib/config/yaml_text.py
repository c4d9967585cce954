"""Reads YAML that users write. It refuses what PyYAML takes silently: keys that stand twice, aliases that explode."""

from __future__ import annotations

from pathlib import Path

import yaml

from lib.errors import UserError, reading

MOST_VALUES = 100_000  # of a document, each alias counted as all that it stands for


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses mappings that have a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        known: set[tuple[str, str]] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in known:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"{key.value!r} stands twice in one section, the second time in line {line}")
            known.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def read_options(path: Path) -> dict:
    """The mapping that a file holds, in UTF-8 or UTF-16. Raises UserError where it holds something else, or nothing."""
    with reading(path, "not valid YAML", "correct the file"):
        values = parse_yaml(path.read_bytes())
    if values is None:
        raise UserError(f"{path} is empty; write `section: …` lines, as the files in configs/ do")
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold `section: …` lines, found a {type(values).__name__}")
    return values


def parse_yaml(text: str | bytes) -> object:
    """The value of a YAML text. Raises errors of several kinds where it is none; see `lib.errors.reading`.

    >>> parse_yaml("{a: 1, b: [x, .inf]}")
    {'a': 1, 'b': ['x', inf]}
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values under a node, each alias counted as all that it stands for. `known`: of nodes that were counted before.

    A node that contains itself counts as more than are allowed.
    """
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # while it is counted: an alias of it would lead back here
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        pairs = isinstance(node, yaml.MappingNode)
        known[id(node)] = 1 + sum(
            _count(child, known) for entry in children for child in (entry if pairs else (entry,))
        )
    return known[id(node)]
