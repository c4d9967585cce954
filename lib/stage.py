"""Manifests of stages: what a stage was made from. It runs again only when that has changed.

`made_from` has entries of three kinds: `option train.lr` (a value), `file {workspace}/folds.csv` (size and hash of a
small file), and `content labels` (name -> size and hash of each of many, or large, files; see lib/digests.py). Files of
the workspace and of the competition's folder are named relative to them, so that both may be moved.

A manifest stays readable: an option that it lacks had its default when it was written, and an option that is no longer
read changes nothing. Manifests of format 1 have no `content`: what they do not name counts as unchanged. Those of
formats 1 and 2 name files by the paths that they had.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lib.artifacts.read import sound_json
from lib.config.affects import default_of
from lib.config.config import Config
from lib.config.old_names import OLD_NAMES
from lib.digests import Digests, Places, changed_outputs, file_state, places_of
from lib.errors import UserError
from lib.files import file_fingerprint, stamp, write_json
from lib.locks import LEASE_SECONDS, Claim
from lib.system.memory import peak_gib

FORMAT = 3
EXTERNAL = "competition.external."
NOTED_SINCE = {"train.threads": 3}  # options that manifests of earlier formats did not note, whatever their value was
THE_IMAGES = "option the images"  # of 01 in format 1: path -> size and seconds


class Stage:
    """A stage and its manifest, which is written last, so that it proves completeness."""

    def __init__(
        self, path: Path, name: str, settings: dict[str, object], inputs: Iterable[Path],
        contents: dict[str, dict[str, str]] | None = None, places: Places | None = None,
    ):  # fmt: skip
        """`contents`: name -> path -> digest; `places`: by default the workspace of the manifest."""
        self.path, self.name, self.places = path, name, places or places_of(path)
        self.then: Callable[[], dict[str, object]] = dict
        """The options when a manifest of format 1 was written, as far as they are known."""
        now = {
            **{f"option {key}": value for key, value in settings.items()},
            **{f"file {path}": file_fingerprint(path) for path in inputs},
            **{f"content {key}": digests for key, digests in (contents or {}).items()},
        }
        self.now = self.places.all_named(jsonable(now))
        self._started = time.monotonic()
        self.lease = LEASE_SECONDS

    @property
    def _claim(self) -> Claim:
        return Claim(self.path.parents[1] / "locks" / self.path.stem, self.lease)

    @property
    def record(self) -> dict:
        """The manifest that `finish` wrote; empty when the work is not done, or the manifest is damaged."""
        return sound_json(self.path, {})

    def changes(self) -> list[str]:
        """Why the work has to be done, in words; empty when it is done and nothing changed, what it made included."""
        before = self.record
        if not before:
            return [f"{self.path} is damaged" if self.path.exists() else "not done yet"]
        lost = [path for path in map(self.places.path, before["outputs"]) if not file_state(path)]
        if lost:
            return [f"{lost[0]} is gone"]
        if changed := changed_outputs(self.path):
            return [f"{path} changed" for path in changed]
        return self.differs_from(before["made_from"], before.get("format", 1))

    def differs_from(self, made_from: dict, format_: int = FORMAT) -> list[str]:
        """What has changed since something was made from `made_from`, in words."""
        then, made_from = self.then() if format_ == 1 else {}, self.places.all_named(made_from)
        return [self.places.shown(text) for text in differences(made_from, self.now, format_, then, self.places)]

    def up_to_date(self, silent: bool = False, check: Callable[[], object] | None = None) -> bool:
        """Whether nothing has to be done. Prints the answer with its reason, unless `silent`.

        `check` raises UserError where an output that users may change cannot be used.
        """
        changes = self.changes()
        if not changes and check is not None:
            try:
                check()
            except UserError as error:
                changes = [str(error).partition(";")[0]]
        if not changes and self.record.get("format", 1) == 1:  # from now on the manifest holds contents, too
            write_json(self.path, {**self.record, "format": FORMAT, "made_from": self.now})
        if silent:
            return not changes
        if not changes:
            print(f"{self.name}: up to date, nothing to do", flush=True)
            return True
        if changes != ["not done yet"]:
            print(f"{self.name}: again, because {in_words(changes)}", flush=True)
        return False

    def claim(self) -> None:
        """Do the work alone. Raises Held where another process does it."""
        self._claim.take()

    def release(self) -> None:
        """Leave the work to others, after all."""
        self._claim.release()

    def begin(self) -> None:
        """Claim the work and delete the old manifest: from here on, the work counts as not done."""
        self.claim()
        self.path.unlink(missing_ok=True)

    def finish(self, outputs: Iterable[Path], kept: Iterable[Path] | None = None, **facts: object) -> None:
        """Write the manifest and end the claim. `facts` (scores, seconds, …) are kept for reports.

        `outputs`: files and folders that must stay. `kept`: those whose content must stay, too; all, where it is None.
        """
        outputs = [Path(path) for path in outputs]
        made = Digests(self.path.parent / "content" / self.path.name).of_outputs(outputs if kept is None else kept)
        record = {
            "stage": self.name,
            "format": FORMAT,
            "seconds": round(time.monotonic() - self._started, 1),
            "peak_gib": round(peak_gib(), 2),
            "outputs": [self.places.named(path) for path in outputs],
            "made": {self.places.named(path): digest for path, digest in made.items()},
            "facts": facts,
            "made_from": self.now,
        }
        write_json(self.path, record)
        self._claim.release()


def differences(
    made_from: dict, now: dict, format_: int, then: dict[str, object], places: Places | None = None
) -> Iterator[str]:
    """The differences of `now` from `made_from`, in words. `then`: as in `Stage`. `places`: of the names of files."""
    old = {identity(key): value for key, value in renamed(made_from)}
    now = {identity(key): value for key, value in now.items()}
    for key, value in now.items():
        kind, _, name = key.partition(" ")
        if kind == "content":
            if key in old or format_ > 1:
                yield from _other_files(old.get(key, {}), value)
            continue
        before = old.get(key)
        if key not in old and kind == "option":
            before = jsonable(then[name] if format_ == 1 and name in then else default_of(name, Config))
        if key not in old and name in NOTED_SINCE and format_ < NOTED_SINCE[name]:
            continue
        if before != value:
            yield describe_change(key, before, value)
    yield from _gone(old, now, format_, places or Places())


def in_words(changes: list[str]) -> str:
    """The first three changes, and how many more there are."""
    more = f" (and {len(changes) - 3} more)" if len(changes) > 3 else ""
    return "; ".join(changes[:3]) + more


def describe_change(key: str, old: object, new: object) -> str:
    """The change of an entry of `made_from`, in words."""
    kind, _, name = key.partition(" ")
    if kind == "file":
        return f"{name} changed"
    if name.startswith(EXTERNAL):
        source, option = name.removeprefix(EXTERNAL).split(".", 1)
        name = f"{option} of {source}"
    return f"{name} changed from {old} to {new}"


def _other_files(old: dict[str, str], new: dict[str, str]) -> Iterator[str]:
    yield from (f"{path} changed" for path, digest in new.items() if old.get(path) != digest)
    yield from (f"{path} is no longer used" for path in old if path not in new)


def _gone(old: dict, now: dict, format_: int, places: Places) -> Iterator[str]:
    """Changes of entries that are no longer read."""
    for key, before in old.items():
        kind, _, name = key.partition(" ")
        if key in now:
            continue
        if key == THE_IMAGES:
            yield from (f"{path} changed" for path, known in before.items() if stamp(Path(path)) != known)
        elif kind == "file" and format_ == 1:  # now named otherwise, perhaps
            if file_fingerprint(places.path(name)) != before:
                yield f"{name} changed"
        elif kind in ("file", "content"):
            yield f"{name} is no longer used"


def identity(path: str) -> str:
    """A file's name; of a member's done.json, which also holds its scores, that of the file beside it that does not.

    >>> identity("file runs/base/fold0_seed42/done.json")
    'file runs/base/fold0_seed42/trained.json'
    """
    return f"{path.removesuffix('/done.json')}/trained.json" if path.endswith("/done.json") else path


def trained_file(path: Path) -> Path:
    """Of a member's `done.json`, the file beside it that does not change with its scores, where there is one."""
    trained = path.with_name("trained.json")
    return trained if path.name == "done.json" and trained.is_file() else path


def renamed(made_from: dict) -> Iterator[tuple[str, object]]:
    """Entries of an older manifest by their names of today."""
    for key, value in made_from.items():
        kind, _, name = key.partition(" ")
        if kind != "option":
            yield key, value
        elif name.startswith(("weight of ", "scale of ")):
            option, _, source = name.partition(" of ")
            yield f"option {EXTERNAL}{source}.{option}", value
        elif name == EXTERNAL[:-1]:
            for source in value:
                yield from _flat(source, f"option {EXTERNAL}{source['name']}.")
        else:
            yield f"option {OLD_NAMES.get(name, name)}", value


def _flat(values: dict, prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if name == "labels" and isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def jsonable(value: object) -> object:
    """The value as a JSON file gives it back."""
    return json.loads(json.dumps(value, default=str))
