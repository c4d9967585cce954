"""Chooses the checkpoints of a run of 05: to evaluate, to predict test images, and to find regions."""

from __future__ import annotations

from dataclasses import dataclass

from lib.decision.fit import check_decide
from lib.errors import UserError
from lib.imaging.roi import check_boxes
from lib.inference.checkpoints import Checkpoint, check_same_models, choose_checkpoints
from lib.inference.members import check_crops, check_gate
from lib.predict.coarse_to_fine import check_finders, coarse_members
from lib.session import Session
from lib.submissions.ledger import read_ledger
from lib.workspace import Member


@dataclass(frozen=True)
class EnsembleChoice:
    """The checkpoints of an ensemble by their use.

    `evaluated`: scored on out-of-fold maps; empty where folds.csv validates no image. `predicting`: predict the test
    images. `finders`: find the regions of `infer.roi coarse`. `models`: names of the evaluated models.
    """

    evaluated: list[Checkpoint]
    predicting: list[Checkpoint]
    finders: list[Checkpoint]
    models: list[str]

    @property
    def members(self) -> list[Member]:
        return [checkpoint.member for checkpoint in [*self.evaluated, *self.predicting, *self.finders]]


def choose_ensemble(session: Session) -> EnsembleChoice:
    """The checkpoints that the options name.

    Raises UserError where the ledger is damaged, the sample submission does not fit the test images, members are
    missing, or an option asks for what they or the competition cannot do.
    """
    config, competition = session.config, session.competition
    read_ledger(session.workspace)  # a damaged ledger is reported now, not after hours of work
    competition.check_sample()  # the sample and the test images may have changed since 01
    evaluated, predicting = choose_checkpoints(session)
    models = check_same_models(evaluated or predicting)
    if evaluated:
        check_decide(config)
        check_gate(evaluated, config)
    else:
        check_unscored_options(session)
    check_crops([*evaluated, *predicting], config)
    check_boxes("infer.roi", config.infer.roi, "test", competition.ids("test"))
    finders = coarse_members(session) if evaluated else []
    check_finders(config, finders, evaluated)
    return EnsembleChoice(evaluated, predicting, finders, models)


def check_unscored_options(session: Session) -> None:
    """Raises UserError where `infer` asks for what is fitted or tried on out-of-fold maps."""
    infer = session.config.infer
    wrong = {
        "infer.window auto": infer.window == "auto",
        "infer.tta auto": infer.tta == "auto",
        f"infer.ensemble_weights {infer.ensemble_weights}": infer.ensemble_weights != "equal",
        f"infer.averaging {infer.averaging}": infer.averaging != "arithmetic",
        f"infer.postprocess {' '.join(infer.postprocess)}": bool(infer.postprocess),
        f"infer.gate {infer.gate}": infer.gated,
        "infer.roi coarse": infer.roi == "coarse",
        "infer.time_limit": bool(infer.time_limit),
    }
    for name in (name for name, chosen in wrong.items() if chosen):
        raise UserError(
            f"{name} needs out-of-fold scores, and {session.workspace.folds} validates no image; leave the option out"
        )
