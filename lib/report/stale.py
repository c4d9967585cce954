"""Which results were made from other options or data than there are now, and what rests on them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lib.config import Config, flat
from lib.workspace import Workspace, describe, file_fingerprint, read_json, stamp

ELSEWHERE = ("competition.kaggle", "competition.external", "train.round")  # not as stages note them
SETTLED = ("infer.window", "infer.tta")  # of which 05 notes what `auto` came to
BY_THE_CLOCK = ("train.member_limit", "train.checkpoints")  # which `train.time_limit` chooses


def outdated(workspace: Workspace, config: Config) -> dict[str, str]:
    """Finished stages, by the name of their manifest → why they are outdated, in words.

    Of trainings only those of `train.experiment`, in any round, are held against the options: others have their own.
    """
    paths = sorted((workspace.root / "manifests").glob("*.json"))
    records = {path.stem: read_json(path, {}) for path in paths}
    options = json.loads(json.dumps(flat(config), default=str))
    settled = tuple(name for name in SETTLED if options[name] == "auto")
    for name in ELSEWHERE + settled + (BY_THE_CLOCK if config.train.time_limit else ()):
        del options[name]
    fingerprint = cache(lambda path: file_fingerprint(Path(path)))
    ours = re.compile(rf"03_{re.escape(config.train.experiment)}(-r\d+)?_(fold\d+|all)_seed\d+")
    found = {}
    for name, record in records.items():
        known = options if not name.startswith("03_") or ours.fullmatch(name) else {}
        why = list(_changes(record["made_from"], known, fingerprint))
        if why:
            found[name] = "; ".join(why[:3]) + (f" (and {len(why) - 3} more)" if len(why) > 3 else "")
    made_by = {output: name for name, record in records.items() for output in record["outputs"]}
    while more := dict(_resting(records, made_by, found)):
        found |= more
    return found


def _changes(made_from: dict, options: dict, fingerprint) -> Iterator[str]:
    for key, before in made_from.items():
        kind, _, name = key.partition(" ")
        if kind == "file" and fingerprint(name) != before:
            yield describe(key, before, fingerprint(name))
        elif name == "the images":
            yield from (f"{path} changed" for path, known in before.items() if stamp(Path(path)) != known)
        elif kind == "option" and name in options and options[name] != before:
            yield describe(key, before, options[name])


def _resting(records: dict[str, dict], made_by: dict[str, str], found: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(a stage that is not in `found`, why) where one that is made some file for it."""
    for name, record in records.items():
        files = (key.removeprefix("file ") for key in record["made_from"] if key.startswith("file "))
        source = next((made_by[file] for file in files if made_by.get(file) in found), None)
        if source and name not in found:
            yield name, f"{source} is outdated"
