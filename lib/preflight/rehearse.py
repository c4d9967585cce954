"""Checks the configuration and data, runs one batch through all five stages, and forecasts the costs of the run."""

from __future__ import annotations

import contextlib
import io
import runpy
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

from lib.competition.dataset import Competition
from lib.config import Config, flat, load
from lib.config.load import workspace_of
from lib.data.split_check import check_split
from lib.errors import UserError
from lib.files import check_disk, remove_folder
from lib.plugins import load_plugins
from lib.preflight.forecast import Measured, fold_counts, image_sizes, measure, predict_cost
from lib.system.terminal import open_log
from lib.workspace import Workspace, file_fingerprint, read_json, short_hash, write_json

REPOSITORY = Path(__file__).resolve().parents[2]


def preflight(path: str, flags: list[str]) -> None:
    """Rehearse all stages and print the forecast. Raises UserError, naming the stage, when a stage would fail.

    A debug run is as short as a rehearsal, so only its configuration and data are checked.
    """
    config = load(path, flags)
    open_log(config)
    load_plugins(config.plugins)
    competition = Competition(config.competition)
    competition.check()
    # The real options: those of a debug run split a few images, whatever their groups.
    check_split(load(path, [*flags, "--debug", "false"]), competition)
    if config.debug:
        print("preflight: configuration and data fit together; a debug run needs no rehearsal")
        return
    stamp = workspace_of(config) / "preflight.json"
    passed, identity = read_json(stamp, {}), identity_of(config)
    if passed.get("identity") == identity:
        print("preflight: passed before with this configuration and code, nothing to do")
    else:
        seconds, measured = rehearse(path, flags, config, competition)
        passed = {"identity": identity, "seconds": seconds, "measured": asdict(measured)}
        print(f"preflight: all stages passed in {sum(seconds.values()):.0f} s")
    forecast = predict_cost(
        config, image_sizes(competition, config), Measured(**passed["measured"]), *fold_counts(config, competition)
    )
    check_disk("the run needs", forecast.disk_gib, workspace_of(config))
    write_json(stamp, {**passed, "forecast": forecast.seconds})  # `compare` shows how right it was
    print(f"forecast: {forecast}")


def identity_of(config: Config) -> str:
    """Changes with the configuration, this project's code, and the user's plugins."""
    files = [*REPOSITORY.glob("0*.py"), *REPOSITORY.glob("lib/**/*.py"), *map(Path, config.plugins)]
    silent = config.model_copy(update={"quiet": False, "log_file": ""})
    return short_hash([flat(silent), [file_fingerprint(file) for file in sorted(files)]])


def rehearse(
    path: str, flags: list[str], config: Config, competition: Competition
) -> tuple[dict[str, float], Measured]:
    """Run the numbered scripts in this process on next to no data; (seconds by step, what they measured).

    One process, so that torch is loaded once. The rehearsal's workspace is removed, whatever happens.
    """
    start_seconds = time.process_time()  # so far this process has done little but load its libraries
    workspace = Workspace(workspace_of(load(path, [*flags, "--preflight"])))
    folder = workspace.root.is_dir() and not workspace.root.is_symlink()  # of a link, only the link is removed
    if folder and any(workspace.root.iterdir()) and not workspace.is_begun:
        raise UserError(f"{workspace.root} holds other files, and a rehearsal replaces this folder; move it away")
    remove_folder(workspace.root)
    seconds: dict[str, float] = {}
    try:
        for stage, round_ in steps(config.pseudo.rounds):
            started = time.monotonic()
            _run_quietly(stage, [path, *flags, "--preflight", "--train.round", str(round_)])
            seconds[f"{stage} round {round_}"] = round(time.monotonic() - started, 1)
        measured = measure(config, workspace, start_seconds, seconds["01_preprocess round 0"], competition.channels)
    finally:
        shutil.rmtree(workspace.root, ignore_errors=True)
    return seconds, measured


def steps(rounds: int) -> list[tuple[str, int]]:
    """(script, round) in order; one pseudo-label round stands for all.

    >>> steps(0)
    [('01_preprocess', 0), ('02_make_folds', 0), ('03_train', 0), ('05_infer_ensemble', 0)]
    >>> steps(2)[3:]
    [('04_pseudo_label', 1), ('03_train', 1), ('05_infer_ensemble', 0)]
    """
    first = [("01_preprocess", 0), ("02_make_folds", 0), ("03_train", 0)]
    return first + [("04_pseudo_label", 1), ("03_train", 1)] * bool(rounds) + [("05_infer_ensemble", 0)]


def _run_quietly(stage: str, argv: list[str]) -> None:
    """A script as `python stage.py argv` would run it, its output kept unless it fails."""
    script = runpy.run_path(str(REPOSITORY / f"{stage}.py"))
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            script["main"](argv)
    except UserError as error:
        raise UserError(f"{stage}: {error}") from None
    except Exception:
        sys.stderr.write(output.getvalue())
        raise
