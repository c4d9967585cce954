"""Options on the command line: `--section.option value ...`, and the text of `--help`."""

from __future__ import annotations

from typing import get_origin

from pydantic import BaseModel

from lib.config.config import Config
from lib.config.old_names import explained
from lib.config.section import flat, is_section
from lib.config.yaml_text import parse_yaml
from lib.errors import UserError, reason_of, shown


def given_options(arguments: list[str]) -> dict[str, object]:
    """Dotted name -> value of every option in `arguments`.

    Of an option that stands there twice, the last one counts, so that a script can add its own after the user's.
    Raises UserError for an unknown option, a missing value and a text that cannot be read.

    >>> given_options(["--train.epochs", "3", "--train.folds", "0", "1", "--debug"])
    {'train.epochs': '3', 'train.folds': ['0', '1'], 'debug': True}
    """
    return {key: _value_of(key, texts) for key, texts in _flags(arguments).items()}


def help_text(section: type[BaseModel] = Config, prefix: str = "--") -> str:
    """Every option with its default and meaning, one paragraph each."""
    lines = []
    for name, field in section.model_fields.items():
        if is_section(field.annotation):
            lines.append(help_text(field.annotation, f"{prefix}{name}."))
            continue
        meaning = " ".join((field.description or "").split())
        lines.append(f"{prefix}{name} (default {field.default!r})\n    {meaning}".rstrip())
    return "\n".join(lines)


def advice(key: str) -> str:
    """What a user who wrote the unknown option `key` should write."""
    return explained(key, list(flat(Config())))


def _flags(arguments: list[str]) -> dict[str, list[str]]:
    """Dotted name -> the texts after it."""
    flags: dict[str, list[str]] = {}
    key = None
    for token in arguments:
        if token.startswith("--"):
            key, equals, value = token[2:].partition("=")
            key = key.replace("-", "_")
            flags[key] = [value] if equals else []
        elif key is None:
            raise UserError(f"expected an option such as --train.epochs, found {token!r}")
        else:
            flags[key].append(token)
    return flags


def _value_of(key: str, texts: list[str]) -> object:
    """The texts after an option, as YAML would read them. Lists take several, and `--debug` takes none."""
    annotation = _annotation(key)
    if get_origin(annotation) in (list, tuple):
        if len(texts) == 1 and texts[0].startswith("["):
            return _parsed(key, texts[0])
        return texts
    if not texts and annotation is bool:
        return True
    if len(texts) != 1:
        raise UserError(f"--{key} takes one value, found {len(texts)}: {' '.join(texts) or '(none)'}")
    return _parsed(key, texts[0]) if dict in (annotation, get_origin(annotation)) else texts[0]


def _parsed(key: str, text: str) -> object:
    try:
        return parse_yaml(text)
    except Exception as error:  # PyYAML raises many kinds
        raise UserError(
            f"--{key}: {shown(text)} cannot be read ({reason_of(error)}); expected something like [a, b] or {{a: 1}}"
        ) from None


def _annotation(key: str) -> object:
    """The type of an option, by its dotted name."""
    section, annotation = Config, Config
    for part in key.split("."):
        fields = getattr(section, "model_fields", {})
        if part not in fields:
            raise UserError(f"unknown option --{key}; {advice(key)}")
        section = annotation = fields[part].annotation
    if is_section(annotation):
        raise UserError(f"--{key} is a section; name one of its options, {advice(key)}")
    return annotation
