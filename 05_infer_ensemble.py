"""Stage 5: average the members, decide, write the submission.

    python 05_infer_ensemble.py configs/aerial.yaml
    python 05_infer_ensemble.py configs/aerial.yaml --infer.tta d4 --infer.window 768
    python 05_infer_ensemble.py configs/aerial.yaml --infer.experiments base base-r1 --infer.weights swa ema

    python 05_infer_ensemble.py configs/aerial.yaml --infer.window auto --infer.tta auto --infer.pays 0.002
    python 05_infer_ensemble.py configs/aerial.yaml --infer.members greedy --infer.decide priors --infer.time_limit 25m

First remakes the out-of-fold maps with exactly the windows, TTA, weights and averaging that the test
images will get (cached), and fits the mixture and the decision on them. Writes, in work/<name>/: decision.json,
submissions/<time>_<tag>.csv with a .json (what it was made from, how fast) and a .yaml beside it, a row of
submissions/ledger.csv, submission.csv (a copy), report/.
"""

import shutil
import time
from dataclasses import asdict
from pathlib import Path

STARTED = time.monotonic()  # the imports below take their seconds, too

from lib import ledger
from lib.competition.scoring import with_codecs_suffix
from lib.config import parse_command_line
from lib.errors import run_script
from lib.imaging.roi import check_boxes
from lib.inference.coarse import check_finders, coarse_members, share_looked_at, with_boxes
from lib.inference.fitting import Fitting, check_decide, fit_ensemble, judge_of, needs_maps, without_idle
from lib.inference.members import (
    Session,
    check_crops,
    check_gate,
    check_same_systems,
    chosen_parts,
    groups_of,
)
from lib.inference.out_of_fold import out_of_fold
from lib.inference.plan import in_time, planned, until_of
from lib.inference.settle import settled
from lib.inference.speed import TEST, Laps, speed_of
from lib.inference.submit import write_answers
from lib.provenance import code_version
from lib.report.ensemble import all_images_note, ensemble_rows, member_rows
from lib.report.failures import all_objects, class_rows, size_rows
from lib.report.findings import write_findings
from lib.report.page import update_report
from lib.report.speed import speed_rows
from lib.report.tables import text_table
from lib.report.trackers import open_tracker
from lib.stages import answer_stage
from lib.terminal import begin
from lib.workspace import file_fingerprint, replacing


def main(argv: list[str]) -> None:
    laps = Laps(STARTED)
    asked = parse_command_line(argv, "05_infer_ensemble.py")
    begin(asked)
    session = Session.open(asked)
    competition, workspace = session.competition, session.workspace
    ledger.read(workspace)  # a damaged one is told now, not after all the work
    competition.check_sample()  # it may be another one since 01
    judged, predicting = chosen_parts(session)
    systems = check_same_systems(judged)
    check_decide(asked, competition)
    check_gate(judged, asked)
    check_crops([*judged, *predicting], asked)
    check_boxes("infer.roi", asked.infer.roi, "test", competition.ids("test"))
    finders = coarse_members(session)
    check_finders(asked, finders, judged)
    session, trials = settled(session, judged)
    members = [part.member for part in [*judged, *predicting, *finders]]
    stage = answer_stage(session.config, workspace, competition, members)
    if stage.up_to_date():
        print(stage.record["facts"]["table"])
        print(f"05: {stage.record['facts']['answer']}")
        return
    stage.begin()

    # The decision, on out-of-fold maps made as the test maps will be.
    engine, windows = session.engine(judged), session.windows(judged[0])
    session = with_boxes(session, finders, windows)
    config, whole = session.config, needs_maps(session.config, len(systems))
    laps.end("start")
    session = in_time(session, judged, engine, whole)
    oof, fold_of, maps = out_of_fold(judged, session, engine, whole)
    laps.end("out-of-fold maps")
    fitted = fit_ensemble(Fitting(oof, maps, len(competition.label_names), config, workspace.root), fold_of)
    members = member_rows(judged, systems, oof, fitted, config)
    gains = ensemble_rows(members, oof, fitted, fold_of, config)
    objects = all_objects(oof, fitted.decision, session.images, competition)
    tables = [f"{text_table(trial['rows'])}\n{trial['note']}" for trial in trials]
    shown = (members, gains, class_rows(fitted.confusion, competition.label_names), size_rows(objects))
    tables += [text_table(rows) for rows in shown]
    if finders:
        share = share_looked_at(Path(config.infer.roi), session.images.query("split != 'unlabeled'"), windows)
        tables.append(f"regions leave {share:.1%} of all windows to be computed")
    if config.infer.folds == "all":
        tables.append(all_images_note(judged, predicting))
    laps.end("decision")

    # The answers: predicted, decided, encoded by bands of rows, then read back.
    test = session.images[session.images["split"] == "test"]
    parts, decision = without_idle(predicting, systems, fitted.decision)
    groups = groups_of(parts, session, engine, each=decision.mix is not None)
    planner = None
    if config.infer.time_limit:
        judge = judge_of(oof, fitted, config)
        planner = planned(groups, parts, systems, judge, session, engine, test, laps.started)
    laps.end("networks and plan")
    path = workspace.submissions / f"{time.strftime('%Y%m%d-%H%M%S')}_{config.infer.tag}.csv"
    path = with_codecs_suffix(path, config.competition)
    write_answers(path, test, groups, decision, config, competition, planner)
    late = planner.late_note(competition.label_names) if planner else ""
    answer = with_codecs_suffix(workspace.submission, config.competition)
    with workspace.lock("submission"):  # the decision is that of the answer beside it
        with replacing(answer) as temporary:
            shutil.copyfile(path, temporary)
        decided = decision.save(workspace.decision, check_same_systems(parts))
    laps.end(TEST)
    found = {"members": members, "ensemble": gains, "trials": trials}
    write_findings(oof, fitted, found, objects, session, until_of(session, laps.started))
    made_from = {part.member.name: file_fingerprint(part.member.trained) for part in [*parts, *judged]}
    laps.end("report")
    speed = speed_of(laps, groups, test, session.device, planner)
    about = {
        "made_from": made_from,
        "members": [part.name for part in parts], "judged": [part.name for part in judged],
        "decision": decided,
        "oof_score": decision.score, "oof_score_crossed": decision.cross_score, "seconds": laps.total(),
        "windows": [repr(group.windows) for group in groups], "tta": config.infer.tta, **asdict(engine),
        "speed": speed, "plan": planner.became() if planner else None, "code": code_version(),
    }  # fmt: skip
    ledger.record(workspace, path, config, about)
    track(session, path, about)
    table = "\n\n".join(tables)
    stage.finish([path, workspace.decision, answer], table=table, answer=f"{answer}{late}", **about)
    update_report(asked)
    print(f"{table}\n\n{text_table(speed_rows(speed))}")
    print(f"05: {len(test)} test images in {about['seconds']:.0f} s; {path}\n05: {answer}{late}")


def track(session: Session, path: Path, about: dict) -> None:
    """Tell the tracker of a submission and of all before it."""
    folder, names = session.workspace.submissions, session.competition.label_names
    tracker = open_tracker(session.config, f"submissions/{path.stem}", folder, names)
    scores = {"OOF score": about["oof_score"]}
    if about["oof_score_crossed"] is not None:
        scores["OOF score, crossed"] = about["oof_score_crossed"]
    tracker.numbers(0, {**scores, "seconds": about["seconds"]})
    tracker.table("ledger", ledger.read(session.workspace))
    tracker.finish()


if __name__ == "__main__":
    run_script(main)
