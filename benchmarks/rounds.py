"""Measures the effect of pseudo-label rounds: the same fold and seeds with and without them, and equal training times.

    python benchmarks/rounds.py configs/demo.yaml --seconds 40
    python benchmarks/rounds.py configs/retina.yaml --budget 60 -- --competition.root ../data/retina
    python benchmarks/rounds.py configs/demo.yaml --arms round1 round1_ensemble --seeds 42 43 44 --folds 0 1
    python benchmarks/rounds.py configs/demo.yaml --seconds 0 --arms round1 round1_agreement -- --train.epochs 9

Run it with the Python of the solution, on an otherwise idle machine. The competition is its YAML with the options after
`--`, which go to the scripts. Every arm is one member. It is trained for `--seconds` on one CPU thread, or, with
`--seconds 0`, for equal epochs:

    round0           on the true labels only
    round0_longer    the same for twice as long, which is the time of round 0 and round 1 together
    round1           with soft labels by round 0's member of the same fold (`pseudo.source per_fold`)
    round1_hard      with labels of 0 and 1 by the same member
    round2           with soft labels by round 1's member
    round1_ensemble  with soft labels by round 0's members of all folds (`pseudo.source ensemble`). All of these but one
                     were trained on the images that the arm is scored on, so its gain over round1 may be a leak

`--arms` can name others, which are round1 with other tiles or another use of them: round1_agreement (confidence is the
agreement of flipped views, whose mean labels), round1_objects (no tile without object), round1_quota (also the 20 most
confident tiles of each class), round1_shifted (by half a tile), round1_center, round1_sharp (temperature 0.5),
round1_half_weight, round1_pretrain (first on the pseudo-labels only, then on true labels).

Scores are the competition's metric on the stitched whole images of the fold, with SWA's weights, at threshold 0.5, with
the YAML's windows. With several `--folds`, a seed's score is their mean. The table shows for each arm: the mean ±
standard error of the paired differences over the seeds to round 0, to round0_longer and to round 1; the verdict, where
`helps` or `hurts` needs at least three pairs and a mean of more than two standard errors from 0; the median seconds,
including the trainings of its teachers and 04's labeling, without scoring; and the median number of tiles that 04
labeled. An arm without such a tile is round 0 again, and its effect is chance.

Finished members are lines of benchmarks/results/rounds.jsonl. They are not trained again while the YAML and the options
are the same (changed code is not noticed), except a teacher that is gone. Members of other folds are trained only for
round1_ensemble. All arms of the first seed come first. Each seed has a separate workspace with its own tiles, so that
programs with other seeds may run at the same time. The forecast uses the log's lines of the competition, or, without
any, times the network. `--budget MINUTES` begins no member that would not fit. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean, median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import effects, trials
from benchmarks.arms import ARMS, COMMON, REFERENCES, ROUNDS, Trial
from benchmarks.settings import Options, Setting, parse, parser_of
from benchmarks.trial_log import RESULTS, Budget, Log, expected_seconds, key_of
from lib import tables
from lib.competition.dataset import Competition
from lib.config.load import workspace_of
from lib.errors import UserError, run_script
from lib.inference.tta import cost
from lib.oof.score_images import images_of_fold
from lib.plugins import load_plugins
from lib.preflight.forecast import scoring_seconds
from lib.session import Session
from lib.system.device import pick_device
from lib.workspace import Workspace, file_fingerprint, read_json, round_experiment

LOG = Log(RESULTS / "rounds.jsonl")
START_SECONDS = 15  # until a script does its work; a guess for the forecast


def main(argv: list[str]) -> None:
    args = parse_arguments(argv)
    setting = Setting.of(args.config, args.given)
    budget, failed = Budget(args.budget), {}
    trials.prepare(setting)
    bench = Bench(setting, args, setting.folds())
    if len(bench.every_fold) == 1 and "round1_ensemble" in args.arms:
        print("-- round1_ensemble is skipped: with one fold it is the same as round1", flush=True)
        args.arms.remove("round1_ensemble")
    to_do = bench.to_do()
    for number, trial in enumerate(to_do):
        left = to_do[number:]
        print(f"-- {trial}: members to train: {len(left)}, about {bench.minutes(left):.0f} minutes", flush=True)
        if missing := [teacher for teacher in bench.teachers(trial) if not bench.is_there(teacher)]:
            print(f"-- {trial}: not begun, it learns from {missing[0]}", flush=True)
        elif not budget.fits(bench.seconds(trial)):
            print(f"-- {trial}: not begun, its {bench.seconds(trial):.0f} s do not fit the budget", flush=True)
        else:
            try:
                bench.run(trial)
            except (trials.Failed, UserError) as error:
                print(f"-- {trial} failed: {error}", flush=True)
                failed[str(trial)] = str(error)
    report(bench, failed)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ROUNDS), metavar="ARM")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--folds", nargs="+", type=int, default=[0], help="that members are scored on")
    args = parse(parser, argv)
    args.arms = ["round0", *(name for name in ARMS if name in args.arms and name != "round0")]
    return args


def workspace_name(seed: int) -> str:
    """The name of a seed's workspace, because a workspace holds the pseudo-labels of one seed at a time."""
    return f"rounds-seed{seed}"


# ---- the trials ------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """Trains members of one setting, and logs them. `every_fold`: also those that are not scored."""

    setting: Setting
    args: argparse.Namespace
    every_fold: list[int]
    cut: set[int] = field(default_factory=set)  # seeds whose tiles this program has cut

    def to_do(self) -> list[Trial]:
        """The members that still must be trained, teachers first. Raises UserError where `--folds` names no fold."""
        if strangers := sorted(set(self.args.folds) - set(self.every_fold)):
            raise UserError(f"--folds names fold {strangers[0]}, but stage 2 made {self.every_fold}")
        wanted: list[Trial] = []

        def add(trial: Trial, done: bool) -> None:
            if not done and trial not in wanted:
                for teacher in self.teachers(trial):
                    add(teacher, self.is_there(teacher))
                wanted.append(trial)

        for seed in self.args.seeds:
            for name in self.args.arms:
                for fold in self.args.folds:
                    trial = Trial(name, seed, fold)
                    add(trial, self.line_of(trial) is not None)
        return wanted

    def teachers(self, trial: Trial) -> list[Trial]:
        """The members that label for a trial."""
        every = trial.arm.options.get("pseudo.source") == "ensemble"
        folds = self.every_fold if every else [trial.fold]
        return [Trial(trial.arm.teacher, trial.seed, fold) for fold in folds] if trial.arm.teacher else []

    def line_of(self, trial: Trial) -> dict | None:
        """The log's latest line of a trial."""
        return LOG.latest().get(self.key(trial))

    def key(self, trial: Trial) -> str:
        """The log's key of a trial."""
        made_from = self.setting.hash({**trial.arm.options, **trial.arm.labeling})
        length = self.args.seconds * trial.arm.length
        return key_of(self.setting.name, trial.name, trial.seed, trial.fold, length, made_from)

    def is_there(self, trial: Trial) -> bool:
        """Whether the member of the log's line is still on disk."""
        line, experiment = self.line_of(trial), round_experiment(self.experiment(trial), trial.arm.round)
        done = self.workspace(trial.seed).member_dir(experiment, trial.fold, trial.seed) / "done.json"
        return line is not None and line["member"] == file_fingerprint(done)

    def workspace(self, seed: int) -> Workspace:
        """The workspace of all trials of a seed."""
        return Workspace(workspace_of(self.setting.config(workspace=workspace_name(seed))))

    def experiment(self, trial: Trial) -> str:
        """The experiment of a trial. Each has its own, because 04 labels with all members of an experiment."""
        return f"rounds_{trial.name}_{self.args.seconds:g}s_fold{trial.fold}"

    def run(self, trial: Trial) -> None:
        """Label tiles where the arm needs it, train the member, and log it."""
        if trial.seed not in self.cut:
            trials.prepare_own_tiles(self.setting, {}, workspace_name(trial.seed))
            self.cut.add(trial.seed)
        arm, started = trial.arm, time.monotonic()
        length, options = self.args.seconds * arm.length, {**COMMON, **arm.options, "train.round": f"{arm.round}"}
        if not length:
            options["train.epochs"] = f"{self.setting.config().train.epochs * arm.length:g}"
        labels = self.label(trial, options) if arm.round else {"tiles": 0, "label_seconds": 0.0}
        training = trials.Training(self.experiment(trial), trial.fold, trial.seed, length)
        result = trials.train(self.setting, training, options, workspace_name(trial.seed))
        teaching = sum(self.line_of(teacher)["cost"] for teacher in self.teachers(trial))
        about = {
            "key": self.key(trial), "competition": self.setting.name, "kind": trial.name,
            "options": {**arm.options, **arm.labeling},
            "base": self.setting.hash({}), "fold": trial.fold, "seed": trial.seed, "seconds": length,
        }  # fmt: skip
        seconds = {
            "cost": round(teaching + labels["label_seconds"] + result["train_seconds"], 1),
            "wall_seconds": round(time.monotonic() - started, 1),
        }
        LOG.add({**about, **labels, **result, **seconds})

    def label(self, trial: Trial, options: Options) -> dict:
        """Run 04 with the trial's teachers."""
        teachers, workspace = self.teachers(trial), self.workspace(trial.seed)
        experiment = self.experiment(teachers[0])
        if len(teachers) > 1:  # links put them into one experiment
            experiment = f"rounds_all_{self.args.seconds:g}s"
            for teacher in teachers:
                link = workspace.member_dir(experiment, teacher.fold, teacher.seed)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(Path("..", self.experiment(teacher), link.name), target_is_directory=True)
        options = {**options, **trial.arm.labeling, "train.experiment": experiment}
        flags = self.setting.flags(options, workspace_name(trial.seed))
        trials.run("04_pseudo_label.py", *flags)
        done = read_json(workspace.root / f"manifests/04_pseudo_label_round{trial.arm.round}.json", {})
        return {"tiles": done["facts"]["tiles"], "label_seconds": done["seconds"]}

    # ---- the forecast

    def minutes(self, wanted: list[Trial]) -> float:
        """Minutes that the trials will take."""
        return sum(self.seconds(trial) for trial in wanted) / 60

    def seconds(self, trial: Trial) -> float:
        """Seconds that a trial will take: as long as the longest trial of its arm, or a guess."""
        length = self.args.seconds * trial.arm.length
        return expected_seconds(LOG.lines(), trial.name, self.setting.name, length, self.guesses)

    @cached_property
    def guesses(self) -> dict[str, float]:
        """Seconds of each arm besides its training: scoring and labeling, with the speed of a timed network."""
        config = self.setting.config(COMMON)
        load_plugins(config.plugins)
        pick_device(config.train.device, config.train.threads)
        channels, workspace = Competition(config.competition).channels, Workspace(workspace_of(config))
        images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
        session = Session(config, workspace, images)
        unlabeled = images[images["split"] != "train"]
        scoring = scoring_seconds(images_of_fold(session, self.args.folds[0]), config, channels)
        labeling = scoring_seconds(list(zip(unlabeled["image_id"], unlabeled["path"], strict=True)), config, channels)
        guesses = {}
        for name, arm in ARMS.items():
            members = len(self.teachers(Trial(name, 0, 0)))
            starts = START_SECONDS * (2 if arm.round else 1)
            views = cost(arm.labeling.get("infer.tta", config.infer.tta))
            guesses[name] = starts + scoring + labeling * members * views
        return guesses


# ---- the results -----------------------------------------------------------------------------------------------------


def effect_of(scores: dict[int, float], reference: dict[int, float]) -> dict | None:
    """The paired effect of an arm's scores by seed over another arm's; None without a pair."""
    differences = [score - reference[seed] for seed, score in scores.items() if seed in reference]
    return effects.paired_effect(differences) if differences else None


def scores_of(lines: list[dict], folds: list[int]) -> dict[int, float]:
    """An arm's score of each seed: the mean over the folds. A seed counts when all folds are finished."""
    scores: dict[int, dict[int, float]] = {}
    for line in lines:
        scores.setdefault(line["seed"], {})[line["fold"]] = line["score"]
    return {seed: mean(of[fold] for fold in folds) for seed, of in scores.items() if set(folds) <= set(of)}


def report(bench: Bench, failed: dict[str, str]) -> None:
    """Print a table with a row for each arm, and all of it as one JSON line."""
    args, arms = bench.args, {}
    lines = {
        name: [line for seed in args.seeds for fold in args.folds if (line := bench.line_of(Trial(name, seed, fold)))]
        for name in ARMS
    }
    scores = {name: scores_of(lines_of_arm, args.folds) for name, lines_of_arm in lines.items()}
    print(f"\n| {bench.setting.name} | score | against {' | against '.join(REFERENCES)} | seconds | tiles |")
    print(f"{'|---' * 7}|")
    for name in args.arms:
        if not scores[name]:
            print(f"| {name} | not yet |{' |' * 5}")
            continue
        arms[name] = {
            "score": effects.spread(list(scores[name].values()), 6),
            **{other: effect_of(scores[name], scores[other]) for other in REFERENCES if other != name},
            "seconds": round(median(line["cost"] for line in lines[name]), 1),
            "tiles": round(median(line["tiles"] for line in lines[name])),
        }
        shown = [effects.shown(arms[name][other]) if other != name else "" for other in REFERENCES]
        print(f"| {name} | {arms[name]['score'][0]:.4f} | {' | '.join(shown)} | {arms[name]['seconds']:.0f} | "
              f"{arms[name]['tiles']} |")  # fmt: skip
    about = {
        "competition": bench.setting.name, "base": bench.setting.hash({}), "folds": args.folds, "seeds": args.seeds,
        "seconds": args.seconds,
    }  # fmt: skip
    print(json.dumps({**about, "arms": arms, "failed": failed}))


if __name__ == "__main__":
    run_script(main)
