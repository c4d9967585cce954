"""The options of lib/config as text: a short table of some, and the reference of all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lib.config import Config
from lib.config.affects import STAGES, Affects
from lib.config.competition import Labels
from lib.config.section import Section
from lib.config.units import seconds

STAGE_WORDS = {
    "tiles": "01", "folds": "02", "member": "03 (training)", "score": "03 (scores)", "pseudo": "04",
    "clean": "04 --clean", "answer": "05", "report": "05 (report)",
}  # fmt: skip
TYPE_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


@dataclass(frozen=True)
class Option:
    """One option, by its dotted name; `stages`: words for the stages that it affects."""

    name: str
    kind: str
    default: str
    stages: str
    meaning: str


def every_option(section: type[Section] = Config, prefix: str = "", outer: tuple[Affects, ...] = ()) -> Iterator:
    """Sections, as (prefix, section, its options that are no sections), in the order of lib/config."""
    schema = section.model_json_schema()
    own, inner = [], []
    for name, field in section.model_fields.items():
        said = tuple(one for one in field.metadata if isinstance(one, Affects)) or outer
        kind = section_in(field)
        if kind:
            inner.append((kind, f"{prefix}{name}.", said))
        if kind is None or kind is not field.annotation:  # a list of sections is an option, too
            own.append(
                option_of(prefix + name, field, schema["properties"][name], said or (Affects(*section.affects),))
            )
    yield prefix.rstrip("."), section, own
    for kind, path, said in inner:
        if kind is not Labels or path == "competition.labels.":  # an external source has the same ones
            yield from every_option(kind, path, said)


def section_in(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, alone, in a list, or beside None."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def option_of(name: str, field: FieldInfo, schema: dict, affects: Sequence[Affects]) -> Option:
    timed = any(getattr(one, "func", None) is seconds for one in field.metadata)
    kind = "seconds, or a duration such as `25m`" if timed else type_words(schema)
    named = {stage for one in affects for stage in one.stages}
    stages = ", ".join(words for stage, words in STAGE_WORDS.items() if stage in named)
    return Option(name, kind, default_words(field.default), stages or "no stage", field.description or "")


def type_words(schema: dict) -> str:
    """A JSON schema in words.

    >>> type_words({"type": "number", "minimum": 0, "exclusiveMaximum": 1})
    'number, from 0, below 1'
    >>> type_words({"type": "array", "items": {"enum": ["a", "b"]}})
    'list of `a`, `b`'
    """
    if "anyOf" in schema:
        return " or ".join(type_words(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        items = schema.get("items") or next(iter(schema.get("prefixItems", [])), {})
        return f"list of {type_words(items)}"
    if schema.get("type") == "null":
        return "left out"
    words = TYPE_WORDS.get(schema.get("type", ""), "section" if "$ref" in schema else "mapping")
    bounds = [f"{word} {schema[key]}" for key, word in BOUNDS.items() if key in schema]
    return ", ".join([words, *bounds])


def default_words(value: object) -> str:
    """
    >>> default_words(""), default_words([42]), default_words(0.001), default_words(None)
    ('empty', '`[42]`', '`0.001`', 'left out')
    """
    if value is PydanticUndefined:
        return "none: it must be given"
    if value is None:
        return "left out"
    if value in ("", [], {}, ()):
        return "empty"
    value = list(value) if isinstance(value, tuple) else value
    return f"`{yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix('...' + chr(10)).strip()}`"


def summary(names: Sequence[str], up: str) -> list[dict[str, str]]:
    """Rows for some options, or for all of a section; `up`: from the page to docs/."""
    known = {option.name: option for _, _, own in every_option() for option in own}
    rows = []
    for name in names:
        found = [one for key, one in known.items() if key == name or key.startswith(f"{name}.")]
        if not found:
            raise ValueError(f"there is no option {name}")
        for option in found:
            link = f"[`{option.name}`]({up}reference/options.md#{anchor(option.name)})"
            rows.append({"option": link, "default": option.default, "meaning": first_sentence(option.meaning)})
    return rows


def anchor(name: str) -> str:
    """What both MkDocs and GitHub make of the heading of an option.

    >>> anchor("train.swa.start")
    'trainswastart'
    """
    return name.replace(".", "").lower()


def first_sentence(text: str) -> str:
    """
    >>> first_sentence("Sides, e.g. 1.5 and\\n2. Then more.")
    'Sides, e.g. 1.5 and 2.'
    """
    return re.split(r"(?<=[\w`)\]]\.) (?=[A-Z`])", " ".join(text.split()), maxsplit=1)[0]


def reference() -> str:
    """Every section and option."""
    parts = []
    for name, section, own in every_option():
        parts.append(f"## {f'`{name}`' if name else 'Outside of any section'}\n\n{' '.join(section.__doc__.split())}")
        for option in own:
            facts = f"Type: {option.kind}. Default: {option.default}. Affects: {option.stages}."
            parts.append(f"### `{option.name}`\n\n{facts}\n\n{' '.join(option.meaning.split())}".rstrip())
    return "\n\n".join(parts)


assert set(STAGE_WORDS) == set(STAGES)
