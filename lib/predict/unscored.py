"""Answers without out-of-fold scores: one image, or one group, of which no member could be kept from.

Nothing can be fitted or chosen, so one class is decided at 0.5 and several by argmax, and nothing is tried.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict

from lib.competition.scoring import with_codecs_suffix
from lib.decision.decision import Decision
from lib.errors import UserError
from lib.imaging.roi import check_boxes
from lib.inference.checkpoints import Checkpoint, check_same_models
from lib.inference.members import check_crops, check_gate, choose_engine, scale_groups
from lib.oof.evaluate import HALF
from lib.predict.speed import TEST, Laps, speed_of
from lib.predict.write_submission import write_answers
from lib.session import Session
from lib.stages import answer_stage
from lib.submissions import ledger
from lib.system.provenance import code_version
from lib.workspace import file_fingerprint, replacing

NOTE = (
    "there is no out-of-fold score, because folds.csv validates no image: the threshold is 0.5 (argmax of several "
    "classes), and how good the answer is was not measured"
)


def answer_unscored(session: Session, parts: list[Checkpoint], laps: Laps) -> None:
    """What 05 does where nothing is validated: predict, decide, write the answer, and say that it has no score.

    Raises UserError where an option asks for what only scores can tell.
    """
    asked, workspace, competition = session.config, session.workspace, session.competition
    systems = check_same_models(parts)
    check_options(session)
    check_gate(parts, asked)
    check_crops(parts, asked)
    check_boxes("infer.roi", asked.infer.roi, "test", competition.ids("test"))
    stage = answer_stage(asked, workspace, competition, [part.member for part in parts])
    if stage.up_to_date():
        print(f"05: {stage.record['facts']['table']}\n05: {stage.record['facts']['answer']}")
        return
    stage.begin()
    test = session.images[session.images["split"] == "test"]
    engine = choose_engine(session, parts)
    groups = scale_groups(session, parts, engine)
    decision = Decision(HALF if competition.channels == 1 else None)
    laps.end("networks and plan")
    path = workspace.submissions / f"{time.strftime('%Y%m%d-%H%M%S')}_{asked.infer.tag}.csv"
    path = with_codecs_suffix(path, asked.competition)
    write_answers(path, test, groups, decision, asked, competition)
    answer = with_codecs_suffix(workspace.submission, asked.competition)
    with workspace.lock("submission"):
        with replacing(answer) as temporary:
            shutil.copyfile(path, temporary)
        decided = decision.save(workspace.decision, systems)
    laps.end(TEST)
    about = {
        "made_from": {part.member.name: file_fingerprint(part.member.trained) for part in parts},
        "members": [part.name for part in parts], "judged": [], "decision": decided,
        "oof_score": None, "oof_score_crossed": None, "seconds": laps.total(),
        "windows": [repr(group.windows) for group in groups], "tta": asked.infer.tta, **asdict(engine),
        "speed": speed_of(laps, groups, test, session.device), "plan": None, "code": code_version(),
    }  # fmt: skip
    ledger.record(workspace, path, asked, about)
    stage.finish([path, workspace.decision, answer], table=NOTE, answer=str(answer), **about)
    print(f"05: {NOTE}")
    print(f"05: {len(test)} test images in {about['seconds']:.0f} s; {path}\n05: {answer}")


def check_options(session: Session) -> None:
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
