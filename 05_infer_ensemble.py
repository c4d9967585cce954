"""Stage 5: average the members, decide, write the submission.

    python 05_infer_ensemble.py configs/aerial.yaml
    python 05_infer_ensemble.py configs/aerial.yaml --infer.tta d4 --infer.window 768
    python 05_infer_ensemble.py configs/aerial.yaml --infer.experiments base base-r1 --infer.checkpoints swa ema

    python 05_infer_ensemble.py configs/aerial.yaml --infer.window auto --infer.tta auto --infer.min_gain 0.002
    python 05_infer_ensemble.py configs/aerial.yaml --infer.ensemble_weights greedy --infer.postprocess priors
    python 05_infer_ensemble.py configs/aerial.yaml --infer.time_limit 25m

First remakes the out-of-fold maps with exactly the windows, TTA, weights and averaging that the test
images will get (cached), and fits the mixture and the decision on them. Writes, in work/<name>/: decision.json,
submissions/<time>_<tag>.csv with a .json (what it was made from, how fast) and a .yaml beside it, a row of
submissions/ledger.csv, submission.csv (a copy), report/.
A call that was killed and is given again goes on with the test images that have no answer yet; under a time limit it
answers all of them anew.
"""

import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path

STARTED = time.monotonic()  # the imports below take their seconds, too

from lib.competition.scoring import with_codecs_suffix
from lib.config import Config
from lib.decision.constant import best_constant, warning_of
from lib.decision.fit import Fitted, Fitting, check_decide, fit_ensemble, mixture_scorer, needs_maps, without_idle
from lib.errors import run_script
from lib.imaging.roi import check_boxes
from lib.inference.backends.engines import Engine
from lib.inference.checkpoints import Checkpoint, check_same_models, choose_checkpoints
from lib.inference.members import check_crops, check_gate, choose_engine, scale_groups, trained_windows
from lib.oof.evaluate import Evaluation
from lib.oof.out_of_fold import out_of_fold
from lib.predict.answer_parts import KeptAnswers
from lib.predict.auto_views import settled
from lib.predict.coarse_to_fine import check_finders, coarse_members, share_looked_at, with_boxes
from lib.predict.speed import TEST, Laps, speed_of
from lib.predict.time_plan import in_time, planned, until_of
from lib.predict.unscored import answer_unscored
from lib.predict.write_submission import write_answers
from lib.report.ensemble import all_images_note, ensemble_rows, member_rows
from lib.report.failures import all_objects, class_rows, size_rows
from lib.report.findings import write_findings
from lib.report.page import update_report
from lib.report.speed import speed_rows
from lib.report.trackers import open_tracker
from lib.session import Session
from lib.stage import Stage
from lib.stages import adopt_report, answer_stage, report_stage
from lib.submissions import ledger
from lib.system.provenance import code_version
from lib.system.text_table import text_table
from lib.workspace import Workspace, file_fingerprint, replacing, short_hash


def main(argv: list[str]) -> None:
    laps = Laps(STARTED)
    session = Session.open(argv, "05_infer_ensemble.py")
    asked, competition, workspace = session.config, session.competition, session.workspace
    ledger.read_ledger(workspace)  # a damaged one is told now, not after all the work
    competition.check_sample()  # it may be another one since 01
    judged, predicting = choose_checkpoints(session)
    if not judged:
        answer_unscored(session, predicting, laps)
        update_report(asked)
        return
    systems = check_same_models(judged)
    check_decide(asked, competition)
    check_gate(judged, asked)
    check_crops([*judged, *predicting], asked)
    check_boxes("infer.roi", asked.infer.roi, "test", competition.ids("test"))
    finders = coarse_members(session)
    check_finders(asked, finders, judged)
    session, trials = settled(session, judged)
    members = [part.member for part in [*judged, *predicting, *finders]]
    stage = answer_stage(session.config, workspace, competition, members)
    shown = report_stage(asked, workspace)
    adopt_report(shown, stage, workspace.report / "oof.json")
    answered = stage.up_to_date()
    if answered and shown.up_to_date(silent=True):
        print(stage.record["facts"]["table"])
        print(f"05: {stage.record['facts']['answer']}")
        return
    if not answered:
        stage.begin()

    # The decision, on out-of-fold maps made as the test maps will be.
    engine, windows = choose_engine(session, judged), trained_windows(session, judged[0])
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
    rows = (members, gains, class_rows(fitted.confusion, competition.label_names), size_rows(objects))
    tables += [text_table(own) for own in rows]
    if finders:
        share = share_looked_at(Path(config.infer.roi), session.images.query("split != 'unlabeled'"), windows)
        tables.append(f"regions leave {share:.1%} of all windows to be computed")
    if config.infer.folds == "all":
        tables.append(all_images_note(judged, predicting))
    constant = best_constant(fitted.counts, config.competition)
    warning = warning_of(constant, fitted, config.competition)
    tables += [warning] if warning else []
    laps.end("decision")

    facts, path = stage.record.get("facts", {}), next(iter(stage.record.get("outputs", [])), "")
    if not answered:
        ensemble = judged, predicting, systems
        facts, path = answer_images(session, ensemble, engine, oof, fitted, stage, tables, laps)
    shown = report_stage(asked, workspace)
    found = {"members": members, "ensemble": gains, "trials": trials, "constant": constant.score, "warning": warning}
    write_findings(oof, fitted, found, objects, session, until_of(session, laps.started))
    shown.finish([workspace.report / "oof.json"])
    update_report(asked)
    print(f"{facts['table']}\n\n{text_table(speed_rows(facts['speed']))}")
    print(f"05: {facts['speed']['images']} test images in {facts['seconds']:.0f} s; {path}")
    print(f"05: {facts['answer']}")


def answer_images(
    session: Session, ensemble: tuple[list[Checkpoint], list[Checkpoint], list[str]], engine: Engine, oof: Evaluation,
    fitted: Fitted, stage: Stage, tables: list[str], laps: Laps,
) -> tuple[dict, Path]:  # fmt: skip
    """The answers: predicted, decided, encoded by bands of rows, then read back, and noted in ledger and manifest.

    `ensemble`: parts that are judged and that predict, and their systems; `tables`: to be shown. Returns the manifest's
    facts and the file of answers.
    """
    judged, predicting, systems = ensemble
    config, competition, workspace = session.config, session.competition, session.workspace
    test = session.images[session.images["split"] == "test"]
    parts, decision = without_idle(predicting, systems, fitted.decision)
    groups = scale_groups(session, parts, engine, per_model=decision.mix is not None)
    planner = None
    if config.infer.time_limit:
        scorer = mixture_scorer(oof, fitted, config)
        planner = planned(groups, parts, systems, scorer, session, engine, test, laps.started)
    laps.end("networks and plan")
    written = with_codecs_suffix(workspace.submissions / f".{os.getpid()}.csv", config.competition)
    made_of = [stage.now, asdict(decision), [repr(group.windows) for group in groups], repr(engine)]
    kept = None if planner else workspace.root / "answers" / short_hash(made_of)
    write_answers(written, test, groups, decision, config, competition, planner, kept)
    late = planner.late_note(competition.label_names) if planner else ""
    answer = with_codecs_suffix(workspace.submission, config.competition)
    with workspace.lock("submission"):  # its name is its own, and the decision that of the answer beside it
        path = new_name(workspace, config)
        written.replace(path)
        with replacing(answer) as temporary:
            shutil.copyfile(path, temporary)
        decided = decision.save(workspace.decision, check_same_models(parts))
    laps.end(TEST)
    made_from = {part.member.name: file_fingerprint(part.member.trained) for part in [*parts, *judged]}
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
    table = "\n\n".join(tables)
    outputs = [path, workspace.decision, answer]
    facts = {"table": table, "answer": f"{answer}{late}", **about}
    stage.finish(outputs, **facts)
    KeptAnswers(kept).clear()
    track(session, path, about)
    return facts, path


def new_name(workspace: Workspace, config: Config) -> Path:
    """A file of submissions/ that does not exist yet, named by the time and `infer.tag`."""
    while True:
        name = f"{time.strftime('%Y%m%d-%H%M%S')}_{config.infer.tag}.csv"
        path = with_codecs_suffix(workspace.submissions / name, config.competition)
        if not path.exists():
            return path
        time.sleep(0.1)


def track(session: Session, path: Path, about: dict) -> None:
    """Tell the tracker of a submission and of all before it."""
    folder, names = session.workspace.submissions, session.competition.label_names
    tracker = open_tracker(session.config, f"submissions/{path.stem}", folder, names)
    scores = {"OOF score": about["oof_score"]}
    if about["oof_score_crossed"] is not None:
        scores["OOF score, crossed"] = about["oof_score_crossed"]
    tracker.numbers(0, {**scores, "seconds": about["seconds"]})
    tracker.table("ledger", ledger.read_ledger(session.workspace))
    tracker.finish()


if __name__ == "__main__":
    run_script(main)
