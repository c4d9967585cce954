"""Stage 5: average the members, decide, write the submission.

    python 05_infer_ensemble.py configs/aerial.yaml
    python 05_infer_ensemble.py configs/aerial.yaml --infer.tta d4 --infer.window 768
    python 05_infer_ensemble.py configs/aerial.yaml --infer.experiments base base-r1 --infer.weights swa ema

    python 05_infer_ensemble.py configs/aerial.yaml --infer.members greedy --infer.decide priors --infer.time_limit 25m

First remakes the out-of-fold maps with exactly the windows, TTA, weights and averaging that the test
images will get (cached), and fits the mixture and the decision on them. Writes, in work/<name>/: decision.json,
submissions/<time>_<tag>.csv with a .json (what it was made from, how fast) and a .yaml beside it, a row of
submissions/ledger.csv, submission.csv (a copy), report/.
"""

import math
import shutil
import time
from dataclasses import asdict
from pathlib import Path

from lib import ledger, tables
from lib.competition.dataset import Competition
from lib.competition.scoring import with_codecs_suffix
from lib.config import flat, parse_command_line
from lib.config.load import workspace_of
from lib.errors import run_script
from lib.inference.coarse import check_finders, coarse_members, share_looked_at, with_boxes
from lib.inference.evaluate import background_fill
from lib.inference.fitting import Fitting, check_decide, fit_ensemble, judge_of, needs_maps, without_idle
from lib.inference.members import (
    Part,
    check_same_systems,
    groups_of,
    infer_engine,
    maps_hash,
    out_of_fold,
    parts_of,
    roi_file,
    source_of,
    trained_with,
    windows_of,
)
from lib.inference.pace import RESERVE, Plan, Planner, images_in_time, limit_key
from lib.inference.speed import TEST, Laps, speed_of
from lib.inference.submit import write_answers
from lib.plugins import load_plugins
from lib.provenance import code_version
from lib.pseudo.rounds import chosen_experiment
from lib.report.ensemble import ensemble_rows, member_rows
from lib.report.failures import class_rows, shown_objects, size_rows
from lib.report.findings import write_findings
from lib.report.page import update_report
from lib.report.speed import speed_rows
from lib.report.tables import text_table
from lib.terminal import begin
from lib.training.checkpoint import load_network
from lib.training.device import pick_device
from lib.workspace import Workspace, file_fingerprint, read_json, replacing


def main(argv: list[str]) -> None:
    laps = Laps()
    config = parse_command_line(argv, "05_infer_ensemble.py")
    begin(config)
    load_plugins(config.plugins)
    competition = Competition(config.competition)
    workspace = Workspace(workspace_of(config))
    device = pick_device(config.train.device)
    images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
    folds = tables.read(workspace.folds, tables.FOLDS, "02_make_folds.py")
    members = workspace.members(config.infer.experiments or [chosen_experiment(config, workspace)])
    parts = parts_of(members, config.infer.weights)
    systems = check_same_systems(parts)
    check_decide(config, competition)
    finders = coarse_members(config, competition, workspace)
    check_finders(config, finders, parts)
    stage = workspace.stage(
        "05_infer_ensemble",
        {
            **flat(config.infer, "infer."),
            **flat(config.report, "report."),
            "competition.metric": config.competition.metric,
            "competition.score_background": config.competition.score_background,
            **flat(config.competition.scoring, "competition.scoring."),
            **flat(config.competition.submission, "competition.submission."),
            "preprocess.blank_tolerance": config.preprocess.blank_tolerance,
        },
        [
            workspace.images,
            workspace.folds,
            *(part.member.path / "done.json" for part in [*parts, *finders]),
            *roi_file(config),
        ],
    )
    if stage.up_to_date():
        print(stage.record["facts"]["table"])
        print(f"05: {stage.record['facts']['answer']}")
        return
    stage.begin()

    def load(part: Part):
        return load_network(part.member.path, part.weights, device, config.infer.gate)

    # The decision, on out-of-fold maps made as the test maps will be.
    first = trained_with(parts[0].member, config)
    engine = infer_engine(first, workspace, load(parts[0]), device, images, len(parts))
    config = with_boxes(
        config, finders, folds, images, competition, workspace, load, device, windows_of(first)
    )  # fmt: skip
    whole = needs_maps(config, len(systems))
    laps.end("start")
    folds = images_in_time(parts, folds, images, config, workspace, load, device, engine, whole)
    oof, fold_of, maps = out_of_fold(
        parts, folds, images, config, competition, workspace, load, device, engine, whole
    )  # fmt: skip
    laps.end("out-of-fold maps")
    group_of = folds.set_index("image_id").loc[oof.image_ids, "group"].to_numpy()
    fitted = fit_ensemble(Fitting(oof, maps, len(competition.label_names), config, workspace.root), fold_of)
    decision = fitted.decision
    rows = member_rows(parts, systems, oof, fitted, config)
    gains = ensemble_rows(rows, oof, fitted, fold_of, group_of, config)
    objects = shown_objects(oof, decision, images, competition)
    table = "\n\n".join(text_table(part) for part in (
        rows, gains,
        class_rows(fitted.confusions.sum(0), competition.label_names),
        size_rows(objects),
    ))  # fmt: skip
    if finders:
        share = share_looked_at(Path(config.infer.roi), images[images["split"] != "unlabeled"], windows_of(first))
        table += f"\n\nregions leave {share:.1%} of all windows to be computed"
    laps.end("decision")

    # The answers: predicted, decided, encoded by bands of rows, then read back.
    test = images[images["split"] == "test"]
    sources = [source_of(config, image.image_id, image.path) for image in test.itertuples()]
    parts, decision = without_idle(parts, systems, decision)
    groups = groups_of(parts, config, load, device, engine, each=decision.mix is not None)
    limit, ids = config.infer.time_limit, list(test["image_id"])
    until = laps.started + (1 - RESERVE) * limit if limit else math.inf
    beside = f"seconds beside networks {maps_hash(parts, ids, config, workspace, engine)}"
    if limit:
        judge, fill = judge_of(oof, fitted, config), background_fill(competition.channels, len(competition.label_names))
        planner = Planner(groups, parts, config, test, until, workspace.choice(beside) or 0.0)
        key = limit_key("plan", parts, ids, config, workspace, engine)
        plan = Plan(**workspace.choose_once(key, lambda: asdict(planner.plan(systems, judge, sources))))
        groups = planner.follow(plan, fill)
    laps.end("networks and plan")
    path = workspace.submissions / f"{time.strftime('%Y%m%d-%H%M%S')}_{config.infer.tag}.csv"
    path = with_codecs_suffix(path, config.competition)
    write_answers(path, test, groups, decision, config, competition)
    answer = with_codecs_suffix(workspace.submission, config.competition)
    with replacing(answer) as temporary:
        shutil.copyfile(path, temporary)
    laps.end(TEST)

    decision.save(workspace.decision, check_same_systems(parts))
    write_findings(
        oof, fitted, rows, gains, objects, folds, config.report.pictures, images, competition, workspace, until
    )  # fmt: skip
    laps.end("report")
    speed = speed_of(laps, groups, test, device)
    workspace.choose(beside, speed["test_seconds"] - speed["network_seconds"])
    seconds = round(time.monotonic() - laps.started, 1)
    about = {
        "made_from": {part.member.name: file_fingerprint(part.member.path / "done.json") for part in parts},
        "members": [part.name for part in parts], "decision": read_json(workspace.decision, {}),
        "oof_score": decision.score, "oof_score_crossed": decision.cross_score, "seconds": seconds,
        "windows": [repr(group.windows) for group in groups], "tta": config.infer.tta, **asdict(engine),
        "speed": speed, "plan": planner.became(plan) if limit else None, "code": code_version(),
    }  # fmt: skip
    ledger.record(workspace, path, config, about)
    stage.finish([path, workspace.decision, answer], table=table, answer=str(answer), **about)
    update_report(config)
    print(f"{table}\n\n{text_table(speed_rows(speed))}")
    print(f"05: {len(test)} test images in {seconds:.0f} s; {path}\n05: {answer}")


if __name__ == "__main__":
    run_script(main)
