"""`train.time_limit`: which members a call trains, and for how long each, so that all of them end in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.config import Config, saved_values
from lib.config.units import duration
from lib.data.folds import ONE_GROUP
from lib.errors import UserError
from lib.session import Session
from lib.stage import Stage
from lib.stages import member_stage
from lib.system.device import machine_of
from lib.tables import validation_folds
from lib.training.distributed import ProcessGroup
from lib.training.member import member_inputs
from lib.training.train_member import TrainingJob
from lib.workspace import ALL_FOLDS, Member, Workspace, read_json, round_experiment, short_hash

BY_THE_CLOCK = ("train.member_limit", "train.checkpoints")  # options that `train.time_limit` chooses
EPOCHS_KEPT = 4  # checkpoints of the only member that time is left for


def requested_members(session: Session) -> list[Member]:
    """The members that `train.folds` and `train.seeds` ask for, seed by seed. Raises UserError on an unknown fold."""
    train, workspace = session.config.train, session.workspace
    known = validation_folds(session.folds["fold"].tolist())
    unknown = sorted(set(train.folds) - {*known, "all"})
    if unknown:
        raise UserError(f"train.folds names fold {unknown[0]}, but {workspace.folds} has {known}")
    if not known and set(train.folds) != {"all"}:
        raise UserError(f"{workspace.folds} has no fold to validate on: {ONE_GROUP}")
    experiment = round_experiment(train.experiment, train.round)
    folds = [ALL_FOLDS if fold == "all" else fold for fold in train.folds or known]
    return [
        Member(experiment, fold, seed, workspace.member_dir(experiment, fold, seed))
        for seed in train.seeds for fold in folds
    ]  # fmt: skip


def training_jobs(
    session: Session,
    processes: ProcessGroup,
    members: list[Member],
    scoring_time: Callable[[Session, int], float],
    started: float,
) -> Iterator[TrainingJob]:
    """A job for each of `members`; with `train.time_limit` for as many as there is time for, each with its own time.

    Ask for the next job after the one before is finished: its time depends on how long the others took.
    `scoring_time(session, fold)`: seconds in which a member is scored. `started`: when the process began (monotonic).
    """
    if not session.config.train.time_limit:
        for number, member in enumerate(members):
            yield TrainingJob(member, session, processes, len(members) - number)
        return
    members = with_judges(members, session.workspace)
    with processes.main_first():  # the others read what the main process measured
        budget = _budget(session, members, scoring_time, started)
    for number, member in enumerate(budget.members):
        update = {"member_limit": processes.broadcast(budget.seconds(member) if processes.is_main else 0.0)}
        if len(budget.members) == 1 < len(members):
            update["checkpoints"] = max(EPOCHS_KEPT, session.config.train.checkpoints)
            print("03: one member is left; it keeps checkpoints, which 05 averages with --infer.checkpoints epochs")
        if member.fold == ALL_FOLDS:
            update |= trained_alike(member, session.workspace, update["member_limit"])
        train = session.config.train.model_copy(update=update)
        own = session.with_config(session.config.model_copy(update={"train": train}))
        yield TrainingJob(member, own, processes, len(budget.members) - number)


def _budget(
    session: Session, members: list[Member], scoring_time: Callable[[Session, int], float], started: float
) -> Budget:
    config, workspace = session.config, session.workspace
    scoring = scoring_time(session, max(member.fold for member in members))  # members of all images are not scored
    inputs = member_inputs(workspace, config)
    stages = {member.name: member_stage(member, config, workspace, inputs) for member in members}
    made_from = [*(stage.now for stage in stages.values()), machine_of(session.device)]
    budget = Budget(config, workspace, members, scoring, started, made_from)
    budget.adopt(stages)
    return budget


def fitting(members: list[Member], limit: float, overhead: float, shortest: float) -> list[Member]:
    """The members that can train for `shortest` seconds each; at least one.

    Whole seeds go first, the last one first, since each seed needs all folds to be averaged; then the last folds.
    """
    count = max(1, int(limit // (shortest + overhead)))
    if count >= len(members):
        return members
    seeds = list(dict.fromkeys(member.seed for member in members))
    folds = len({member.fold for member in members})
    kept = seeds[: max(1, count // folds)]
    return [member for member in members if member.seed in kept][:count]


def with_judges(members: list[Member], workspace: Workspace) -> list[Member]:
    """The members without those of all images that no fold's member of their seed, trained or to be trained, judges;
    all of them where none would be left."""
    judged = {member.seed for member in members if member.fold != ALL_FOLDS}
    kept = [m for m in members if m.fold != ALL_FOLDS or m.seed in judged or folds_members(m, workspace)]
    return kept or members


def trained_alike(member: Member, workspace: Workspace, limit: float) -> dict[str, object]:
    """Options of `train` for a member of all images: those of the folds' members that judge it, as far as `limit`, its
    own seconds, allows."""
    trained = [saved_values(path / "resolved.yaml")["train"] for path in folds_members(member, workspace)]
    if not trained:
        return {}
    longest = max(options["member_limit"] for options in trained) or limit
    return {"member_limit": min(limit, longest), "checkpoints": max(options["checkpoints"] for options in trained)}


def folds_members(member: Member, workspace: Workspace) -> list[Path]:
    """Folders of the folds' finished members of the same experiment and seed."""
    runs = (workspace.runs / member.experiment).glob(f"fold*_seed{member.seed}/done.json")
    return sorted(done.parent for done in runs)


def _trained_for(seconds: float, stage: Stage) -> bool:
    """Whether a member is finished, and differs from what it would be now by its training time alone."""
    record = stage.record
    made_from = record.get("made_from", {})
    if not made_from or made_from["option train.member_limit"] != seconds:
        return False
    chosen = {key: stage.now[key] for key in (f"option {name}" for name in BY_THE_CLOCK)}
    return not stage.differs_from({**made_from, **chosen}, record.get("format", 1))


class Budget:
    """Shares a call's time among its members; what was given once is written down and given again."""

    def __init__(
        self,
        config: Config,
        workspace: Workspace,
        members: list[Member],
        overhead: float,
        started: float | None = None,
        made_from: object = None,
    ):
        """`overhead`: seconds of a member beside its training, as far as known before one is trained; `started`: when
        the call began (monotonic), now if nobody says; `made_from`: the options, data and machine that members are
        trained with. A call that differs in any of them shares its time anew."""
        self.limit, self.shortest = config.train.time_limit, config.train.min_member_time
        self.started = time.monotonic() if started is None else started
        # What a member does last, its report, takes about as long as what the call did first.
        self.begun = time.monotonic() - self.started
        self.overhead = overhead + self.begun
        self.workspace = workspace
        asked = short_hash([[member.name for member in members], self.shortest, made_from])
        self.about = f"train.time_limit {duration(self.limit)} {members[0].experiment} "
        self.key = self.about + asked
        self.given: dict[str, float] = dict(workspace.choice(self.key) or {})
        self.members = members
        if not self.given:
            self.members = fitting(members, self.limit - self.begun, self.overhead, self.shortest)
            self._write({member.name: 0.0 for member in self.members})
        else:
            self.members = [member for member in members if member.name in self.given]
        if len(self.members) < len(members):
            enough = f"enough for {len(self.members)} of {len(members)} members"
            print(f"03: train.time_limit {duration(self.limit)} is {enough}")

    def adopt(self, stages: dict[str, Stage]) -> None:
        """Give finished members the time that an earlier version gave them, so that they are not trained again.

        Its choice has another name, because options were added or renamed. `stages`: by the members' names.
        """
        if any(self.given.values()):
            return
        for key, given in self.workspace.choices.all().items():
            same_members = key.startswith(self.about) and set(given) == set(self.given)
            if same_members and any(_trained_for(given[name], stages[name]) for name in given):
                self._write(given)

    def seconds(self, member: Member) -> float:
        """Training time of a member: its share of what those before it left."""
        if not self.given[member.name]:
            # A member that this call gave no time to was trained before, or is still to come.
            done = [facts for other in self.members if (facts := self._facts(other))]
            spent = self.begun + sum(facts["seconds"] for facts in done)  # of killed calls, too
            left = self.limit - max(spent, time.monotonic() - self.started)
            seen = [facts["beside_seconds"] + self.begun for facts in done if "beside_seconds" in facts]
            share = left / (len(self.members) - len(done)) - max(seen, default=self.overhead)
            self._write({**self.given, member.name: max(1.0, round(share, 1))})
        return self.given[member.name]

    def _facts(self, member: Member) -> dict:
        """What a member that was trained in the time it was given says; empty where it was not, or by other options."""
        given, begun = self.given[member.name], read_json(member.path / "begun.json", {})
        ours = member.fold == ALL_FOLDS or begun.get("option train.member_limit", given) == given
        return read_json(member.path / "done.json", {}) if given and ours else {}

    def _write(self, given: dict[str, float]) -> None:
        self.given = given
        self.workspace.choose(self.key, given)
