"""Which members a call trains, and for how long each, so that all of them finish within `train.time_limit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.config import Config, saved_sections
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

TIME_OPTIONS = ("train.member_limit", "train.checkpoints")  # that `train.time_limit` sets
MIN_CHECKPOINTS = 4  # of a member that is the only one that there is time for; 05 averages them


def requested_members(session: Session) -> list[Member]:
    """The members that `train.folds` and `train.seeds` name, seed by seed. Raises UserError on an unknown fold."""
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
    """One job for each of `members`. With `train.time_limit`, only for the members that there is time for.

    Finish a job before asking for the next one: its training time depends on how long the earlier ones took.
    `scoring_time(session, fold)`: estimated seconds in which a trained member is scored. `started`: when the process
    began (monotonic).
    """
    if not session.config.train.time_limit:
        for number, member in enumerate(members):
            yield TrainingJob(member, session, processes, len(members) - number)
        return
    members = with_references(members, session.workspace)
    with processes.main_first():  # the others read what the main process measured
        budget = _budget(session, members, scoring_time, started)
    for number, member in enumerate(budget.members):
        update = {"member_limit": processes.broadcast(budget.seconds(member) if processes.is_main else 0.0)}
        if len(budget.members) == 1 < len(members):
            update["checkpoints"] = max(MIN_CHECKPOINTS, session.config.train.checkpoints)
            print("03: one member is left; it keeps checkpoints, which 05 averages with --infer.checkpoints epochs")
        if member.fold == ALL_FOLDS:
            update |= fold_member_options(member, session.workspace, update["member_limit"])
        train = session.config.train.model_copy(update=update)
        limited = session.with_config(session.config.model_copy(update={"train": train}))
        yield TrainingJob(member, limited, processes, len(budget.members) - number)


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


def members_in_time(members: list[Member], limit: float, overhead: float, min_seconds: float) -> list[Member]:
    """The members that can train for `min_seconds` each; at least one. `overhead`: seconds beside each training.

    Whole seeds are left out first, the last seed first, because a seed is averaged over all its folds. Then the last
    folds are left out.
    """
    count = max(1, int(limit // (min_seconds + overhead)))
    if count >= len(members):
        return members
    seeds = list(dict.fromkeys(member.seed for member in members))
    folds = len({member.fold for member in members})
    first_seeds = seeds[: max(1, count // folds)]
    return [member for member in members if member.seed in first_seeds][:count]


def with_references(members: list[Member], workspace: Workspace) -> list[Member]:
    """The members without those of all images whose seed has no fold member, trained or to be trained.

    A member of all images has no score of its own: the fold members of its seed stand for it. All members are returned
    where none would be left.
    """
    seeds = {member.seed for member in members if member.fold != ALL_FOLDS}
    validated = [m for m in members if m.fold != ALL_FOLDS or m.seed in seeds or fold_members(m, workspace)]
    return validated or members


def fold_member_options(member: Member, workspace: Workspace, limit: float) -> dict[str, object]:
    """Training time and checkpoints for a member of all images: those of the fold members of its seed.

    `limit`: seconds that the member may train at most.
    """
    files = [path / "resolved.yaml" for path in fold_members(member, workspace)]
    trained = [saved_sections(file, ("train",))["train"] for file in files]
    if not trained:
        return {}
    longest = max(options.member_limit for options in trained) or limit
    return {"member_limit": min(limit, longest), "checkpoints": max(options.checkpoints for options in trained)}


def fold_members(member: Member, workspace: Workspace) -> list[Path]:
    """Folders of the finished fold members of the same experiment and seed."""
    return [one.path for one in workspace.fold_members(member.experiment) if one.seed == member.seed]


def _trained_for(seconds: float, stage: Stage) -> bool:
    """Whether a member is finished and was made as it would be now, except for options that depend on its time."""
    record = stage.record
    made_from = record.get("made_from", {})
    if not made_from or made_from["option train.member_limit"] != seconds:
        return False
    chosen = {key: stage.now[key] for key in (f"option {name}" for name in TIME_OPTIONS)}
    return not stage.differs_from({**made_from, **chosen}, record.get("format", 1))


class Budget:
    """Divides `train.time_limit` among the members. Training times are saved, and used again by a resumed call.

    budget = Budget(config, workspace, members, overhead=30.0)
    for member in budget.members:  # those that there is time for
        budget.seconds(member)
    """

    def __init__(
        self,
        config: Config,
        workspace: Workspace,
        members: list[Member],
        overhead: float,
        started: float | None = None,
        made_from: object = None,
    ):
        """`overhead`: estimated seconds of a member beside its training. `started`: when the call began (monotonic);
        None: now. `made_from`: options, data and machine of the members; another value divides the time anew."""
        self.limit, min_seconds = config.train.time_limit, config.train.min_member_time
        self.started = time.monotonic() if started is None else started
        # The report at the end of a member takes about as long as the start of the call.
        self.startup = time.monotonic() - self.started
        self.overhead = overhead + self.startup
        self.workspace = workspace
        call = short_hash([[member.name for member in members], min_seconds, made_from])
        self.key_prefix = f"train.time_limit {duration(self.limit)} {members[0].experiment} "
        self.key = self.key_prefix + call
        self.given: dict[str, float] = dict(workspace.choice(self.key) or {})  # member -> seconds; 0: not yet known
        self.members = members
        if not self.given:
            self.members = members_in_time(members, self.limit - self.startup, self.overhead, min_seconds)
            self._save({member.name: 0.0 for member in self.members})
        else:
            self.members = [member for member in members if member.name in self.given]
        if len(self.members) < len(members):
            enough = f"enough for {len(self.members)} of {len(members)} members"
            print(f"03: train.time_limit {duration(self.limit)} is {enough}")

    def adopt(self, stages: dict[str, Stage]) -> None:
        """Give finished members the time that an earlier version of the code gave them, so that they stay valid.

        The earlier version saved its choice under another key, because options were added or renamed since.
        `stages`: member name -> its stage.
        """
        if any(self.given.values()):
            return
        for key, given in self.workspace.choices.all().items():
            same_members = key.startswith(self.key_prefix) and set(given) == set(self.given)
            if same_members and any(_trained_for(given[name], stages[name]) for name in given):
                self._save(given)

    def seconds(self, member: Member) -> float:
        """Training time of a member: an equal share of the time that the finished members left."""
        if not self.given[member.name]:
            # Members that this call gave no time to were trained earlier, or are still to be trained.
            done = [facts for other in self.members if (facts := self._facts(other))]
            spent = self.startup + sum(facts["seconds"] for facts in done)  # of interrupted calls, too
            left = self.limit - max(spent, time.monotonic() - self.started)
            overheads = [facts["beside_seconds"] + self.startup for facts in done if "beside_seconds" in facts]
            share = left / (len(self.members) - len(done)) - max(overheads, default=self.overhead)
            self._save({**self.given, member.name: max(1.0, round(share, 1))})
        return self.given[member.name]

    def _facts(self, member: Member) -> dict:
        """done.json of a member that was trained in the time given to it; {} where it was not."""
        given, options = self.given[member.name], read_json(member.path / "begun.json", {})
        same = member.fold == ALL_FOLDS or options.get("option train.member_limit", given) == given
        return read_json(member.path / "done.json", {}) if given and same else {}

    def _save(self, given: dict[str, float]) -> None:
        self.given = given
        self.workspace.choose(self.key, given)
