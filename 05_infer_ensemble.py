"""Stage 5: average the members, decide, write the submission.

    python 05_infer_ensemble.py configs/aerial.yaml
    python 05_infer_ensemble.py configs/aerial.yaml --infer.tta d4 --infer.window 768
    python 05_infer_ensemble.py configs/aerial.yaml --infer.experiments base base-r1 --infer.checkpoints swa ema

    python 05_infer_ensemble.py configs/aerial.yaml --infer.window auto --infer.tta auto --infer.min_gain 0.002
    python 05_infer_ensemble.py configs/aerial.yaml --infer.ensemble_weights greedy --infer.postprocess priors
    python 05_infer_ensemble.py configs/aerial.yaml --infer.time_limit 25m

First it predicts out-of-fold maps with exactly the windows, TTA, weights and averaging of the test images, and fits the
ensemble weights and the decision on them. The maps are cached. It writes to work/<name>/:

    submissions/<time>_<tag>.csv    the answer, with a .json (what it was made from, its speed) and a .yaml beside it
    submission.csv                  a copy of the latest answer
    submissions/ledger.csv          one row for each answer
    decision.json, report/          the decision; the report

Run the same command again after an interruption: it continues with the test images that have no answer yet. Under a
time limit, it answers all of them again.
"""

import time

STARTED = time.monotonic()  # before the imports, because their seconds count for `infer.time_limit`

from lib.errors import run_script
from lib.predict.answer_images import answer_images
from lib.predict.auto_views import resolve_auto
from lib.predict.choose_ensemble import choose_ensemble
from lib.predict.evaluate_ensemble import evaluate_ensemble
from lib.predict.speed import Laps
from lib.predict.time_plan import until_of
from lib.predict.unscored import answer_unscored
from lib.report.findings import write_findings
from lib.report.page import update_report
from lib.report.summary import closing_text, summarize, track_submission
from lib.session import Session
from lib.stages import adopt_report, answer_stage, report_stage


def main(argv: list[str]) -> None:
    laps, session = Laps(STARTED), Session.open(argv, "05_infer_ensemble.py")
    options, workspace, choice = session.config, session.workspace, choose_ensemble(session)
    if not choice.evaluated:
        answer_unscored(session, choice.predicting, laps)
        update_report(options)
        return
    session, trials = resolve_auto(session, choice.evaluated)
    answers = answer_stage(session.config, workspace, session.competition, choice.members)
    report = report_stage(options, workspace)
    adopt_report(report, answers, workspace.report / "oof.json")
    if not answers.up_to_date():
        answers.begin()
    elif report.up_to_date(silent=True):
        print(f"{answers.record['facts'].get('table', '')}\n05: {answers.record['facts'].get('answer', '')}")
        return
    evaluated = evaluate_ensemble(session, choice, laps)
    summary = summarize(evaluated, trials)
    laps.end("decision")
    if not answers.record:
        facts, path = answer_images(evaluated, answers, summary.text, laps)
        track_submission(evaluated, path, facts)
    write_findings(evaluated, summary, until_of(session, laps.started))
    report_stage(options, workspace).finish([workspace.report / "oof.json"])
    update_report(options)
    print(closing_text(answers.record))


if __name__ == "__main__":
    run_script(main)
