"""Checkpoints: a member with one kind of its weights. Each is one network of the ensemble."""

from __future__ import annotations

from dataclasses import dataclass

from lib.artifacts.schemas import kind_of
from lib.config import Config, saved_sections
from lib.data.folds import ONE_GROUP
from lib.errors import UserError
from lib.session import Session
from lib.tables import validation_folds
from lib.training.rounds import chosen_experiment
from lib.workspace import Member, Workspace, file_fingerprint


@dataclass(frozen=True)
class Checkpoint:
    """A member with one kind of its weights, for example `swa`."""

    member: Member
    weights: str

    @property
    def name(self) -> str:
        return f"{self.member.name} {self.weights}"

    @property
    def stamp(self) -> str:
        """A text that changes when the network does."""
        return f"{self.name} {file_fingerprint(self.member.trained)}"

    @property
    def model(self) -> str:
        """The name of the model: experiment, seed and weights, the same for all folds."""
        return f"{self.member.experiment} seed{self.member.seed} {self.weights}"


def checkpoints_of(members: list[Member], weights: list[str]) -> list[Checkpoint]:
    """Every member with every kind of weights. The kind `epochs` gives one checkpoint for each saved epoch.

    Raises UserError where `epochs` is wanted and a member saved none.
    """
    checkpoints = []
    for member in members:
        for kind in weights:
            if kind != "epochs":
                checkpoints.append(Checkpoint(member, kind))
                continue
            saved = len(list(member.path.glob("checkpoint*_weights.pt")))
            if not saved:
                raise UserError(f"infer.checkpoints epochs: {member.name} saved no checkpoints; train it again, for "
                                "example with train.checkpoints 4")  # fmt: skip
            checkpoints += [Checkpoint(member, f"checkpoint{i + 1}") for i in range(saved)]
    return checkpoints


def named_checkpoints(names: list[str], workspace: Workspace) -> list[Checkpoint]:
    """The checkpoints with these names. Raises UserError when a member is gone."""
    checkpoints = []
    for name in names:
        member_name, weights = name.rsplit(" ", 1)
        experiment, _, folder = member_name.rpartition("/")
        members = workspace.members([experiment], folder.startswith("all_"))
        member = next((member for member in members if member.name == member_name), None)
        if member is None:
            raise UserError(f"{workspace.runs / experiment} no longer holds {folder}; train it, then run 05 again")
        checkpoints.append(Checkpoint(member, weights))
    return checkpoints


def choose_checkpoints(session: Session) -> tuple[list[Checkpoint], list[Checkpoint]]:
    """(checkpoints that are evaluated on out-of-fold maps, checkpoints that predict test images).

    Both are the same unless `infer.folds` is `all`. Then members that were trained on all images predict, and the
    folds' members of the same models are evaluated in their place. Nothing is evaluated where folds.csv validates no
    image. Raises UserError when there are none.
    """
    config, workspace = session.config, session.workspace
    experiments = config.infer.experiments or [chosen_experiment(config, workspace)]
    if (session.folds["fold"] < 0).all():
        if config.infer.folds != "all":
            raise UserError(f"{workspace.folds} has no fold to validate on: {ONE_GROUP}")
        return [], checkpoints_of(workspace.members(experiments, of_all=True), config.infer.checkpoints)
    members = known_folds(workspace.members(experiments), session)
    of_folds = checkpoints_of(members, config.infer.checkpoints)
    if config.infer.folds == "each":
        return of_folds, of_folds
    of_all = checkpoints_of(workspace.members(experiments, of_all=True), config.infer.checkpoints)
    models = {checkpoint.model for checkpoint in of_folds}
    predicting = [checkpoint for checkpoint in of_all if checkpoint.model in models]
    if not predicting:
        raise UserError(
            f"infer.folds all: {of_all[0].name} predicts test images, and no fold has a member of the same model that "
            f"could be scored; train one fold with train.seeds {of_all[0].member.seed} too"
        )
    for checkpoint in of_all:
        if checkpoint not in predicting:
            print(f"05: {checkpoint.name} is left out: no fold has a member of the same model that could be scored")
    models = {checkpoint.model for checkpoint in predicting}
    return [checkpoint for checkpoint in of_folds if checkpoint.model in models], predicting


def known_folds(members: list[Member], session: Session) -> list[Member]:
    """The members whose fold is still one of folds.csv. The others were trained on other folds: a note names them.

    Raises UserError where none is left.
    """
    folds = validation_folds(session.folds["fold"])
    for member in (member for member in members if member.fold not in folds):
        print(f"note: {member.name} is left out, because {session.workspace.folds} has the folds {folds} only")
    known = [member for member in members if member.fold in folds]
    if not known:
        raise UserError(f"no member belongs to a fold of {session.workspace.folds}; run 03_train.py")
    return known


def check_same_models(checkpoints: list[Checkpoint]) -> list[str]:
    """Names of the models. Raises UserError unless every fold has all of them, because averages must be comparable."""
    folds = sorted({checkpoint.member.fold for checkpoint in checkpoints})
    names = list(dict.fromkeys(checkpoint.model for checkpoint in checkpoints))
    for name in names:
        trained = sorted(checkpoint.member.fold for checkpoint in checkpoints if checkpoint.model == name)
        if trained != folds:
            raise UserError(
                f"the ensemble is incomplete: {name} has folds {trained}, other models have {folds}; train the missing "
                "members, or choose others with infer.experiments"
            )
    return names


def trained_with(member: Member, config: Config) -> Config:
    """`config` with the sections `preprocess`, `model` and `train` that the member was made with.

    These decide the windows that it sees. Raises UserError where this version cannot use an option of them, and where
    the file was deleted; members of early versions have none.
    """
    path = member.path / "resolved.yaml"
    if not path.exists():
        if (member.path / "trained.json").is_file():
            raise UserError(f"{path}, the options that {member.name} was trained with, is gone; {kind_of(path).remedy}")
        return config
    return config.model_copy(update=saved_sections(path, ("preprocess", "model", "train")))
