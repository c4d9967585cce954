"""Scores an ensemble on out-of-fold maps and fits the decision on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.decision.constant import Constant, best_constant, warning_of
from lib.decision.ensemble_weights import MixtureScorer
from lib.decision.fit import Fitted, Fitting, fit_ensemble, mixture_scorer, needs_maps
from lib.inference.backends.engines import Engine
from lib.inference.members import choose_engine, trained_windows
from lib.oof.evaluation import Evaluation
from lib.oof.out_of_fold import out_of_fold
from lib.predict.choose_ensemble import EnsembleChoice
from lib.predict.coarse_to_fine import with_boxes
from lib.predict.speed import Laps
from lib.predict.time_plan import limit_images
from lib.session import Session


@dataclass(frozen=True)
class EvaluatedEnsemble:
    """An ensemble that was evaluated on out-of-fold maps of N images.

    `session`: with the regions that were found, and with the folds of these N images. `oof`: counts of every model and,
    last, of the ensemble. `fold_of` (N,): each image's fold. `fitted`: the decision and its scores. `constant`: the
    best answer without any network. `warning`: a sentence where the ensemble is not better than that, else empty.
    """

    session: Session
    choice: EnsembleChoice
    engine: Engine
    oof: Evaluation
    fold_of: np.ndarray
    fitted: Fitted
    constant: Constant
    warning: str

    def scorer(self) -> MixtureScorer:
        return mixture_scorer(self.oof, self.fitted, self.session.config)


def evaluate_ensemble(session: Session, choice: EnsembleChoice, laps: Laps) -> EvaluatedEnsemble:
    """Make out-of-fold maps exactly as the test maps will be made, and fit the decision on them.

    With `infer.roi coarse`, regions are found first. Under `infer.time_limit`, only as many images are predicted as
    there is time for.
    """
    engine, windows = choose_engine(session, choice.evaluated), trained_windows(session, choice.evaluated[0])
    session = with_boxes(session, choice.finders, windows)
    laps.end("start")
    config, competition = session.config, session.competition
    whole_maps = needs_maps(config, len(choice.models))
    session = limit_images(session, choice.evaluated, engine, whole_maps)
    oof, fold_of, maps = out_of_fold(session, choice.evaluated, engine, whole_maps)
    laps.end("out-of-fold maps")
    fitting = Fitting(oof, maps, len(competition.label_names), config, session.workspace.root)
    fitted = fit_ensemble(fitting, fold_of)
    constant = best_constant(oof, config.competition)
    warning = warning_of(constant, fitted, config.competition)
    return EvaluatedEnsemble(session, choice, engine, oof, fold_of, fitted, constant, warning)
