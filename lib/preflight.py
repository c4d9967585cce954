"""Before long work: schema, data, then one batch through all five stages, and a forecast of what is to come."""

from __future__ import annotations

import contextlib
import io
import runpy
import shutil
import sys
import time
from pathlib import Path

from lib.competition.dataset import Competition
from lib.config import Config, flat, load
from lib.config.load import workspace_of
from lib.errors import UserError
from lib.plugins import load_plugins
from lib.workspace import file_fingerprint, read_json, short_hash, write_json

HERE = Path(__file__).resolve().parent.parent
STAGES = ["01_preprocess", "02_make_folds", "03_train", "04_pseudo_label", "03_train", "05_infer_ensemble"]


def preflight(path: str, flags: list[str]) -> None:
    """Raises UserError, naming the stage, when a stage would fail; else prints the forecast."""
    config = load(path, flags)
    load_plugins(config.plugins)
    Competition(config.competition).check()
    code = [file_fingerprint(file) for file in sorted([*HERE.glob("0*.py"), *HERE.glob("lib/**/*.py")])]
    passed = workspace_of(config) / "preflight.json"
    identity = short_hash([flat(config), code])
    if read_json(passed, {}).get("identity") != identity:
        seconds = run_stages(path, flags, config)
        write_json(passed, {"identity": identity, "seconds": seconds})
    else:
        seconds = read_json(passed, {})["seconds"]
    print(forecast(config, seconds))


def run_stages(path: str, flags: list[str], config: Config) -> dict[str, float]:
    """Run the numbered scripts in this process on next to no data; returns seconds by stage."""
    rehearsal = workspace_of(load(path, [*flags, "--preflight"]))
    shutil.rmtree(rehearsal, ignore_errors=True)
    seconds: dict[str, float] = {}
    round_ = 0
    for stage in STAGES:
        if stage == "04_pseudo_label":
            if not config.pseudo.rounds:
                continue
            round_ = 1
        elif stage == "03_train" and "03_train" in seconds and not round_:
            continue
        extra = ["--train.round", str(round_)] if stage in ("03_train", "04_pseudo_label") else []
        started = time.monotonic()
        _run_quietly(stage, [path, *flags, "--preflight", *extra])
        seconds[stage + ("_again" if stage in seconds else "")] = round(time.monotonic() - started, 1)
    shutil.rmtree(rehearsal, ignore_errors=True)
    return seconds


def _run_quietly(stage: str, argv: list[str]) -> None:
    """A script as `python stage.py argv` would run it, its output kept unless it fails."""
    script = runpy.run_path(str(HERE / f"{stage}.py"))
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            script["main"](argv)
    except UserError as error:
        raise UserError(f"{stage}: {error}") from None
    except Exception:
        sys.stderr.write(output.getvalue())
        raise


def forecast(config: Config, rehearsal: dict[str, float]) -> str:
    """Hours, disk and memory of the whole run, from the rehearsal and the size of the data."""
    competition = Competition(config.competition)
    bytes_ = sum(image.path.stat().st_size for image in competition.images)
    folds = len(config.train.folds) or (1 if config.folds.scheme == "holdout" else config.folds.k)
    members = folds * len(config.train.seeds) * (config.pseudo.rounds + 1)
    if config.train.time_limit:
        training = f"{members * config.train.time_limit / 3600:.1f} h of training ({members} members)"
    else:
        training = f"{members} members of {config.train.epochs:g} epochs"
    disk = members * 0.1 + 4 * bytes_ / 2**30
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if disk > free:
        raise UserError(f"the run needs about {disk:.1f} GiB of disk, but {free:.1f} GiB are free; make room")
    size = max(config.infer.window, config.train.crop or config.preprocess.tile_size)
    memory = (
        0.8 + 0.25 * config.train.workers + config.train.batch_size * size**2 * 2.2e3 / 2**30 + config.infer.max_gib
    )
    return (
        f"preflight: all stages passed in {sum(rehearsal.values()):.0f} s. Forecast: {training}, and inference on "
        f"{len(competition.images)} images; about {disk:.1f} GiB of disk, {memory:.1f} GiB of memory"
    )
