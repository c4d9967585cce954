"""Measured choices, a file for each, so that processes that measure at the same time do not overwrite each other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from lib.artifacts.read import sound_json
from lib.files import short_hash, write_json


class Choices:
    """`folder`/<name>_<hash>.json, each `{"key": ..., "value": ...}`; also what an older version left in `old`."""

    def __init__(self, folder: Path, old: Path):
        """`old`: one JSON of all choices. It is read, never written."""
        self.folder, self.old = folder, old

    def get(self, key: str) -> object | None:
        """The choice under a name, or None."""
        record = sound_json(self.path_of(key), None)
        return sound_json(self.old, {}).get(key) if record is None else record["value"]

    def put(self, key: str, value: object) -> None:
        write_json(self.path_of(key), {"key": key, "value": value})

    def once(self, key: str, measure: Callable[[], object]) -> object:
        """The choice under a name, else the result of `measure`, as JSON gives it back.

        One process measures. Other processes that need the same choice wait for it.
        """
        found = self.get(key)
        if found is not None:
            return found
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path_of(key).with_suffix(".lock")):
            found = self.get(key)
            if found is None:
                found = json.loads(json.dumps(measure()))
                self.put(key, found)
        return found

    def all(self) -> dict[str, object]:
        """Every choice by its name."""
        records = [sound_json(path, None) for path in sorted(self.folder.glob("[!.]*.json"))]
        return {**sound_json(self.old, {}), **{record["key"]: record["value"] for record in records if record}}

    def path_of(self, key: str) -> Path:
        """
        >>> Choices(Path("choices"), Path("choices.json")).path_of("train.precision unet 64 cpu").name
        'train.precision_unet_64_cpu_b3bc8b1c7628.json'
        """
        words = re.sub(r"[^\w.-]+", "_", key)[:80]
        return self.folder / f"{words}_{short_hash(key)}.json"
