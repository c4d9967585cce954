"""Members trained at the same time, each by a process of its own, on devices of this machine or of a cluster."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from lib import tables
from lib.config import Config
from lib.errors import UserError
from lib.execution.children import HELD_SECONDS, run_child
from lib.execution.devices import devices_of, environment_for, grouped
from lib.execution.executor import executor
from lib.session import Session
from lib.stages import member_stage
from lib.system.terminal import progress
from lib.training.member import member_inputs
from lib.workspace import ALL_FOLDS, Member

SCRIPT = Path(__file__).resolve().parents[2] / "03_train.py"
ALONE = (
    "--execution.backend", "local", "--execution.address=", "--execution.devices", "auto", "--execution.per_member", "1"
)  # fmt: skip


def is_spread(config: Config) -> bool:
    """Whether members are trained by processes of their own."""
    execution = config.execution
    return execution.backend != "local" or execution.devices != ["auto"] or execution.per_member > 1


def train_apart(session: Session, argv: list[str], members: Sequence[Member]) -> None:
    """Train the members that are not up to date, the longest training first.

    A training that fails does not stop the others. Raises UserError with the first failure when all have ended.
    """
    config = session.config
    if config.train.time_limit:
        raise UserError(
            "train.time_limit divides the time among members that are trained one after another; with "
            "execution.backend dask, or with execution.devices, set train.member_limit instead"
        )
    inputs = member_inputs(session.workspace, config)
    stages = {member: member_stage(member, config, session.workspace, inputs) for member in members}
    waiting = longest_first([one for one in members if not stages[one].up_to_date()], session)
    tasks = [_task(member, argv, session) for member in waiting]
    for problem in [problem for problem in _run(tasks, config) if problem][:1]:
        raise UserError(problem)


def longest_first(members: Sequence[Member], session: Session) -> list[Member]:
    """Members by the number of tiles that they train on, the most first; equal ones in their order."""
    tiles = tables.read(session.workspace.tiles, tables.TILES, "01_preprocess.py")
    fold_of = dict(zip(session.folds["image_id"], session.folds["fold"], strict=True))
    folds: pd.Series = tiles["image_id"].map(fold_of)
    left_out = {member: 0 if member.fold == ALL_FOLDS else int((folds == member.fold).sum()) for member in members}
    return sorted(members, key=left_out.get)


Task = tuple[str, list[str], Path]  # name, command, log


def _task(member: Member, argv: list[str], session: Session) -> Task:
    fold = "all" if member.fold == ALL_FOLDS else str(member.fold)
    chosen = ["--train.folds", fold, "--train.seeds", str(member.seed)]
    command = [str(SCRIPT), *argv, *chosen, *ALONE]
    size = session.config.execution.per_member
    if size > 1:
        torchrun = ["--standalone", "--nproc_per_node", str(size), "--max-restarts", "3"]
        command = ["-m", "lib.execution.children", *torchrun, *command]
    return f"03: {member.name}", command, member.path.with_name(f"{member.path.name}.log.txt")


def _run(tasks: list[Task], config: Config) -> list[str]:
    """What went wrong with each task; empty texts where nothing did."""
    if executor() is not None:
        held = config.execution.lease + HELD_SECONDS  # the lost worker may have been on another machine
        arguments = [(name, command, {}, log, held) for name, command, log in tasks]
        return executor().map(run_child, arguments, "03 members", "member", [])
    groups = grouped(devices_of(config.execution), config.execution.per_member)
    free: queue.SimpleQueue = queue.SimpleQueue()
    for group in groups:
        free.put(group)

    def run(task: Task) -> str:
        group, (name, command, log) = free.get(), task
        try:
            return run_child(name, command, environment_for(group, config.execution.threads, len(groups)), log)
        finally:
            free.put(group)
            bar.update(1)

    bar = progress(len(tasks), "03 members", "member")
    with ThreadPoolExecutor(len(groups)) as pool:
        found = list(pool.map(run, tasks))
    bar.close()
    return found
