"""Where every artifact lives, how it is written so that nothing is half-written, and what it was made from.

work/<name>/images.csv, tiles.csv, tiles/, fingerprint.json        01
            folds.csv, leaks/                                      02
            runs/<experiment>/fold0_seed42/, all_seed42/           03
            pseudo/round1/tiles.csv, tiles/, pictures/             04
            clean/tiles.csv, images.csv, tiles/, *.jpg             04 --clean
            oof/, decision.json, submission.csv                    05
            submissions/*.csv, .json, .yaml, ledger.csv            05
            choices.json, manifests/, report/, look/
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.errors import UserError
from lib.memory import peak_gib

ALL = -2  # in place of a fold: trained on all images (-1 in folds.csv: never validated)


class Workspace:
    """The folder of one competition. Knows names, not pixels."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self.images = self.root / "images.csv"
        self.tiles = self.root / "tiles.csv"
        self.tiles_dir = self.root / "tiles"
        self.fingerprint = self.root / "fingerprint.json"
        self.folds = self.root / "folds.csv"
        self.leaks_dir = self.root / "leaks"
        self.runs = self.root / "runs"
        self.oof_dir = self.root / "oof"
        self.decision = self.root / "decision.json"
        self.submissions = self.root / "submissions"
        self.ledger = self.submissions / "ledger.csv"
        self.submission = self.root / "submission.csv"
        self.choices = self.root / "choices.json"
        self.report = self.root / "report"

    def member_dir(self, experiment: str, fold: int, seed: int) -> Path:
        return self.runs / experiment / member_name(fold, seed)

    def members(self, experiments: Iterable[str], of_all: bool = False) -> list[Member]:
        """The finished members of some experiments, in a fixed order: the folds', or those trained `of_all` images.

        Raises UserError when an experiment has none.
        """
        found, pattern = [], "all_seed*" if of_all else "fold*_seed*"
        for experiment in experiments:
            here = []
            for done in self.runs.glob(f"{experiment}/{pattern}/done.json"):
                fold, seed = done.parent.name.removeprefix("fold").split("_seed")
                here.append(Member(experiment, ALL if of_all else int(fold), int(seed), done.parent))
            if not here:
                what, how = ("member of all images", " --train.folds all") if of_all else ("trained member", "")
                raise UserError(
                    f"{self.runs / experiment} holds no {what}; run 03_train.py --train.experiment {experiment}{how} "
                    "first, or mend infer.experiments"
                )
            found += sorted(here, key=lambda member: (member.fold, member.seed))
        return found

    @property
    def clean_dir(self) -> Path:
        return self.root / "clean"

    def pseudo_dir(self, round_: int) -> Path:
        return self.root / "pseudo" / f"round{round_}"

    def stage(self, name: str, settings: dict[str, object], inputs: Iterable[Path] = ()) -> Stage:
        """A piece of work with what it is made from: `settings` (options) and `inputs` (files)."""
        return Stage(self.root / "manifests" / f"{name}.json", name, settings, list(inputs))

    def choice(self, key: str) -> object | None:
        """A measured choice made earlier (see `choose`), or None."""
        return read_json(self.choices, {}).get(key)

    def choose(self, key: str, value: object) -> None:
        """Write a measured choice down, so that a resumed run makes the same one."""
        write_json(self.choices, {**read_json(self.choices, {}), key: value})

    def choose_once(self, key: str, measure: Callable[[], object]) -> object:
        """The choice made earlier, else what `measure` returns, as JSON gives it back."""
        if self.choice(key) is None:
            self.choose(key, measure())
        return self.choice(key)


class Stage:
    """A manifest: what something was made from. Written last, so that it proves completeness."""

    def __init__(self, path: Path, name: str, settings: dict[str, object], inputs: list[Path]):
        self.path, self.name = path, name
        self.now = {
            **{f"option {key}": value for key, value in settings.items()},
            **{f"file {path}": file_fingerprint(path) for path in inputs},
        }
        self.now = json.loads(json.dumps(self.now, default=str))
        self._started = time.monotonic()

    @property
    def record(self) -> dict:
        """What `finish` wrote; empty when the work is not done."""
        return read_json(self.path, {})

    def changes(self) -> list[str]:
        """Why the work has to be done, in words; empty when it is done and nothing changed."""
        before = self.record
        if not before:
            return ["not done yet"]
        lost = [path for path in before["outputs"] if not Path(path).exists()]
        if lost:
            return [f"{lost[0]} is gone"]
        old = before["made_from"]
        keys = [k for k in {**old, **self.now} if old.get(k) != self.now.get(k)]
        return [describe(k, old.get(k), self.now.get(k)) for k in keys]

    def up_to_date(self) -> bool:
        """True, and says so, when nothing has to be done; else says why it has."""
        changes = self.changes()
        if not changes:
            print(f"{self.name}: up to date, nothing to do", flush=True)
            return True
        if changes != ["not done yet"]:
            more = f" (and {len(changes) - 3} more)" if len(changes) > 3 else ""
            print(f"{self.name}: again, because {'; '.join(changes[:3])}{more}", flush=True)
        return False

    def begin(self) -> None:
        """Forget the old manifest: from here on the work counts as not done."""
        self.path.unlink(missing_ok=True)

    def finish(self, outputs: Iterable[Path], **facts: object) -> None:
        """Write the manifest. `facts` (scores, seconds, …) are kept for reports."""
        record = {
            "stage": self.name,
            "seconds": round(time.monotonic() - self._started, 1),
            "peak_gib": round(peak_gib(), 2),
            "outputs": [str(path) for path in outputs],
            "facts": facts,
            "made_from": self.now,
        }
        write_json(self.path, record)


def describe(key: str, old: object, new: object) -> str:
    """What changed of an entry of `made_from`, in words."""
    kind, _, name = key.partition(" ")
    if kind == "file":
        return f"{name} changed"
    return f"{name} changed from {old} to {new}"


def file_fingerprint(path: Path) -> str:
    """Size and hash of a file's content; of a folder, the names and sizes inside; or `missing`."""
    path = Path(path)
    if path.is_dir():
        names = sorted(f"{p.relative_to(path)} {p.stat().st_size}" for p in path.rglob("*"))
        return f"{len(names)} files {hashlib.sha256(chr(10).join(names).encode()).hexdigest()[:16]}"
    if not path.is_file():
        return "missing"
    with path.open("rb") as file:
        return f"{path.stat().st_size} {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def stamp(path: Path) -> list[int]:
    """Size and time of change of a large file, without reading it; [0, 0] where there is none."""
    about = path.stat() if path.is_file() else None
    return [about.st_size, int(about.st_mtime)] if about else [0, 0]


def short_hash(value: object) -> str:
    """Twelve hexadecimal digits that name any JSON-like value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write to the temporary path that is yielded; it takes `path`'s place only when all went well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_dir(path: str | Path) -> Iterator[Path]:
    """Like `replacing`, for a whole folder: the old one goes when the new one is complete."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary  # left behind when killed or failed; the next attempt clears it
    shutil.rmtree(path, ignore_errors=True)
    os.replace(temporary, path)


def free_gib(folder: Path) -> float:
    """Room on the disk of a folder, which need not exist yet."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, default=str) + "\n")


def read_json(path: str | Path, default: object) -> dict:
    """The file's content, or `default` when there is no file."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def write_table(path: str | Path, table: pd.DataFrame, provenance: str = "") -> None:
    """Write a CSV; `provenance` becomes a first line that starts with `#`."""
    head = f"# {provenance}\n" if provenance else ""
    write_text(path, head + table.to_csv(index=False, lineterminator="\n"))


@dataclass(frozen=True)
class Member:
    """One trained network: experiment x fold x seed."""

    experiment: str
    fold: int
    seed: int
    path: Path

    @property
    def name(self) -> str:
        return f"{self.experiment}/{member_name(self.fold, self.seed)}"


def member_name(fold: int, seed: int) -> str:
    """
    >>> member_name(0, 42), member_name(ALL, 42)
    ('fold0_seed42', 'all_seed42')
    """
    return f"{'all' if fold == ALL else f'fold{fold}'}_seed{seed}"


def round_experiment(experiment: str, round_: int) -> str:
    """Name of an experiment's members in a pseudo-label round.

    >>> round_experiment("base", 0), round_experiment("base", 2)
    ('base', 'base-r2')
    """
    return experiment if not round_ else f"{experiment}-r{round_}"
