"""What external data is worth: a fold's labeled images as if they came from elsewhere, half as large, labels as masks.

    python benchmarks/external.py configs/retina.yaml -- --competition.root ../data/retina

Run it with the Python of the solution. Options after `--` go to the scripts. Members are scored on the first fold; the
images of the last one (three are needed) are left out, or written as another organiser might: PNGs of half the size
beside masks of label indices. Every arm is one member, trained for `--seconds` by the clock on one CPU thread:

    without    on the folds between alone
    external   and on the source of `competition.external`, at `scale: 0.5`
    half       the same with `weight: 0.5`
    own        on all folds but the first, as usual: what the same images are worth in full size

For each arm: mean ± standard error of the paired differences to `without` over the seeds; `helps` or `hurts` when there
are at least three pairs and the mean is more than two standard errors from 0, else `not shown`. Finished members are
lines of benchmarks/results/external.jsonl, and not trained again while the YAML and the options are the same. Folds
and tiles of each arm are in a workspace of its own. The last line printed is JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import effects, settings, trials
from benchmarks.settings import Setting, parse, parser_of
from benchmarks.trial_log import RESULTS, Budget, Log, expected_seconds, key_of
from lib import tables
from lib.competition.dataset import Competition
from lib.config.load import workspace_of
from lib.errors import UserError, run_script
from lib.imaging.reader import open_image
from lib.plugins import load_plugins
from lib.workspace import Workspace, short_hash, write_table

LOG = Log(RESULTS / "external.jsonl")
NAME = "elsewhere"
ARMS = {"without": None, "external": 1.0, "half": 0.5, "own": None}  # weight of the source


def main(argv: list[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    args = parse(parser, argv)
    setting, budget = Setting.of(args.config, args.given), Budget(args.budget)
    trials.prepare(setting)
    if len(setting.folds()) < 3:
        raise UserError(f"benchmarks/external.py needs three folds; {setting.path} has {setting.folds()} (folds.k)")
    source = write_source(setting)
    found: dict[str, dict[int, float]] = {arm: {} for arm in ARMS}
    for seed in args.seeds:
        for arm in ARMS:
            score = trial(setting, arm, seed, args.seconds, source, budget)
            if score is not None:
                found[arm][seed] = score
    report(setting, found, args.seconds)


def write_source(setting: Setting) -> Path:
    """The last fold's images at half the size and their labels as indices, in a folder of their own; its path."""
    config = setting.config()
    load_plugins(config.plugins)
    competition, last = Competition(config.competition), setting.folds()[-1]
    table = tables.read(Workspace(workspace_of(config)).folds, tables.FOLDS, "02_make_folds.py")
    chosen = set(table.loc[table["fold"] == last, "image_id"])
    # Other folds' images must not be in it: one of them is validated on.
    folder = settings.WORK / f"{setting.name}--{NAME}-{short_hash(sorted(chosen))}"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for image in competition.images:
        if image.image_id not in chosen or (folder / f"masks/{image.image_id}.png").exists():
            continue
        with open_image(image.path, config.competition.pixels) as reader:
            height, width = reader.height, reader.width
            pixels = reader.shrunk(height // 2, width // 2, 0, 0, height, width)
        label = competition.open_label(image, height, width).read(0, 0, height, width)
        label = cv2.resize(label, (width // 2, height // 2), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"images/{image.image_id}.png"), pixels[:, :, ::-1])
        cv2.imwrite(str(folder / f"masks/{image.image_id}.png"), label)
    return folder


def trial(setting: Setting, arm: str, seed: int, seconds: float, source: Path, budget: Budget) -> float | None:
    """The score of an arm's member, from the log where it is there; None where it does not fit the budget."""
    options = {"train.threads": "1"}
    if (weight := ARMS[arm]) is not None:
        labels = "{format: mask_images, path: masks, other: ignore}"
        about = f"name: {NAME}, root: {source}, labels: {labels}, scale: 0.5, weight: {weight}"
        options["competition.external"] = f"[{{{about}}}]"
    first, *_, last = setting.folds()
    key = key_of(setting.name, arm, seed, first, seconds, setting.hash({}))
    if line := LOG.latest().get(key):
        return line["score"]
    if not budget.fits(expected_seconds(LOG.lines(), "train", setting.name, seconds)):
        print(f"-- {arm}, seed {seed}: not begun, it does not fit the budget", flush=True)
        return None
    print(f"-- {arm}, seed {seed}", flush=True)
    home = f"external-{arm}"
    trials.run("01_preprocess.py", *setting.flags(options, home))
    trials.run("02_make_folds.py", *setting.flags(options, home))
    if arm != "own":  # the last fold's images are kept from the member
        path = Workspace(workspace_of(setting.config(workspace=home))).folds
        table = tables.read(path, tables.FOLDS, "02_make_folds.py")
        table.loc[table["fold"] == last, "kept_from"] = str(first)
        write_table(path, table, "benchmarks/external.py")
    training = trials.Training(f"external_{seconds:g}s", first, seed, seconds)
    result = trials.train(setting, training, options, home)
    about = {"competition": setting.name, "arm": arm, "kind": "train", "fold": first, "seed": seed, "seconds": seconds}
    LOG.add({"key": key, **about, **result})
    return result["score"]


def report(setting: Setting, found: dict[str, dict[int, float]], seconds: float) -> None:
    """Print a table with a row for each arm, and all of it as one JSON line."""
    arms = {}
    print(f"\n| {setting.name} | score | against without |\n|---|---|---|")
    for arm, scores in found.items():
        pairs = [score - found["without"][seed] for seed, score in scores.items() if seed in found["without"]]
        effect = effects.paired_effect(pairs) if pairs and arm != "without" else None
        arms[arm] = {"score": effects.spread(list(scores.values()), 6) if scores else None, "without": effect}
        shown = f"{arms[arm]['score'][0]:.4f}" if scores else "not yet"
        print(f"| {arm} | {shown} | {effects.shown(effect) if arm != 'without' else ''} |")
    print(json.dumps({"competition": setting.name, "seconds": seconds, "arms": arms}))


if __name__ == "__main__":
    run_script(main)
