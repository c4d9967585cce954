"""The tables of scores that 05 prints, and what they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.inference.members import trained_windows
from lib.predict.coarse_to_fine import share_in_boxes
from lib.predict.evaluate_ensemble import EvaluatedEnsemble
from lib.report.ensemble import all_images_note, ensemble_rows, member_rows
from lib.report.failures import all_objects, class_rows, size_rows
from lib.report.speed import speed_rows
from lib.report.trackers import open_tracker
from lib.submissions.ledger import read_ledger
from lib.system.text_table import text_table


@dataclass(frozen=True)
class Summary:
    """`findings`: rows and numbers for the report, by name; `objects`: of all images; `text`: the printed tables."""

    findings: dict[str, object]
    objects: pd.DataFrame
    text: str


def summarize(evaluated: EvaluatedEnsemble, trials: list[dict]) -> Summary:
    """Scores of members, ensemble, classes and object sizes.

    `trials`: what `infer.window auto` and `infer.tta auto` found.
    """
    session, choice, oof, fitted = evaluated.session, evaluated.choice, evaluated.oof, evaluated.fitted
    config, competition = session.config, session.competition
    members = member_rows(choice.evaluated, choice.models, oof, fitted, config)
    gains = ensemble_rows(members, oof, fitted, evaluated.fold_of, config)
    objects = all_objects(oof, fitted.decision, session.images, competition)
    tables = [f"{text_table(trial['rows'])}\n{trial['note']}" for trial in trials]
    classes = class_rows(fitted.tables, competition.label_names, oof.overlap)
    tables += [text_table(rows) for rows in (members, gains, classes, size_rows(objects))]
    if choice.finders:
        images, windows = session.images.query("split != 'unlabeled'"), trained_windows(session, choice.evaluated[0])
        share = share_in_boxes(Path(config.infer.roi), images, windows)
        tables.append(f"regions leave {share:.1%} of all windows to be computed")
    if config.infer.folds == "all":
        tables.append(all_images_note(choice.evaluated, choice.predicting))
    if evaluated.warning:
        tables.append(evaluated.warning)
    findings = {
        "members": members, "ensemble": gains, "trials": trials, "constant": evaluated.constant.score,
        "warning": evaluated.warning,
    }  # fmt: skip
    return Summary(findings, objects, "\n\n".join(tables))


def track_submission(evaluated: EvaluatedEnsemble, path: Path, facts: dict) -> None:
    """Send a submission's scores, and the ledger of all, to the tracker."""
    session = evaluated.session
    folder, names = session.workspace.submissions, session.competition.label_names
    tracker = open_tracker(session.config, f"submissions/{path.stem}", folder, names)
    scores = {"OOF score": facts["oof_score"]}
    if facts["oof_score_crossed"] is not None:
        scores["OOF score, crossed"] = facts["oof_score_crossed"]
    tracker.numbers(0, {**scores, "seconds": facts["seconds"]})
    tracker.table("ledger", read_ledger(session.workspace))
    tracker.finish()


def closing_text(record: dict) -> str:
    """The last lines of a run of 05, from the manifest of its answers."""
    facts, path = record["facts"], record["outputs"][0]
    return (
        f"{facts['table']}\n\n{text_table(speed_rows(facts['speed']))}\n"
        f"05: {facts['speed']['images']} test images in {facts['seconds']:.0f} s; {path}\n05: {facts['answer']}"
    )
