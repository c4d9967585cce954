"""Runs trials: trainings by 03_train.py, and out-of-fold inferences of 05, with options put over a competition's YAML.

Every finished trial is one JSON line of a log in benchmarks/results/, which is committed. Trials go on over days, and
none runs twice: the log's key holds everything that a score depends on, except the code.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.settings import CLOCK, REPOSITORY, Options, Setting
from lib.competition import metrics
from lib.config import Config
from lib.config.load import workspace_of
from lib.decision.thresholds import crossed_by_threshold
from lib.errors import UserError
from lib.inference.checkpoints import checkpoints_of
from lib.inference.members import choose_engine
from lib.oof.evaluation import Evaluation
from lib.oof.out_of_fold import out_of_fold
from lib.plugins import load_plugins
from lib.session import Session
from lib.workspace import Workspace, file_fingerprint, read_json, round_experiment


class Failed(Exception):
    """A script ended with an error that it has printed."""


def run(script: str, *words: str) -> float:
    """Run `python SCRIPT WORDS` in the repository. Returns its seconds.

    Raises Failed where the script fails. Ends this program where the user stops the script.
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
    """Make the demo competition, and run stages 1 and 2 of a setting where they are not up to date."""
    run("-m lib demo", *setting.flags({}))
    run("01_preprocess.py", *setting.flags({}))
    run("02_make_folds.py", *setting.flags({}))


def prepare_own_tiles(setting: Setting, options: Options, workspace: str) -> None:
    """Run stage 1 in a separate workspace, and copy the setting's folds, so that scores are of the same images."""
    run("01_preprocess.py", *setting.flags(options, workspace))
    source = Workspace(workspace_of(setting.config())).folds
    target = Workspace(workspace_of(setting.config(workspace=workspace))).folds
    if file_fingerprint(target) != file_fingerprint(source):
        shutil.copyfile(source, target)


class Training(NamedTuple):
    """One member, and the seconds of its training."""

    experiment: str
    fold: int
    seed: int
    seconds: float


def train(setting: Setting, training: Training, options: Options, workspace: str = "", again: bool = False) -> dict:
    """Train one member with 03_train.py. Returns facts of done.json, its fingerprint and the script's seconds.

    A member that has begun is resumed; with `again` it is trained from the start.
    """
    options = {
        **options, "train.experiment": training.experiment, "train.folds": f"[{training.fold}]",
        "train.seeds": f"[{training.seed}]", CLOCK: f"{training.seconds:g}", "train.evaluations": "0",
    }  # fmt: skip
    config = setting.config(options, workspace)
    experiment = round_experiment(training.experiment, config.train.round)
    folder = Workspace(workspace_of(config)).member_dir(experiment, training.fold, training.seed)
    if again:
        shutil.rmtree(folder, ignore_errors=True)
    wall = run("03_train.py", *setting.flags(options, workspace))
    done = read_json(folder / "done.json", {})
    return {
        "score": done["score"], "scores": done["scores"], "steps": done["steps"],
        "train_seconds": done["train_seconds"], "wall_seconds": round(wall, 1),
        "member": file_fingerprint(folder / "done.json"),
    }  # fmt: skip


def remove_experiment(setting: Setting, experiment: str) -> None:
    """Delete an experiment's members."""
    home = Workspace(workspace_of(setting.config()))
    shutil.rmtree(home.runs / experiment, ignore_errors=True)


@dataclass(frozen=True)
class Inferred:
    """The whole images of one fold, predicted as 05 does. `group_of` (N,): a number for each image's group."""

    config: Config
    oof: Evaluation
    group_of: np.ndarray
    seconds: float

    def score(self) -> float:
        """The score at threshold 0.5."""
        return metrics.score(self.config.competition, self.oof.class_counts(-1))

    def fitted_score(self) -> float | None:
        """The score where each group's threshold is fitted on the fold's other groups.

        None where there is one group only. Several classes are decided by argmax.
        """
        if not self.oof.binary:
            return self.score()
        crossed = crossed_by_threshold(self.oof, -1, self.group_of, self.config.competition)
        return None if crossed is None else metrics.score(self.config.competition, crossed)


def infer(config: Config, experiments: list[str], fold: int, seed: int) -> Inferred:
    """Run and time 05's out-of-fold pass with the members of one fold and seed.

    The time includes reading the images, loading the networks and building the backend. It does not include the choice
    of precision and backend, nor a first pass over one image. Nothing is cached.
    """
    workspace = Workspace(workspace_of(config))
    members = [m for m in workspace.members(experiments) if (m.fold, m.seed) == (fold, seed)]
    if len(members) != len(experiments):
        raise UserError(f"{experiments} have {len(members)} members of fold {fold} and seed {seed}; train the others")
    checkpoints = checkpoints_of(members, config.infer.checkpoints)
    load_plugins(config.plugins)
    session = Session(config)
    engine, images = choose_engine(session, checkpoints), session.folds[session.folds["fold"] == fold]
    for rows in (images.head(1), images):
        with tempfile.TemporaryDirectory() as folder:
            session.workspace.oof_dir = Path(folder)
            started = time.perf_counter()
            oof, *_ = out_of_fold(session.with_folds(rows), checkpoints, engine)
            seconds = time.perf_counter() - started
    return Inferred(config, oof, images["group"].astype("category").cat.codes.to_numpy(), round(seconds, 2))
