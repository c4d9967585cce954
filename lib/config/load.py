"""Defaults < YAML < command line, checked, with errors that name the option and its nearest legal name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lib.artifacts.read import damaged, read_yaml
from lib.artifacts.schemas import kind_of
from lib.config.command_line import advice, given_options, help_text
from lib.config.config import Config
from lib.config.fitted import with_fitted
from lib.config.old_names import REMOVED_VALUES, with_todays_names
from lib.config.rehearsal import rehearsal_options
from lib.config.section import flat, is_section
from lib.config.yaml_text import read_options
from lib.errors import UserError, shown
from lib.files import write_text

LARGEST = 2**53  # of whole numbers that floats hold exactly
LARGEST_FLOAT = 1e30  # what is computed with it in 32 bits must not overflow


def load(path: str | Path | None, arguments: list[str] = ()) -> Config:
    """Read a YAML file (None for pure defaults) and put `--key value ...` arguments over it.

    Ranges of channels that 01 fitted are filled in. Raises UserError, one sentence, on a missing file, an unknown key
    or a value of the wrong type.
    """
    values: dict = {}
    if path is not None:
        path = Path(path)
        if not path.is_file():
            raise UserError(f"there is no configuration file {path}; see configs/ for examples")
        values = read_options(path)
        _check_sections(values, Config, path)
        if isinstance(values.get("plugins"), list):  # relative to the YAML, not to the shell
            names = values["plugins"]
            values["plugins"] = [str(path.parent / name) if isinstance(name, str) else name for name in names]
    for key, value in given_options(list(arguments)).items():
        _put(values, key, value)
    config = _validate(values, path)
    if config.preflight or config.debug:
        for key, value in rehearsal_options(config, str(workspace_of(config))).items():
            _put(values, key, value)
        config = _validate(values, path)
    return with_fitted(config, workspace_of(config))


def workspace_of(config: Config) -> Path:
    """Folder of everything that is made for this competition."""
    return Path(config.workspace or f"work/{config.competition.name}")


def for_source(config: Config, source: str) -> Config:
    """The configuration for images of a source (column `source`): read so that things are as large as everywhere."""
    factor = {one.name: one.scale for one in config.competition.external}.get(source, 1.0)
    if factor == 1:
        return config
    return config.model_copy(
        update={
            name: getattr(config, name).model_copy(update={"scale": getattr(config, name).scale / factor})
            for name in ("preprocess", "infer")
        }
    )


def parse_command_line(argv: list[str], program: str) -> Config:
    """`[CONFIG.yaml] [--key value ...]` as every script takes it; `--help` prints all options and exits."""
    if "-h" in argv or "--help" in argv:
        print(f"usage: {program} [CONFIG.yaml] [--section.option value …]\n\n{help_text()}")
        raise SystemExit(0)
    path = None
    if argv and not argv[0].startswith("--"):
        path, argv = argv[0], argv[1:]
    return load(path or "configs/demo.yaml", argv)


def save(config: Config, path: str | Path) -> None:
    """Write all options as YAML. `saved_values` and `saved_config` read them, in this version and later ones."""
    text = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
    write_text(path, text)


def saved_values(path: Path) -> dict:
    """What `save` wrote, in this version or an earlier one: nested sections, by today's names. Nothing is checked but
    that it can be read.
    """
    return with_todays_names(read_yaml(path))


def _whole_values(path: Path) -> dict:
    """`saved_values`. Raises UserError where the end of the file is missing, for half of it may be valid YAML, too."""
    values = saved_values(path)
    if "workspace" not in values:  # one of the last options
        raise damaged(path, "it lacks workspace, so its end is missing", kind_of(path).remedy)
    return values


def saved_sections(path: Path, names: tuple[str, ...]) -> dict[str, BaseModel]:
    """Some sections of what `save` wrote. Raises UserError where an option in them is gone, or its value is."""
    values, sections = _whole_values(path), {}
    for name in names:
        try:
            sections[name] = Config.model_fields[name].annotation.model_validate(values[name])
        except KeyError:
            raise damaged(path, f"it lacks the section {name}", kind_of(path).remedy) from None
        except ValidationError as problem:
            raise UserError(f"{path}: {option_error(problem, name)}; {kind_of(path).remedy}") from None
    return sections


def saved_config(path: Path, arguments: list[str] = ()) -> Config:
    """What `save` wrote, in this version or an earlier one, with `--key value ...` arguments over it.

    Raises UserError where a value is no longer legal.
    """
    values = _whole_values(path)
    for key, value in given_options(list(arguments)).items():
        _put(values, key, value)
    return _validate(values, path, f"; {kind_of(path).remedy}")


def _check_sections(values: dict, section: type[BaseModel], path: Path, prefix: str = "") -> None:
    """Raises UserError where a section of the YAML holds one value in place of its options. One without options stays
    at its defaults.
    """
    for name, field in section.model_fields.items():
        if name not in values or not is_section(field.annotation):
            continue
        if values[name] is None:
            values[name] = {}
        if not isinstance(values[name], dict):
            first = next(iter(field.annotation.model_fields))
            raise UserError(
                f"{path}: {prefix}{name} is a section and must hold `option: value` lines, such as `{first}: …`; found "
                f"{shown(values[name])}"
            )
        _check_sections(values[name], field.annotation, path, f"{prefix}{name}.")


def _put(values: dict, key: str, value: object) -> None:
    """Set an option by its dotted name."""
    *parents, last = key.split(".")
    for part in parents:
        if values.get(part) is None:  # a section without options too
            values[part] = {}
        values = values[part]
    values[last] = value


def _validate(values: dict, path: Path | None, remedy: str = "") -> Config:
    where = f"{path}: " if path else ""
    try:
        config = Config.model_validate(values)
        _check_values(config, where)
        return config
    except ValidationError as problem:
        raise UserError(f"{where}{option_error(problem)}{remedy}") from None


def option_error(problem: ValidationError, *section: str) -> str:
    """What is wrong with an option, in words. `section`: which one was validated, where it was not the whole."""
    errors = problem.errors()
    error, option = errors[0], _option((*section, *errors[0]["loc"]))
    key = ".".join(str(part) for part in option)
    found = f"found {shown(error['input'])}"
    if reason := REMOVED_VALUES.get((key, str(error["input"]))):
        return f"{key}: {found}; {reason}"
    if error["type"] == "extra_forbidden":
        return f"unknown key {key}; {advice(key)}"
    if error["type"] == "value_error":
        of_section = isinstance(error["input"], dict)  # its message names the keys
        return f"{'' if of_section else f'{key}: '}{error['ctx']['error']}"
    expected = [_expected(other) for other in errors if _option((*section, *other["loc"])) == option]
    return f"{key}: {found}; {' or '.join(expected)}"


def _expected(error: ErrorDetails) -> str:
    """What pydantic says that a value should be, without why it could not be read.

    >>> _expected({"type": "int_parsing", "msg": "Input should be a valid integer, unable to parse string"})
    'input should be a valid integer'
    """
    if error["type"].startswith("bool"):
        return "input should be true or false"
    message = error["msg"].split(", unable to")[0]
    return message[0].lower() + message[1:]


def _check_values(config: Config, where: str) -> None:
    """Raises UserError for numbers that numpy and torch cannot hold, and for texts that no system takes as a path."""
    for key, option in flat(config).items():
        for value in _single_values(option):
            if isinstance(value, int) and abs(value) > LARGEST:
                raise UserError(f"{where}{key}: found a number of {len(str(value))} digits; numbers go up to {LARGEST}")
            if isinstance(value, float) and abs(value) > LARGEST_FLOAT:
                raise UserError(f"{where}{key}: found {value:g}; numbers go up to {LARGEST_FLOAT:g}")
            if isinstance(value, str) and "\0" in value:
                raise UserError(f"{where}{key}: found {shown(value)}, which holds a zero byte; remove it")


def _single_values(value: object) -> Iterator[object]:
    """The values in lists, maps and sections, keys too; another value itself."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if not isinstance(value, list | tuple):
        yield value
        return
    for inner in value:
        yield from _single_values(inner)


def _option(place: tuple) -> tuple:
    """Where in the configuration an error is, without the kind that was tried of an option of several kinds."""
    section = Config
    for i, part in enumerate(place):
        field = getattr(section, "model_fields", {}).get(part)
        section = field.annotation if field else None
        if get_origin(section) in (list, tuple) and i + 1 < len(place):  # of its items
            section = get_args(section)[0]
            if get_origin(section) in (Union, UnionType):
                return place[: i + 2]
        if get_origin(section) in (Union, UnionType):
            return place[: i + 1]
    return place


def print_option(key: str, config: Config) -> None:
    """Raises UserError when there is no such option."""
    options = flat(config)
    if key not in options:
        raise UserError(f"there is no option {key}")
    print(options[key])
