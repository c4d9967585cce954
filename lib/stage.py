"""A piece of work with a manifest: what it was made from, so that it is done again only when that has changed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

from lib.files import file_fingerprint, read_json, write_json
from lib.memory import peak_gib


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
