"""Paths of all files of a workspace, and its members.

work/<name>/images.csv, tiles.csv, tiles/, fingerprint.json        01
            scaling.json, of channels                              01
            folds.csv, leaks/                                      02
            runs/<experiment>/fold0_seed42/, all_seed42/           03
            pseudo/round1/tiles.csv, tiles/, pictures/             04
            clean/tiles.csv, images.csv, tiles/, *.jpg             04 --clean
            oof/, decision.json, submission.csv                    05
            submissions/*.csv, .json, .yaml, ledger.csv            05
            choices/, locks/, manifests/, report/, look/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock

from lib.artifacts.read import read_json, sound_json
from lib.choices import Choices
from lib.config.config import Config
from lib.config.fitted import SCALING
from lib.config.load import workspace_of
from lib.digests import Digests, Places
from lib.errors import UserError
from lib.files import (
    file_fingerprint,
    remove_folder,
    replacing,
    replacing_dir,
    short_hash,
    stamp,
    sweep,
    write_json,
    write_table,
    write_text,
)
from lib.locks import LEASE_SECONDS
from lib.stage import Stage

__all__ = [
    "ALL_FOLDS", "Member", "Stage", "Workspace", "file_fingerprint", "member_name", "read_json",
    "replacing", "replacing_dir", "round_experiment", "short_hash", "stamp", "write_json", "write_table", "write_text",
]  # fmt: skip

SWEPT = (
    "[!.]*/", "runs/*/*/", "runs/.new/*/*/", "pseudo/*/", "clean/tiles/", "report/*/", "manifests/*/",
    "manifests/*/*/", "answers/*/",
)  # fmt: skip
"""Folders in which files are written under temporary names, beside the workspace itself."""
ALL_FOLDS = -2  # the `fold` of a member that is trained on all images


class Workspace:
    """The folder of one competition. Knows names, not pixels."""

    def __init__(self, root: str | Path, /, **data: str | Path):
        """`data`: the folders of the competition and of its external sources, by the names that manifests use."""
        self.root = Path(root)
        self.places = Places(workspace=root, **data)
        self.lease = LEASE_SECONDS
        self.images = self.root / "images.csv"
        self.tiles = self.root / "tiles.csv"
        self.tiles_dir = self.root / "tiles"
        self.fingerprint = self.root / "fingerprint.json"
        self.scaling = self.root / SCALING
        self.folds = self.root / "folds.csv"
        self.leaks_dir = self.root / "leaks"
        self.runs = self.root / "runs"
        self.oof_dir = self.root / "oof"
        self.decision = self.root / "decision.json"
        self.submissions = self.root / "submissions"
        self.ledger = self.submissions / "ledger.csv"
        self.submission = self.root / "submission.csv"
        self.choices = Choices(self.root / "choices", self.root / "choices.json")
        self.report = self.root / "report"

    @classmethod
    def of(cls, config: Config) -> Workspace:
        """The workspace of a configuration, whose manifests name the competition's files relative to its folder."""
        competition = config.competition
        data = {"root": competition.root, **{f"root of {source.name}": source.root for source in competition.external}}
        workspace = cls(workspace_of(config), **{name: folder for name, folder in data.items() if folder})
        workspace.lease = config.execution.lease
        return workspace

    def member_dir(self, experiment: str, fold: int, seed: int) -> Path:
        return self.runs / experiment / member_name(fold, seed)

    def members(self, experiments: Iterable[str], of_all: bool = False) -> list[Member]:
        """The finished members of some experiments, in a fixed order: the folds', or those trained `of_all` images.

        Raises UserError when an experiment has none.
        """
        found = []
        for experiment in experiments:
            here = [member for member in self.finished(experiment) if (member.fold == ALL_FOLDS) == of_all]
            if not here:
                what, how = ("member of all images", " --train.folds all") if of_all else ("trained member", "")
                raise UserError(
                    f"{self.runs / experiment} holds no {what}; run 03_train.py --train.experiment {experiment}{how} "
                    "first, or correct infer.experiments"
                )
            found += self._without_copies(sorted(here, key=lambda member: (member.fold, member.seed)))
        return found

    def _without_copies(self, members: list[Member]) -> list[Member]:
        """The members without copies. A copy has the networks of another member, and no manifest of its own.

        Two members that 03 trained may have the same networks, if their training has no randomness.
        """
        original: dict[str, Member] = {}
        for member in sorted(members, key=lambda one: not self.manifest_of(one).is_file()):
            if (member.path / "trained.json").is_file():
                original.setdefault(file_fingerprint(member.trained), member)
        kept = []
        for member in members:
            other = original.get(file_fingerprint(member.trained), member)
            if other == member or self.manifest_of(member).is_file():
                kept.append(member)
            else:
                _note(f"{member.path} is left out, because it holds the networks of {other.name}: it is a copy")
        return kept

    def manifest_of(self, member: Member) -> Path:
        return self.root / "manifests" / f"03_{member.name.replace('/', '_')}.json"

    def fold_members(self, experiment: str) -> list[Member]:
        """The finished members of an experiment that left out a fold."""
        return [member for member in self.finished(experiment) if member.fold != ALL_FOLDS]

    def finished(self, experiment: str | None = None) -> list[Member]:
        """The members that have a done.json, in the order of their folders; by default those of all experiments.

        Other folders, such as a copy `fold0_seed42 (2)`, are left out, with a note.
        """
        found = []
        folders = self.runs.glob("*/") if experiment is None else [self.runs / experiment]
        for done in sorted(done for folder in folders for done in folder.glob("*/done.json")):
            member = member_at(done.parent)
            if member is None:
                _note(f"{done.parent} is left out, because members are called like fold0_seed42")
            else:
                found.append(member)
        return found

    @property
    def clean_dir(self) -> Path:
        return self.root / "clean"

    def pseudo_dir(self, round_: int) -> Path:
        return self.root / "pseudo" / f"round{round_}"

    def stage(
        self,
        name: str,
        settings: dict[str, object],
        inputs: Iterable[Path] = (),
        contents: dict[str, Iterable[Path]] | None = None,
        then: Callable[[], dict[str, object]] = dict,
    ) -> Stage:
        """A piece of work with what it is made from: `settings` (options), `inputs` (small files) and `contents` (many
        or large files by what they are); `then` as in `Stage`."""
        digests = {key: self.digests.of(paths) for key, paths in (contents or {}).items()}
        stage = Stage(self.root / "manifests" / f"{name}.json", name, settings, inputs, digests, self.places)
        stage.then, stage.lease = then, self.lease
        return stage

    @property
    def digests(self) -> Digests:
        return Digests(self.root / "manifests" / "content" / "digests.json")

    def manifests(self) -> list[Path]:
        """Manifests of finished stages, in the order of their names."""
        return sorted((self.root / "manifests").glob("[!.]*.json"))

    def choice(self, key: str) -> object | None:
        """A measured choice made earlier (see `choose`), or None."""
        return self.choices.get(key)

    def choose(self, key: str, value: object) -> None:
        """Store a measured choice, so that a resumed run makes the same one."""
        self.choices.put(key, value)

    def choose_once(self, key: str, measure: Callable[[], object]) -> object:
        """The choice made earlier, else the result of `measure`, as JSON gives it back."""
        return self.choices.once(key, measure)

    @property
    def is_begun(self) -> bool:
        """Whether a stage has worked here: each one begins with a lock, and ends with a manifest."""
        return any((self.root / name).exists() for name in ("locks", "manifests", "images.csv"))

    def check_own(self) -> None:
        """Raises UserError where a folder that stages replace holds files before any stage has worked here."""
        for folder in () if self.is_begun else (self.tiles_dir, self.leaks_dir, self.clean_dir):
            if folder.is_dir() and any(folder.iterdir()):
                raise UserError(
                    f"{folder} holds files that no stage has made, and stages replace this folder; move it away, or "
                    "set workspace to another folder"
                )

    def check_read(self, images: Iterable[str]) -> None:
        """Raises UserError where an image, or a file of labels, has another size in bytes than when 01 read it, as far
        as that is known."""
        record = sound_json(self.root / "manifests" / "01_preprocess.json", {})
        made_from = self.places.all_named(record.get("made_from", {}))
        pictures, labels = made_from.get("content images", {}), made_from.get("content labels", {})
        wanted = {name: pictures.get(name, "") for name in map(self.places.named, images)} | labels
        for name, digest in wanted.items():
            path, size = self.places.path(name), digest.partition(" ")[0]
            if size.isdigit() and path.is_file() and path.stat().st_size != int(size):
                raise UserError(
                    f"{path} is not the file that 01_preprocess.py read: it was replaced, edited or cut off since; run "
                    "01_preprocess.py again"
                )

    def sweep(self) -> None:
        """Delete what processes that were killed left behind: temporary files, and folders that were half replaced."""
        for pattern in ("", *SWEPT):
            for folder in self.root.glob(pattern) if pattern else [self.root]:
                sweep(folder)
        for removed in self.runs.glob(".new/*/*.old"):  # its successor took its place
            if (self.runs / removed.parent.name / removed.name.removesuffix(".old") / "done.json").is_file():
                remove_folder(removed)

    def lock(self, name: str) -> FileLock:
        """Only one process at a time is inside `with workspace.lock(name)`; the others wait."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")


@dataclass(frozen=True)
class Member:
    """One trained network: experiment x fold x seed."""

    experiment: str
    fold: int
    seed: int
    path: Path

    @property
    def trained(self) -> Path:
        """The file that changes with each training, and does not change when only scores are replaced."""
        trained = self.path / "trained.json"
        return trained if trained.is_file() else self.path / "done.json"

    @property
    def name(self) -> str:
        return f"{self.experiment}/{member_name(self.fold, self.seed)}"


def member_at(folder: Path) -> Member | None:
    """The member whose folder this is; None where the folder's name is not one that 03 gives.

    >>> member_at(Path("runs/base/fold0_seed42")).name, member_at(Path("runs/base/fold0_seed42 (copy)"))
    ('base/fold0_seed42', None)
    """
    words = re.fullmatch(r"(?:fold([0-9]+)|all)_seed([0-9]+)", folder.name)
    if not words:
        return None
    fold, seed = ALL_FOLDS if words[1] is None else int(words[1]), int(words[2])
    return Member(folder.parent.name, fold, seed, folder) if member_name(fold, seed) == folder.name else None


@cache
def _note(text: str) -> None:
    """Say something once."""
    print(f"note: {text}", flush=True)


def member_name(fold: int, seed: int) -> str:
    """
    >>> member_name(0, 42), member_name(ALL_FOLDS, 42)
    ('fold0_seed42', 'all_seed42')
    """
    return f"{'all' if fold == ALL_FOLDS else f'fold{fold}'}_seed{seed}"


def round_experiment(experiment: str, round_: int) -> str:
    """Name of an experiment's members in a pseudo-label round.

    >>> round_experiment("base", 0), round_experiment("base", 2)
    ('base', 'base-r2')
    """
    return experiment if not round_ else f"{experiment}-r{round_}"
