"""Answers without out-of-fold scores, where every member has seen all training images (one image, or one group).

Nothing can be fitted or chosen. The threshold is 0.5 for one class, and for each of classes that overlap; argmax
decides among others.
"""

from __future__ import annotations

from lib.competition.scoring import with_codecs_suffix
from lib.decision.decision import Decision
from lib.files import temporary_name
from lib.inference.checkpoints import Checkpoint
from lib.inference.members import choose_engine, load_ensemble
from lib.oof.codes import HALF
from lib.predict.answer_images import publish, record_submission
from lib.predict.speed import TEST, Laps
from lib.predict.write_submission import AnswerWriter
from lib.session import Session
from lib.stages import answer_stage

NOTE = (
    "there is no out-of-fold score, because folds.csv validates no image: the threshold is 0.5 (argmax for classes "
    "that exclude one another), and the quality of the answer was not measured"
)


def answer_unscored(session: Session, checkpoints: list[Checkpoint], laps: Laps) -> None:
    """Stage 05 where no image is validated: predict, decide, write the answers, and say that they have no score."""
    config, workspace, competition = session.config, session.workspace, session.competition
    stage = answer_stage(config, workspace, competition, [checkpoint.member for checkpoint in checkpoints])
    if stage.up_to_date():
        print(f"05: {stage.record['facts']['table']}\n05: {stage.record['facts']['answer']}")
        return
    stage.begin()
    ensemble = load_ensemble(session, checkpoints, choose_engine(session, checkpoints))
    settings = config.competition
    decision = Decision((HALF,) * settings.channels if settings.binary else None)
    laps.end("networks and plan")
    written = with_codecs_suffix(temporary_name(workspace.submissions / "answer.csv"), config.competition)
    test = session.images[session.images["split"] == "test"]
    AnswerWriter(session, ensemble.groups, decision).write(written, test)
    submission = publish(session, written, decision, checkpoints)
    laps.end(TEST)
    about = record_submission(session, submission, ensemble, [], laps)
    outputs = [submission.path, workspace.decision, submission.copy]
    stage.finish(outputs, table=NOTE, answer=str(submission.copy), **about)
    print(f"05: {NOTE}")
    print(f"05: {len(test)} test images in {about['seconds']:.0f} s; {submission.path}\n05: {submission.copy}")
