"""Defaults < YAML < command line, checked, with errors that name the key and its nearest legal name."""

from __future__ import annotations

import difflib
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from lib.config.config import Config
from lib.errors import UserError
from lib.files import write_text

# What `debug` and `preflight` put over the user's own values. The few images that are picked are split anew, each a
# group of its own: the real groups and folds may need more images (lib/data/split_check.py checks these).
SLIVER = {
    "folds.scheme": "kfold",
    "folds.k": 2,
    "folds.group_column": "",
    "folds.group_regex": "",
    "folds.stratify_column": "",
    "folds.leak_check": False,
    "train.seeds": [42],
    "train.folds": [],
    "train.epochs": 2,
    "train.member_limit": 0,
    "train.time_limit": 0,
    "clean.use": False,
    "infer.experiments": [],
    "train.evaluations": 0,
    "train.sampling.samples_per_epoch": 48,
    "train.sampling.difficulty": "",
    "preprocess.max_images": 4,
    "train.swa.start": 0.5,
    "train.swa.bn_batches": 2,
    "infer.tta": "none",
    "infer.time_limit": 0,
    "infer.overlap": 0.0,
    "report.pictures": 1,
}
DROP = {
    **SLIVER,
    "train.epochs": 1,
    "train.swa.every": 0.5,
    "preprocess.max_images": 2,
    "infer.folds": "each",
}


def load(path: str | Path | None, arguments: list[str] = ()) -> Config:
    """Read a YAML file (None for pure defaults) and put `--key value …` arguments over it.

    Raises UserError, one sentence, on a missing file, an unknown key or a value of the wrong type.
    """
    values: dict = {}
    if path is not None:
        path = Path(path)
        if not path.is_file():
            raise UserError(f"there is no configuration file {path}; see configs/ for examples")
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise UserError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise UserError(f"{path} must hold `section: …` lines, found a {type(values).__name__}")
        _check_sections(values, Config, path)
        if isinstance(values.get("plugins"), list):  # relative to the YAML, not to the shell
            values["plugins"] = [str(path.parent / str(name)) for name in values["plugins"]]
    for key, texts in _flags(list(arguments)).items():
        _put(values, key, _value_of(key, texts))
    config = _validate(values, path)
    if config.preflight or config.debug:
        for key, value in (DROP if config.preflight else SLIVER).items():
            _put(values, key, value)
        if "all" in config.train.folds:
            _put(values, "train.folds", ["all"] if config.train.folds == ["all"] else [0, "all"])
            if config.train.folds == ["all"]:
                _put(values, "infer.folds", config.infer.folds)  # no fold has a member
        if config.preflight:
            _put(values, "train.sampling.samples_per_epoch", config.train.batch_size or 8)
        if {"epochs", "mean", "soup"} & set(config.infer.checkpoints):
            _put(values, "train.checkpoints", max(2, config.train.checkpoints))
        if config.pseudo.confidence == "agreement":
            _put(values, "infer.tta", "hflip")  # votes to compare
        if config.infer.roi == "coarse":
            _put(values, "infer.roi", "content")
        if config.infer.window == "auto":
            _put(values, "infer.window", 0)
        if config.train.schedule == "plateau":
            _put(values, "train.evaluations", 2)
        _put(values, "pseudo.rounds", min(1, config.pseudo.rounds))
        suffix = "-preflight" if config.preflight else "-debug"
        _put(values, "workspace", str(workspace_of(config)) + suffix)
        config = _validate(values, path)
    return config


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
    """`[CONFIG.yaml] [--key value …]` as every script takes it; `--help` prints all options and exits."""
    if "-h" in argv or "--help" in argv:
        print(f"usage: {program} [CONFIG.yaml] [--section.option value …]\n\n{help_text()}")
        raise SystemExit(0)
    path = None
    if argv and not argv[0].startswith("--"):
        path, argv = argv[0], argv[1:]
    return load(path or "configs/demo.yaml", argv)


def save(config: Config, path: str | Path) -> None:
    """Write the resolved configuration as YAML."""
    text = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
    write_text(path, text)


def flat(section: BaseModel, prefix: str = "") -> dict[str, object]:
    """All options as one dictionary with dotted keys.

    >>> flat(Config())["pseudo.source"]
    'per_fold'
    """
    out: dict[str, object] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            out.update(flat(value, f"{prefix}{name}."))
        else:
            out[prefix + name] = value
    return out


def help_text(section: type[BaseModel] = Config, prefix: str = "--") -> str:
    """Every option with its type, default and meaning, one paragraph each."""
    lines = []
    for name, field in section.model_fields.items():
        if _is_section(field.annotation):
            lines.append(help_text(field.annotation, f"{prefix}{name}."))
            continue
        meaning = " ".join((field.description or "").split())
        lines.append(f"{prefix}{name} (default {field.default!r})\n    {meaning}".rstrip())
    return "\n".join(lines)


def _flags(arguments: list[str]) -> dict[str, list[str]]:
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
    """The text(s) after a flag, as YAML would read them; lists take several, `--debug` takes none."""
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
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--{key}: {text!r} cannot be read; expected something like [a, b] or {{a: 1}}") from None


def _annotation(key: str) -> object:
    section, annotation = Config, Config
    for part in key.split("."):
        fields = getattr(section, "model_fields", {})
        if part not in fields:
            raise UserError(f"unknown option --{key}; {_nearest(key)}")
        section = annotation = fields[part].annotation
    if _is_section(annotation):
        raise UserError(f"--{key} is a section; name one of its options, {_nearest(key)}")
    return annotation


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _nearest(key: str) -> str:
    legal = list(flat(Config()))
    close = difflib.get_close_matches(key, legal, n=1, cutoff=0.0)
    # A right word in the wrong section is the commonest slip.
    same_word = [name for name in legal if name.split(".")[-1] == key.split(".")[-1]]
    return f"the nearest legal name is {(same_word or close)[0]}"


def _check_sections(values: dict, section: type[BaseModel], path: Path, prefix: str = "") -> None:
    """Raises UserError where a section of the YAML holds one value in place of its options. One without options stays
    at its defaults.
    """
    for name, field in section.model_fields.items():
        if name not in values or not _is_section(field.annotation):
            continue
        if values[name] is None:
            values[name] = {}
        if not isinstance(values[name], dict):
            first = next(iter(field.annotation.model_fields))
            raise UserError(
                f"{path}: {prefix}{name} is a section and must hold `option: value` lines, such as `{first}: …`; found "
                f"{values[name]!r}"
            )
        _check_sections(values[name], field.annotation, path, f"{prefix}{name}.")


def _put(values: dict, key: str, value: object) -> None:
    *parents, last = key.split(".")
    for part in parents:
        if values.get(part) is None:  # a section without options too
            values[part] = {}
        values = values[part]
    values[last] = value


def _validate(values: dict, path: Path | None) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as problem:
        errors = problem.errors()
    error, option = errors[0], _option(errors[0]["loc"])
    key = ".".join(str(part) for part in option)
    where = f"{path}: " if path else ""
    found = f"found {error['input']!r}"
    if error["type"] == "extra_forbidden":
        raise UserError(f"{where}unknown key {key}; {_nearest(key)}")
    if error["type"] == "value_error":
        of_section = isinstance(error["input"], dict)  # its message names the keys
        raise UserError(f"{where}{'' if of_section else f'{key}: '}{error['ctx']['error']}")
    messages = [other["msg"] for other in errors if _option(other["loc"]) == option]
    raise UserError(f"{where}{key}: {found}; {' or '.join(message[0].lower() + message[1:] for message in messages)}")


def _option(place: tuple) -> tuple:
    """Where in the configuration an error is, without the kind that was tried of an option of several kinds."""
    section = Config
    for i, part in enumerate(place):
        field = getattr(section, "model_fields", {}).get(part)
        section = field.annotation if field else None
        if get_origin(section) is list and i + 1 < len(place):  # of its items
            section = get_args(section)[0]
            if get_origin(section) in (Union, UnionType):
                return place[: i + 2]
        if get_origin(section) in (Union, UnionType):
            return place[: i + 1]
    return place
