"""What the programs that train share: a setting, a log, a budget, runs of the scripts.

A trial is one training, or one inference, with options put over a competition's YAML. Every finished trial is one JSON
line of a log in benchmarks/results/, which is committed: trials go on over days, and are not run twice. The log's key
holds everything that a score depends on, code aside.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from lib import tables
from lib.competition import metrics
from lib.config import Config, flat, load
from lib.config.load import workspace_of
from lib.decision.thresholds import crossed_by_threshold
from lib.errors import UserError
from lib.inference.checkpoints import checkpoints_of
from lib.inference.members import choose_engine
from lib.oof.evaluation import Evaluation
from lib.oof.out_of_fold import out_of_fold
from lib.plugins import load_plugins
from lib.session import Session
from lib.workspace import Workspace, file_fingerprint, read_json, round_experiment, short_hash

REPOSITORY = Path(__file__).resolve().parents[1]
CLOCK = "train.member_limit"  # the option that gives a member its seconds of training
RESULTS = REPOSITORY / "benchmarks/results"
WORK = REPOSITORY / "work/trials"
# What a trial sets itself, or what changes no score: not part of a setting's hash.
OUTSIDE = {CLOCK, "train.time_limit", "train.evaluations", "train.folds", "train.seeds",
           "competition.root", "workspace", "jobs", "train.workers"}  # fmt: skip

Options = dict[str, str]  # option → its value as on the command line; lists as `[a, b]`
Values = dict[str, str | Callable[[Config], str]]  # the same; a function gets the competition's own configuration


def values_for(config: Config, values: Values) -> Options:
    return {key: value if isinstance(value, str) else value(config) for key, value in values.items()}


def trained_side(config: Config) -> int:
    return config.train.crop or config.preprocess.tile_size


def cross_entropy(config: Config) -> str:
    return "bce" if len(config.competition.classes) == 1 else "ce"


class Failed(Exception):
    """A script ended with an error, which it printed."""


# ---- a setting -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A competition's YAML, the options given after `--`, and where its trials live."""

    path: Path
    given: tuple[str, ...]  # as on the command line
    root: Path  # the organiser's folder
    name: str

    @staticmethod
    def of(path: str, given: Sequence[str]) -> Setting:
        """Paths on the command line are relative to the shell's folder, those of a YAML to the repository."""
        config = load(path, list(given))
        typed = any(word.split("=")[0] == "--competition.root" for word in given)
        root = (Path.cwd() if typed else REPOSITORY) / config.competition.root
        return Setting(Path(path).resolve(), tuple(given), root.resolve(), config.competition.name)

    def flags(self, options: Options, workspace: str = "") -> list[str]:
        """The command line of a script. `workspace`: of trials that need tiles of their own."""
        folder = WORK / (f"{self.name}--{workspace}" if workspace else self.name)
        own = {**options, "competition.root": str(self.root), "workspace": str(folder)}
        return [str(self.path), *self.given, *(word for key, value in own.items() for word in (f"--{key}", value))]

    def own_flags(self) -> list[str]:
        """The command line of a script in the competition's own workspace."""
        return [str(self.path), *self.given, "--competition.root", str(self.root)]

    def own_config(self, *more: str) -> Config:
        """The configuration of `own_flags`, and `more` words of a command line."""
        path, *flags = self.own_flags()
        return load(path, [*flags, *more])

    def config(self, options: Options | None = None, workspace: str = "") -> Config:
        """Raises UserError when the configuration rejects the options."""
        path, *flags = self.flags(options or {}, workspace)
        return load(path, flags)

    def hash(self, options: Options) -> str:
        """Names the YAML's values, the given options and `options`, without what a trial sets itself."""
        values = yaml.safe_load(self.path.read_text(encoding="utf-8")) or {}
        kept = [(key, value) for key, value in _leaves(values) if key not in OUTSIDE]
        return short_hash([kept, _given(self.given), sorted(options.items())])

    def folds(self) -> list[int]:
        """All that there are, once stage 2 is done."""
        workspace = Workspace(workspace_of(self.config()))
        table = tables.read(workspace.folds, tables.FOLDS, "02_make_folds.py")
        return tables.validation_folds(table["fold"])

    def changes(self, options: Options) -> bool:
        """Whether `options` change anything. Raises UserError when the configuration rejects them."""
        return flat(self.config(options)) != flat(self.config())


def _leaves(values: dict, prefix: str = "") -> list[tuple[str, object]]:
    leaves = []
    for key, value in values.items():
        inner = isinstance(value, dict) and prefix + key not in ("model.options", "train.loss.terms")
        leaves += _leaves(value, f"{prefix}{key}.") if inner else [(prefix + key, value)]
    return sorted(leaves, key=lambda leaf: leaf[0])


def _given(words: Iterable[str]) -> list[tuple[str, str]]:
    """The options on a command line, those outside a setting's hash left out.

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


def parser(description: str) -> argparse.ArgumentParser:
    """For a program that runs trials of one competition."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.yaml")
    parser.add_argument("--seconds", type=float, default=60, help="of training per member")
    parser.add_argument("--budget", type=float, default=0, metavar="MINUTES", help="begin nothing that would not fit")
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """The command line; `given`: what follows `--` and goes to the scripts."""
    ours, given = split_arguments(argv)
    args = parser.parse_args(ours)
    args.given = given
    return args


def split_arguments(argv: list[str]) -> tuple[list[str], list[str]]:
    """(ours, what follows `--` and goes to the scripts).

    >>> split_arguments(["a.yaml", "--", "--train.lr", "0.1"])
    (['a.yaml'], ['--train.lr', '0.1'])
    """
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


# ---- what has been run, and what may still be ------------------------------------------------------------------------


def key_of(competition: str, name: str, seed: int, fold: int, seconds: float, options: str) -> str:
    """Everything that a trial's score depends on, code aside; `options`: a setting's hash.

    >>> key_of("demo", "ema", 42, 0, 60.0, "a1b2")
    'demo ema seed42 fold0 60s a1b2'
    """
    return f"{competition} {name} seed{seed} fold{fold} {seconds:g}s {options}"


class Log:
    """Finished trials, one JSON line each."""

    def __init__(self, path: Path):
        self.path = path

    def lines(self, **same: object) -> list[dict]:
        """Those that say `same`, oldest first; a last line that a kill cut short does not count."""
        lines = []
        for text in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []:
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
        return [line for line in lines if all(line[key] == value for key, value in same.items())]

    def latest(self) -> dict[str, dict]:
        """The latest line of each key."""
        return {line["key"]: line for line in self.lines()}

    def add(self, line: dict) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A line that a kill cut short must not swallow this one.
        cut = self.path.is_file() and self.path.stat().st_size and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(("\n" if cut else "") + json.dumps({**line, "when": time.strftime("%Y-%m-%d %H:%M:%S")}) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Budget:
    """Minutes that a program may take; 0 for as many as it wants."""

    def __init__(self, minutes: float):
        self.end = time.monotonic() + 60 * minutes if minutes else float("inf")

    def fits(self, seconds: float) -> bool:
        return time.monotonic() + seconds <= self.end


GUESSES = {"data": 600.0, "train": 240.0, "infer": 180.0}  # seconds of a trial beside its training, cautious


def expected_seconds(
    lines: Iterable[dict], kind: str, competition: str, seconds: float, guesses: Mapping[str, float] = GUESSES
) -> float:
    """What a trial of this kind will take by the clock: the longest yet, or a guess where there is none.

    `seconds`: of its training, 0 for equal epochs; a known trial's may have been others.
    """
    trains = kind != "infer"
    known = [
        line["wall_seconds"] - trains * line["seconds"] for line in lines
        if (line["kind"], line["competition"], not line["seconds"]) == (kind, competition, not seconds)
    ]  # fmt: skip
    return trains * seconds + (max(known) if known else guesses[kind])


# ---- runs ------------------------------------------------------------------------------------------------------------


def run(script: str, *words: str) -> float:
    """Run `python SCRIPT WORDS` in the repository; its seconds.

    Raises Failed; ends this program when the script was stopped.
    """
    command = [sys.executable, *script.split(), *words]
    started = time.monotonic()
    code = subprocess.run(command, cwd=REPOSITORY).returncode
    if code in (130, -2, -15):
        raise SystemExit(130)
    if code:
        raise Failed(f"exit code {code} of: {' '.join(command[1:])}")
    return time.monotonic() - started


def prepare(setting: Setting) -> None:
    """Stages 1 and 2 of a setting, before them the demo competition; what is up to date is not done again."""
    run("-m lib demo", *setting.flags({}))
    run("01_preprocess.py", *setting.flags({}))
    run("02_make_folds.py", *setting.flags({}))


def prepare_own_tiles(setting: Setting, options: Options, workspace: str) -> None:
    """Stage 1 in a workspace of its own, with the setting's folds: scores are of the same images."""
    run("01_preprocess.py", *setting.flags(options, workspace))
    folds = Workspace(workspace_of(setting.config())).folds
    own = Workspace(workspace_of(setting.config(workspace=workspace))).folds
    if file_fingerprint(own) != file_fingerprint(folds):
        shutil.copyfile(folds, own)


def train(
    setting: Setting, experiment: str, fold: int, seed: int, seconds: float, options: Options,
    workspace: str = "", again: bool = False,
) -> dict:  # fmt: skip
    """One member by 03_train.py: what done.json says, its fingerprint and the script's seconds.

    A member that was begun goes on; `again` makes it anew.
    """
    own = {
        **options, "train.experiment": experiment, "train.folds": f"[{fold}]", "train.seeds": f"[{seed}]",
        CLOCK: f"{seconds:g}", "train.evaluations": "0",
    }  # fmt: skip
    config = setting.config(own, workspace)
    round_ = round_experiment(experiment, config.train.round)
    folder = Workspace(workspace_of(config)).member_dir(round_, fold, seed)
    if again:
        shutil.rmtree(folder, ignore_errors=True)
    wall = run("03_train.py", *setting.flags(own, workspace))
    done = read_json(folder / "done.json", {})
    return {
        "score": done["score"], "scores": done["scores"], "steps": done["steps"],
        "train_seconds": done["train_seconds"], "wall_seconds": round(wall, 1),
        "member": file_fingerprint(folder / "done.json"),
    }  # fmt: skip


def remove_experiment(setting: Setting, experiment: str) -> None:
    """Forget an experiment's members."""
    home = Workspace(workspace_of(setting.config()))
    shutil.rmtree(home.runs / experiment, ignore_errors=True)


@dataclass(frozen=True)
class Inferred:
    """One fold's whole images, predicted as 05 does. `group_of`: a number for each image's group."""

    config: Config
    oof: Evaluation
    group_of: np.ndarray
    seconds: float

    def score(self) -> float:
        """At threshold 0.5."""
        return metrics.score(self.config.competition, self.oof.class_counts(-1))

    def fitted_score(self) -> float | None:
        """One class: every group's images decided by the threshold fitted on the fold's other groups; None for one
        group alone. Several classes: by argmax."""
        if not self.oof.binary:
            return self.score()
        crossed = crossed_by_threshold(self.oof, -1, self.group_of, self.config.competition)
        return None if crossed is None else metrics.score(self.config.competition, crossed)


def infer(config: Config, experiments: list[str], fold: int, seed: int) -> Inferred:
    """What 05's out-of-fold pass does, for the members of one fold and seed, timed.

    Reading the images, loading the networks and building the backend are in the time; choosing `auto` precision and
    backend, and a first pass over one image that warms up, are not. Nothing is cached.
    """
    workspace = Workspace(workspace_of(config))
    members = [m for m in workspace.members(experiments) if (m.fold, m.seed) == (fold, seed)]
    if len(members) != len(experiments):
        raise UserError(f"{experiments} have {len(members)} members of fold {fold} and seed {seed}")
    parts = checkpoints_of(members, config.infer.checkpoints)
    load_plugins(config.plugins)
    session = Session(config)
    engine, here = choose_engine(session, parts), session.folds[session.folds["fold"] == fold]
    for rows in (here.head(1), here):
        with tempfile.TemporaryDirectory() as folder:
            session.workspace.oof_dir = Path(folder)
            started = time.perf_counter()
            oof, *_ = out_of_fold(session.with_folds(rows), parts, engine)
            seconds = time.perf_counter() - started
    return Inferred(config, oof, here["group"].astype("category").cat.codes.to_numpy(), round(seconds, 2))
