"""Writes the answers of test images and their record: submissions/, decision.json, the ledger and the manifest."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from lib.competition.scoring import with_codecs_suffix
from lib.config import Config
from lib.decision.decision import Decision
from lib.decision.fit import without_idle
from lib.execution.executor import compute_each, executor
from lib.files import short_hash, temporary_name
from lib.inference.backends.engines import Engine
from lib.inference.checkpoints import Checkpoint, check_same_models
from lib.inference.members import LoadedEnsemble, load_ensemble
from lib.predict.answer_parts import AnswerParts
from lib.predict.evaluate_ensemble import EvaluatedEnsemble
from lib.predict.speed import TEST, Laps, speed_of
from lib.predict.time_plan import Planner, plan_time
from lib.predict.write_submission import AnswerWriter
from lib.session import Session
from lib.stage import Stage
from lib.submissions import ledger
from lib.system.provenance import code_version
from lib.workspace import Workspace, file_fingerprint, replacing


@dataclass(frozen=True)
class WrittenSubmission:
    """The file of answers in submissions/, its copy submission.csv, and the content of decision.json."""

    path: Path
    copy: Path
    decision: dict


def publish(session: Session, written: Path, decision: Decision, checkpoints: list[Checkpoint]) -> WrittenSubmission:
    """Name a finished file of answers, copy it to submission.csv, and save its decision. `written`: the file now."""
    workspace, config = session.workspace, session.config
    copy = with_codecs_suffix(workspace.submission, config.competition)
    with workspace.lock("submission"):  # the copy and the decision must be of the same run
        path = new_name(workspace, config)
        written.replace(path)
        with replacing(copy) as temporary:
            shutil.copyfile(path, temporary)
        return WrittenSubmission(path, copy, decision.save(workspace.decision, check_same_models(checkpoints)))


def new_name(workspace: Workspace, config: Config) -> Path:
    """A file of submissions/ that does not exist yet, named by the time and `infer.tag`."""
    while True:
        name = f"{time.strftime('%Y%m%d-%H%M%S')}_{config.infer.tag}.csv"
        path = with_codecs_suffix(workspace.submissions / name, config.competition)
        if not path.exists():
            return path
        time.sleep(0.1)


def record_submission(
    session: Session, submission: WrittenSubmission, ensemble: LoadedEnsemble, evaluated: list[Checkpoint], laps: Laps,
    planner: Planner | None = None,
) -> dict:  # fmt: skip
    """Note a submission in the ledger and in a .json beside its file. Returns the facts that were noted.

    `evaluated`: the checkpoints whose out-of-fold maps the decision and its score come from.
    """
    made_from = [checkpoint.member for checkpoint in [*ensemble.checkpoints, *evaluated]]
    images = session.images[session.images["split"] == "test"]
    about = {
        "made_from": {member.name: file_fingerprint(member.trained) for member in made_from},
        "members": [checkpoint.name for checkpoint in ensemble.checkpoints],
        "judged": [checkpoint.name for checkpoint in evaluated],
        "decision": submission.decision,
        "oof_score": submission.decision["score"] if evaluated else None,
        "oof_score_crossed": submission.decision["cross_score"],
        "seconds": laps.total(),
        "windows": [repr(group.windows) for group in ensemble.groups],
        "tta": session.config.infer.tta, **asdict(ensemble.engine),
        "speed": speed_of(laps, ensemble.groups, images, session.device, planner),
        "plan": planner.summary() if planner else None, "code": code_version(),
    }  # fmt: skip
    ledger.record(session.workspace, submission.path, session.config, about)
    return about


def answer_apart(writer: AnswerWriter, checkpoints: list[Checkpoint], engine: Engine, images: pd.DataFrame) -> None:
    """Have the workers of the cluster save the parts of the answers that are not saved yet."""
    about = writer.session, checkpoints, engine, writer.decision, writer.parts, images
    compute_each(_answer_part, [(about, number) for number in writer.missing_parts(images)], "05 test images", "part")


def _answer_part(about: tuple, number: int) -> None:
    session, checkpoints, engine, decision, parts, images = about
    ensemble = load_ensemble(session, checkpoints, engine, per_model=decision.mix is not None)
    AnswerWriter(session, ensemble.groups, decision, None, parts).make_part(images, number)


def answer_images(evaluated: EvaluatedEnsemble, stage: Stage, table: str, laps: Laps) -> tuple[dict, Path]:
    """Predict the test images and write the submission, its record and the manifest of `stage`.

    `table`: the tables of scores, which the manifest keeps. Returns the manifest's facts and the submission's file.
    """
    session, choice = evaluated.session, evaluated.choice
    workspace, competition = session.workspace, session.config.competition
    test = session.images[session.images["split"] == "test"]
    checkpoints, decision = without_idle(choice.predicting, choice.models, evaluated.fitted.decision)
    ensemble = load_ensemble(session, checkpoints, evaluated.engine, per_model=decision.mix is not None)
    planner = None
    if session.config.infer.time_limit:
        planner = plan_time(session, ensemble, choice.models, evaluated.scorer(), test, laps.started)
    laps.end("networks and plan")
    made_from = [
        stage.now, asdict(decision), [repr(group.windows) for group in ensemble.groups], repr(ensemble.engine)
    ]  # fmt: skip
    parts = None if planner else workspace.root / "answers" / short_hash(made_from)
    written = with_codecs_suffix(temporary_name(workspace.submissions / "answer.csv"), competition)
    writer = AnswerWriter(session, ensemble.groups, decision, planner, parts)
    if executor() is not None and not planner:
        answer_apart(writer, checkpoints, evaluated.engine, test)
    writer.write(written, test)
    submission = publish(session, written, decision, checkpoints)
    laps.end(TEST)
    about = record_submission(session, submission, ensemble, choice.evaluated, laps, planner)
    late = planner.late_note() if planner else ""
    facts = {"table": table, "answer": f"{submission.copy}{late}", **about}
    stage.finish([submission.path, workspace.decision, submission.copy], **facts)
    AnswerParts(parts).clear()
    return facts, submission.path
