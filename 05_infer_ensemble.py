"""Stage 5: average the members, decide, write the submission.

    python 05_infer_ensemble.py configs/aerial.yaml
    python 05_infer_ensemble.py configs/aerial.yaml --infer.tta d4 --infer.window 768
    python 05_infer_ensemble.py configs/aerial.yaml --infer.experiments base base-r1 --infer.weights swa ema

First remakes the out-of-fold maps with exactly the windows, TTA, weights and averaging that the test
images will get (cached), and fits the decision on them. Writes, in work/<name>/: decision.json,
submissions/<time>_<tag>.csv with a .json beside it, submission.csv (a copy), report/*.jpg.
"""

import shutil
import subprocess
import time
from pathlib import Path

import numpy as np

import lib.competition.codecs  # noqa: F401  (registers the codecs)
from lib import tables
from lib.competition import metrics
from lib.competition.dataset import Competition
from lib.config import flat, parse_command_line
from lib.config.load import workspace_of
from lib.errors import run_script
from lib.inference.decision import best_threshold, fit_decision
from lib.inference.evaluate import background_fill
from lib.inference.forward import Ensemble
from lib.inference.members import (
    Part,
    check_same_systems,
    infer_precision,
    out_of_fold,
    source_of,
    windows_of,
)
from lib.inference.predictor import predict
from lib.inference.show import show_predictions
from lib.plugins import find, load_plugins
from lib.pseudo.rounds import round_experiment
from lib.report.tables import text_table
from lib.training.checkpoint import load_network
from lib.training.device import pick_device
from lib.workspace import Workspace, read_json, replacing, write_json


def main(argv: list[str]) -> None:
    started = time.monotonic()
    config = parse_command_line(argv, "05_infer_ensemble.py")
    load_plugins(config.plugins)
    competition = Competition(config.competition)
    workspace = Workspace(workspace_of(config))
    device = pick_device(config.train.device)
    images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
    folds = tables.read(workspace.folds, tables.FOLDS, "02_make_folds.py")
    members = workspace.members(config.infer.experiments or [last_experiment(config, workspace)])
    parts = [Part(member, weights) for member in members for weights in config.infer.weights]
    systems = check_same_systems(parts)
    stage = workspace.stage(
        "05_infer_ensemble",
        {**flat(config.infer, "infer."), **flat(config.report, "report.")},
        [workspace.images, workspace.folds, *(member.path / "done.json" for member in members)],
    )
    if stage.up_to_date():
        print(stage.record["facts"]["table"])
        print(f"05: {workspace.submission}")
        return
    stage.begin()

    def load(part: Part):
        return load_network(part.member.path, part.weights, device)

    precision = infer_precision(config, workspace, load(parts[0]), device)
    oof, fold_of = out_of_fold(parts, folds, images, config, competition, workspace, load, device, precision)
    search = config.infer.threshold == "fit"
    decision = fit_decision(oof, len(systems), fold_of, config.competition, search)
    rows = member_rows(parts, systems, oof, config, search)
    summary = compare_with_ensemble(rows, decision)

    sources = [source_of(config, r.image_id, r.path) for r in images[images["split"] == "test"].itertuples()]
    forward = Ensemble([load(part) for part in parts], device, tta=config.infer.tta, precision=precision)
    codec = find("codec", config.competition.submission.codec, "competition.submission.codec")(
        config.competition, competition.sample, competition.label_names
    )
    write_answers(codec, sources, forward, decision, config, competition)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}_{config.infer.tag}"
    path = workspace.submissions / f"{name}.csv"
    codec.write(path)
    codec.read(path, {r.image_id: (r.height, r.width) for r in images[images["split"] == "test"].itertuples()})
    show_predictions(parts, folds, images, config, competition, workspace, load, decision, device, precision)

    decision.save(workspace.decision)
    seconds = round(time.monotonic() - started, 1)
    table = f"{text_table(rows)}\n\n{text_table(summary)}"
    about = {
        "members": [part.name for part in parts], "decision": read_json(workspace.decision, {}),
        "oof_score": decision.score, "oof_score_crossed": decision.cross_score, "seconds": seconds,
        "windows": repr(windows_of(config)), "tta": config.infer.tta, "precision": precision, "code": code_version(),
    }  # fmt: skip
    write_json(path.with_suffix(".json"), about)
    with replacing(workspace.submission) as temporary:
        shutil.copyfile(path, temporary)
    stage.finish([path, workspace.decision, workspace.submission], table=table, **about)
    print(table)
    print(f"05: {len(sources)} test images in {seconds:.0f} s; {path}\n05: {workspace.submission}")


def last_experiment(config, workspace: Workspace) -> str:
    """The experiment of the last pseudo-label round that was trained."""
    for round_ in range(max(config.pseudo.rounds, config.train.round), 0, -1):
        name = round_experiment(config.train.experiment, round_)
        if any(workspace.runs.glob(f"{name}/*/done.json")):
            return name
    return config.train.experiment


def member_rows(parts: list[Part], systems: list[str], oof, config, search: bool) -> list[dict]:
    """Each system's out-of-fold score over all folds' images, by its own threshold, and its training time."""
    rows = []
    everything = np.ones(len(oof.image_ids), bool)
    for i, system in enumerate(systems):
        threshold = best_threshold(oof, i, everything, config.competition) if oof.binary and search else 128
        own = [part for part in parts if part.system == system]
        seconds = sum(read_json(part.member.path / "done.json", {})["seconds"] for part in own)
        score = metrics.score(config.competition, oof.confusions(i, threshold))
        rows.append({"member": system, "folds": len(own), "OOF score": score, "seconds": float(seconds)})
    return rows


def compare_with_ensemble(rows: list[dict], decision) -> list[dict]:
    """Best and mean member against the ensemble."""
    scores = [row["OOF score"] for row in rows]
    out = [
        {"": "best member", "OOF score": max(scores)},
        {"": "mean member", "OOF score": sum(scores) / len(scores)},
        {"": "ensemble", "OOF score": decision.score},
    ]
    if decision.threshold is not None:
        out += [
            {"": "ensemble, threshold fitted on other folds", "OOF score": decision.cross_score},
            {"": "ensemble, threshold 0.5", "OOF score": decision.half_score},
            {"": "threshold", "OOF score": decision.threshold / 255},
        ]
    return out


def write_answers(codec, sources: list, forward, decision, config, competition: Competition) -> None:
    """Predict the test images and hand their labels to the codec, band by band."""
    fill = background_fill(competition.channels, len(competition.label_names))
    bands = predict(
        sources, forward, windows_of(config), fill, forward.systems, config.infer.batch_size, config.infer.max_gib,
        description="05 test images",
    )  # fmt: skip
    for first in bands:

        def labels(first=first):
            band = first
            while True:
                yield band.y0, decision.apply(band.probs[0])
                if band.last:
                    return
                band = next(bands)

        codec.add(first.image_id, first.height, first.width, labels())


def code_version() -> str:
    """The git commit, with a + when files were changed since; empty outside a repository."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    run_script(main)
