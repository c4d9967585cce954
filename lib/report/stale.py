"""Which results are outdated: made from other options or data than today's, or from outdated results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import cache

from lib.config import Config
from lib.config.affects import STAGES, settings_of
from lib.digests import Digests, Places
from lib.stage import THE_IMAGES, differences, identity, in_words, renamed, trained_file
from lib.stages import options_then
from lib.training.time_limit import TIME_OPTIONS
from lib.workspace import Workspace, file_fingerprint, read_json

AUTO_OPTIONS = ("infer.window", "infer.tta")  # 05 records what `auto` became


def outdated(workspace: Workspace, config: Config) -> dict[str, str]:
    """Outdated stages: the name of the manifest → the reason, in words.

    Only trainings of `train.experiment`, in any round, are compared with the options; other experiments have their own.
    """
    records = {path.stem: read_json(path, {}) for path in workspace.manifests()}
    then = cache(lambda: options_then(workspace))
    places, found = Workspace.of(config).places, {}
    fingerprint = cache(lambda name: file_fingerprint(trained_file(places.path(name))))
    for name, record in records.items():
        made_from = record["made_from"] = places.all_named(record["made_from"])
        options = _options_now(name, made_from, config)
        now = {**options, **_files_now(made_from, fingerprint, workspace.digests, places)}
        why = list(differences(made_from, now, record.get("format", 1), then(), places))
        if why:
            found[name] = places.shown(in_words(why))
    made_by = {identity(places.named(output)): name for name, record in records.items() for output in record["outputs"]}
    while more := dict(_resting(records, made_by, found)):
        found |= more
    return found


def _options_now(name: str, made_from: dict, config: Config) -> dict[str, object]:
    """The options that a stage would be made from now; options that must not make it outdated keep their old value."""
    experiment = re.escape(config.train.experiment)
    ours = re.compile(rf"03_{experiment}(-r\d+)?_(fold\d+|all)_seed\d+")
    before = {key: value for key, value in renamed(made_from) if key.startswith("option ") and key != THE_IMAGES}
    if name.startswith("03_") and not ours.fullmatch(name):
        return before
    stage = next(stage for stage, pattern in STAGES.items() if fnmatchcase(name, pattern))
    options = json.loads(json.dumps(settings_of(_of_round(name, config), stage), default=str))
    today = {f"option {key}": value for key, value in options.items()}
    clock = TIME_OPTIONS if config.train.time_limit else ()
    as_it_was = {"train.round", *clock, *(option for option in AUTO_OPTIONS if options.get(option) == "auto")}
    known = {key for key in before if key.removeprefix("option ") in as_it_was or key not in today}
    today = {key: value for key, value in today.items() if key.removeprefix("option ") not in as_it_was}
    return {**today, **{key: before[key] for key in known}}


def _of_round(name: str, config: Config) -> Config:
    """The options, with the pseudo-label round in a training's name."""
    found = re.search(r"-r(\d+)_(?:fold\d+|all)_seed\d+$", name)
    train = config.train.model_copy(update={"round": int(found[1]) if found else 0})
    return config.model_copy(update={"train": train}) if name.startswith("03_") else config


def _files_now(
    made_from: dict, fingerprint: Callable[[str], str], digests: Digests, places: Places
) -> dict[str, object]:
    """Today's fingerprints of the same files."""
    now: dict[str, object] = {}
    for key, before in made_from.items():
        kind, _, name = key.partition(" ")
        if kind == "file":
            now[key] = fingerprint(name)
        elif kind == "content":
            paths = {str(places.path(file)): file for file in before}
            now[key] = {paths[path]: digest for path, digest in digests.of(paths).items()}
    return now


def _resting(records: dict[str, dict], made_by: dict[str, str], found: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(stage, reason) for stages not in `found` that use a file of an outdated stage."""
    for name, record in records.items():
        files = (key.removeprefix("file ") for key in record["made_from"] if key.startswith("file "))
        source = next((made_by[file] for file in map(identity, files) if made_by.get(file) in found), None)
        if source and name not in found:
            yield name, f"{source} is outdated"
