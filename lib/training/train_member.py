"""One member's training from start to end: its folder, its tiles, its trainer, its scores and done.json."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import nn

from lib.config import save
from lib.locks import Held
from lib.session import Session
from lib.stage import Stage
from lib.stages import member_stage
from lib.system.device import loading_processes
from lib.system.provenance import environment
from lib.training.autotune import autotune
from lib.training.distributed import ProcessGroup
from lib.training.member import (
    check_tables_and_tiles,
    make_data,
    make_trainer,
    member_inputs,
    pretraining,
    training_tiles,
)
from lib.training.member_folder import network_files_of, replace_member, start_member, training_place, write_identity
from lib.training.trainer import Trainer
from lib.workspace import ALL_FOLDS, Member, write_json


@dataclass(frozen=True)
class TrainingJob:
    """One member to train, and everything that its training needs."""

    member: Member
    session: Session
    """With the options of this member: under `train.time_limit` each member has its own training time."""
    processes: ProcessGroup
    remaining: int
    """Members that are still to be trained, this one included."""

    @cached_property
    def stage(self) -> Stage:
        config, workspace = self.session.config, self.session.workspace
        return member_stage(self.member, config, workspace, member_inputs(workspace, config))

    def is_finished(self) -> bool:
        """Whether the member was trained with exactly these options and files. All processes must ask."""
        return bool(self.processes.broadcast(self.stage.up_to_date()))

    def claim(self, left: list[Held]) -> bool:
        """Whether this call is to train the member. Of a member that another call trains, `left` gets the reason.

        All processes must ask.
        """
        return bool(self.processes.broadcast(self._claim(left) if self.processes.is_main else False))

    def _claim(self, left: list[Held]) -> bool:
        try:
            self.stage.claim()
        except Held as held:
            left.append(held)
            return False
        if self.stage.up_to_date(silent=True):  # another call has finished it since this one looked
            self.stage.release()
            return False
        return True


def tell_left(left: list[Held], trained: bool) -> None:
    """Say which members other calls train. Raises the first reason where this call found nothing to train."""
    if left and not trained:
        raise left[0]
    for held in left:
        print(f"note: {str(held).partition(';')[0]}", flush=True)


class MemberScorer(Protocol):
    """Scores one member on the validation images of its fold. Only the main process has one."""

    def score(self, network: nn.Module) -> float:
        """A score during training."""

    def final_scores(self) -> dict[str, object]:
        """The entries `score`, `scores` and `images` of done.json; `scores` is empty for a member of all images."""


Evaluate = Callable[[Session, Member, Trainer], MemberScorer]


def train_member(job: TrainingJob, evaluate: Evaluate) -> None:
    """Train a member, and put it in the place of an older one when it is complete.

    All processes train. Only the main process scores and writes. `evaluate(session, member, trainer)` makes the
    evaluation. Raises UserError where there is nothing to train on, or training diverges.
    """
    config, workspace, processes = job.session.config, job.session.workspace, job.processes
    with processes.main_first():
        if processes.is_main:
            check_tables_and_tiles(workspace, config)
        member = (start_member if processes.is_main else training_place)(job.member, job.stage, workspace)
    if processes.is_main:
        threads = torch.get_num_threads()
        write_json(member.path / "environment.json", {**environment(job.session.device), "threads": threads})
        save(config, member.path / "resolved.yaml")
    facts = run_training(replace(job, member=member), evaluate)
    processes.barrier()
    if not processes.is_main:
        return
    job.stage.begin()
    replace_member(member.path, job.member.path)
    networks = network_files_of(job.member.path)
    outputs = [job.member.path / name for name in ("done.json", "trained.json", "last_weights.pt")]
    job.stage.finish(outputs, kept=[outputs[1], *networks], **facts)  # scores are made anew without a training
    if config.clean.use and facts["scores"]:
        print("03: labels were judged by members that saw this fold's images; its OOF score is a little optimistic")
    score = f"OOF {facts['score']:.4f}" if facts["scores"] else "all images, so no OOF score of its own,"
    print(f"03: {job.member.name}: {score} after {facts['steps']} steps in {facts['seconds']:.0f} s "
          f"({facts['precision']})")  # fmt: skip


def run_training(job: TrainingJob, evaluate: Evaluate) -> dict:
    """Train a member in its folder and write done.json there.

    Returns done.json without the scores of single images; {} in a process that is not the main one.
    """
    started = time.monotonic()
    session, member, processes = job.session, job.member, job.processes
    config, channels = session.config, session.competition.channels
    tiles = training_tiles(session.workspace, session.folds, member.fold, config)
    first_part = pretraining(tiles, config)  # None where pseudo-labels are mixed with labels
    if first_part is not None:
        tiles, config = tiles[~tiles["pseudo"]], first_part.rest
    data = make_data(tiles, config, channels, member.seed, loading_processes(config.train.workers, session.device))
    with processes.main_first():
        config = autotune(session.workspace, config, channels, data, session.device)
    session = session.with_config(config)
    trainer = make_trainer(member, config, channels, data, processes)
    trainers = [trainer]
    if first_part is not None:
        trainers.append(first_part.run(trainer, member, channels, job.remaining))
    is_scored = member.fold != ALL_FOLDS
    if not processes.is_main:  # the main process broadcasts its score
        trainer.run((lambda network: 0.0) if is_scored else None, job.remaining)
        return {}
    evaluation = evaluate(session, member, trainer)
    trainer.run(evaluation.score if is_scored else None, job.remaining)
    write_identity(member.path)  # before the networks are loaded to be scored, which looks at it
    scores = evaluation.final_scores()
    facts = training_facts(trainers, time.monotonic() - started)
    write_json(member.path / "done.json", {**facts, **scores})
    return {"score": scores["score"], "scores": scores["scores"], **facts}


def training_facts(trainers: list[Trainer], elapsed: float) -> dict[str, object]:
    """Speed and length of a training, for done.json. `trainers`: of the member, then of its pretraining.

    `elapsed`: seconds of this process.
    """
    trainer = trainers[0]
    seconds = elapsed + sum(each.earlier_seconds for each in trainers)
    return {
        "seconds": round(seconds, 1),
        "beside_seconds": round(seconds - sum(each.seconds for each in trainers), 1),
        "train_seconds": round(trainer.seconds, 1),
        "steps": trainer.step,
        "skipped_steps": sum(each.guard.skipped for each in trainers),
        "precision": trainer.precision,
        "round": trainer.config.round,
        "batch_size": trainer.data.batch_size,
        **({"part_size": size} if (size := trainer.gradients.parts.size) else {}),
        "images_per_second": round(trainer.step * trainer.data.batch_size / max(trainer.seconds, 1e-9), 2),
        "waiting_share": round(trainer.waited / max(trainer.seconds, 1e-9), 3),
    }
