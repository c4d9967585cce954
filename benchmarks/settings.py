"""A setting of a benchmark: a competition's YAML, the options after `--`, and where its trials live."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from lib import tables
from lib.config import Config, flat, load
from lib.config.load import workspace_of
from lib.config.old_names import OLD_NAMES
from lib.workspace import Workspace, short_hash

REPOSITORY = Path(__file__).resolve().parents[1]
WORK = REPOSITORY / "work/trials"
CLOCK = "train.member_limit"  # the option that gives a member its seconds of training
# What a trial sets itself, or what changes no score: not part of a setting's hash.
OUTSIDE = {CLOCK, "train.time_limit", "train.evaluations", "train.folds", "train.seeds",
           "competition.root", "workspace", "jobs", "train.workers"}  # fmt: skip
# A hash holds an option by its first name, so that results from before a renaming are found.
FIRST_NAMES = {today: old for old, today in OLD_NAMES.items()}

Options = dict[str, str]
"""Option -> its value as on the command line. A list is written as `[a, b]`."""
Values = dict[str, str | Callable[[Config], str]]
"""Option -> its value, or a function that makes the value from the competition's own configuration."""


def values_for(config: Config, values: Values) -> Options:
    """The options of `values` for a competition with the configuration `config`."""
    return {key: value if isinstance(value, str) else value(config) for key, value in values.items()}


def trained_side(config: Config) -> int:
    """Pixels of the side of the images that a network is trained on."""
    return config.train.crop or config.preprocess.tile_size


def cross_entropy(config: Config) -> str:
    """The name of the loss: `bce` for one class, `ce` for several."""
    return "bce" if len(config.competition.classes) == 1 else "ce"


@dataclass(frozen=True)
class Setting:
    """A competition's YAML (`path`), the options after `--` (`given`), and the organiser's folder (`root`)."""

    path: Path
    given: tuple[str, ...]
    root: Path
    name: str

    @staticmethod
    def of(path: str, given: Sequence[str]) -> Setting:
        """A setting. Paths in the command line are relative to the shell's folder, those in YAML to the repository."""
        config = load(path, list(given))
        typed = any(word.split("=")[0] == "--competition.root" for word in given)
        root = (Path.cwd() if typed else REPOSITORY) / config.competition.root
        return Setting(Path(path).resolve(), tuple(given), root.resolve(), config.competition.name)

    def flags(self, options: Options, workspace: str = "") -> list[str]:
        """The command line of a script. `workspace`: a name, for trials that cut their own tiles."""
        folder = WORK / (f"{self.name}--{workspace}" if workspace else self.name)
        options = {**options, "competition.root": str(self.root), "workspace": str(folder)}
        return [str(self.path), *self.given, *(word for key, value in options.items() for word in (f"--{key}", value))]

    def own_flags(self) -> list[str]:
        """The command line of a script in the competition's own workspace."""
        return [str(self.path), *self.given, "--competition.root", str(self.root)]

    def own_config(self, *more: str) -> Config:
        """The configuration of `own_flags`, and `more` words of a command line."""
        path, *flags = self.own_flags()
        return load(path, [*flags, *more])

    def config(self, options: Options | None = None, workspace: str = "") -> Config:
        """The configuration with `options`. Raises UserError where it rejects them."""
        path, *flags = self.flags(options or {}, workspace)
        return load(path, flags)

    def hash(self, options: Options) -> str:
        """A hash of the YAML's values, the given options and `options`, without those in `OUTSIDE`."""
        values = yaml.safe_load(self.path.read_text(encoding="utf-8")) or {}
        named = [(key, value) for key, value in _leaves(values) if key not in OUTSIDE]
        return short_hash([_by_first_name(pairs) for pairs in (named, _given(self.given), options.items())])

    def folds(self) -> list[int]:
        """All folds. Stage 2 must be done."""
        workspace = Workspace(workspace_of(self.config()))
        table = tables.read(workspace.folds, tables.FOLDS, "02_make_folds.py")
        return tables.validation_folds(table["fold"])

    def changes(self, options: Options) -> bool:
        """Whether `options` change anything. Raises UserError when the configuration rejects them."""
        return flat(self.config(options)) != flat(self.config())


def _leaves(values: dict, prefix: str = "") -> list[tuple[str, object]]:
    """(dotted name, value) of every option in nested sections."""
    leaves = []
    for key, value in values.items():
        inner = isinstance(value, dict) and prefix + key not in ("model.options", "train.loss.terms")
        leaves += _leaves(value, f"{prefix}{key}.") if inner else [(prefix + key, value)]
    return leaves


def _by_first_name(options: Iterable[tuple[str, object]]) -> list[tuple[str, object]]:
    """Options by the names that they had at first, in the order of these.

    >>> _by_first_name([("train.lr", 0.1), ("pseudo.confidence", "sure"), ("infer.min_gain", 0)])
    [('infer.pays', 0), ('pseudo.by', 'sure'), ('train.lr', 0.1)]
    """
    return sorted(((FIRST_NAMES.get(key, key), value) for key, value in options), key=lambda option: option[0])


def _given(words: Iterable[str]) -> list[tuple[str, str]]:
    """The options on a command line, without those in `OUTSIDE`.

    >>> _given(["--train.lr", "0.1", "--competition.root", "x", "--infer.checkpoints", "swa", "ema"])
    [('infer.checkpoints', 'swa ema'), ('train.lr', '0.1')]
    """
    values: dict[str, list[str]] = {}
    key = ""
    for word in words:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            values[key] = [value] if equals else []
        else:
            values[key].append(word)
    return sorted((key, " ".join(texts)) for key, texts in values.items() if key not in OUTSIDE)


def parser_of(description: str) -> argparse.ArgumentParser:
    """The command line of a program that runs trials of one competition."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.yaml")
    parser.add_argument("--seconds", type=float, default=60, help="of training per member")
    parser.add_argument("--budget", type=float, default=0, metavar="MINUTES", help="begin no trial that would not fit")
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse a command line. The attribute `given` holds the words after `--`, which go to the scripts."""
    own, given = split_arguments(argv)
    args = parser.parse_args(own)
    args.given = given
    return args


def split_arguments(argv: list[str]) -> tuple[list[str], list[str]]:
    """(the program's own words, the words after `--`, which go to the scripts).

    >>> split_arguments(["a.yaml", "--", "--train.lr", "0.1"])
    (['a.yaml'], ['--train.lr', '0.1'])
    """
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]
