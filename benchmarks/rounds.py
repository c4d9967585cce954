"""What pseudo-label rounds are worth: the same fold and seeds with and without them, every member trained equally long.

    python benchmarks/rounds.py configs/demo.yaml --seconds 40
    python benchmarks/rounds.py configs/retina.yaml --budget 60 -- --competition.root ../shared/competitions/retina
    python benchmarks/rounds.py configs/demo.yaml --arms round1 round1_ensemble --seeds 42 43 44 --folds 0 1
    python benchmarks/rounds.py configs/demo.yaml --seconds 0 --arms round1 round1_agreement -- --train.epochs 9

Run it with the Python of the solution, on an otherwise idle machine. The competition is its YAML with the options
after `--`, which go to the scripts. Every arm is one member, trained for `--seconds` by the clock on one CPU thread or,
with `--seconds 0`, for equal epochs:

    round0           on the true labels alone
    round0_longer    the same for twice as long: as round 0 and round 1 together train
    round1           with soft labels by round 0's member of that very fold (`pseudo.source per_fold`)
    round1_hard      with labels of 0 and 1 by the same member
    round2           with soft labels by round 1's member
    round1_ensemble  with soft labels by round 0's members of all folds (`pseudo.source ensemble`). All but one of them
                     learned from the images that the arm is scored on: what it gains over round1 may be a leak

Others, where `--arms` names them, are round1 with other tiles or another use of them: round1_agreement
(of flipped views, whose mean then labels), round1_objects (no tile without object), round1_quota (the 20 surest of
every class besides), round1_shifted (by half a tile), round1_center, round1_sharp (temperature .5),
round1_half_weight, round1_pretrain (first on them alone, then on true labels).

Scores are the competition's metric on the stitched whole images of the fold, by SWA's weights, at threshold 0.5, with
the YAML's windows. With several `--folds` a seed's score is their mean. For each arm: mean ± standard error of the
paired differences over the seeds, to round 0, to round 0 trained longer and to round 1; `helps` or `hurts` when there
are at least three pairs and the mean is more than two standard errors from 0, else `not shown`; the median of the
seconds that it takes from the start, the trainings of its teachers and 04's labels with it, scoring left out; and the
median number of tiles that 04 labeled. Without such a tile an arm is round 0 once more, and its effect is chance.

Finished members are lines of benchmarks/results/rounds.jsonl and are not trained again while the YAML and the options
are the same (changed code is not noticed), except where one that is gone has to label. Members of other folds are
trained for round1_ensemble alone. All arms of the first seed come first. Every seed has a workspace of its own, with
tiles that are cut again, so that programs with other seeds may run beside this one. The forecast counts what the log
knows of the competition; else it times the network. `--budget MINUTES` begins no member that would not fit. The last
line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import effects, trials
from benchmarks.trials import Options, Setting
from lib import tables
from lib.competition.dataset import Competition
from lib.config.load import workspace_of
from lib.errors import UserError, run_script
from lib.inference.tta import cost
from lib.oof.score_images import images_of_fold
from lib.plugins import load_plugins
from lib.preflight.forecast import scoring_seconds
from lib.system.device import pick_device
from lib.workspace import Workspace, file_fingerprint, read_json, round_experiment

LOG = trials.Log(trials.RESULTS / "rounds.jsonl")
START_SECONDS = 15  # of a script, until it works; a guess for the forecast
COMMON = {"train.threads": "1", "infer.checkpoints": "[swa]"}
SOFT = {"pseudo.source": "per_fold", "pseudo.hard": "false"}
REFERENCES = "round0", "round0_longer", "round1"


@dataclass(frozen=True)
class Arm:
    """How a member is trained."""

    round: int = 0
    teacher: str = ""  # the arm whose members label
    options: Options = field(default_factory=dict)
    length: int = 1  # its training, times `--seconds` or the epochs
    labeling: Options = field(default_factory=dict)  # of 04 alone


def first_round(**pseudo: str) -> Arm:
    return Arm(1, "round0", {**SOFT, **{f"pseudo.{key}": value for key, value in pseudo.items()}})


ROUNDS = {
    "round0": Arm(),
    "round0_longer": Arm(length=2),
    "round1": first_round(),
    "round1_hard": first_round(hard="true"),
    "round2": Arm(2, "round1", SOFT),
    "round1_ensemble": first_round(source="ensemble"),
}
ARMS = ROUNDS | {
    "round1_agreement": replace(first_round(confidence="agreement"), labeling={"infer.tta": "flips"}),
    "round1_objects": first_round(background_keep="0"),
    "round1_quota": first_round(class_quota="20"),
    "round1_shifted": first_round(shift="0.5"),
    "round1_center": first_round(center_only="true"),
    "round1_sharp": first_round(temperature="0.5"),
    "round1_half_weight": first_round(weight="0.5"),
    "round1_pretrain": first_round(mode="pretrain"),
}


class Trial(NamedTuple):
    """One member of an arm."""

    name: str
    seed: int
    fold: int

    @property
    def arm(self) -> Arm:
        return ARMS[self.name]

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}, fold {self.fold}"


def main(argv: list[str]) -> None:
    args = parse_arguments(argv)
    setting = Setting.of(args.config, args.given)
    budget, failed = trials.Budget(args.budget), {}
    trials.prepare(setting)
    bench = Bench(setting, args, setting.folds())
    if len(bench.every_fold) == 1 and "round1_ensemble" in args.arms:
        print("-- round1_ensemble is skipped: with one fold it is round1", flush=True)
        args.arms.remove("round1_ensemble")
    to_do = bench.to_do()
    for number, trial in enumerate(to_do):
        left = to_do[number:]
        print(f"-- {trial}: members to train: {len(left)}, about {bench.minutes(left):.0f} minutes", flush=True)
        if lacking := [teacher for teacher in bench.teachers(trial) if not bench.is_there(teacher)]:
            print(f"-- {trial}: not begun, it learns from {lacking[0]}", flush=True)
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
    parser = trials.parser(__doc__)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ROUNDS), metavar="ARM")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--folds", nargs="+", type=int, default=[0], help="that members are scored on")
    args = trials.parse(parser, argv)
    args.arms = ["round0", *(name for name in ARMS if name in args.arms and name != "round0")]
    return args


def home(seed: int) -> str:
    """A workspace holds the pseudo-labels of one seed at a time."""
    return f"rounds-seed{seed}"


# ---- the trials ------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """Trains members of one setting, and writes them down. `every_fold`: also those that are not scored."""

    setting: Setting
    args: argparse.Namespace
    every_fold: list[int]
    cut: set[int] = field(default_factory=set)  # seeds whose tiles this program has seen to

    def to_do(self) -> list[Trial]:
        """The members still to be trained, teachers first; no more than it takes.

        Raises UserError when a fold is to be scored that there is not.
        """
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
        """Whose members label for it."""
        every = trial.arm.options.get("pseudo.source") == "ensemble"
        folds = self.every_fold if every else [trial.fold]
        return [Trial(trial.arm.teacher, trial.seed, fold) for fold in folds] if trial.arm.teacher else []

    def line_of(self, trial: Trial) -> dict | None:
        """The log's latest line of it."""
        return LOG.latest().get(self.key(trial))

    def key(self, trial: Trial) -> str:
        made_from = self.setting.hash({**trial.arm.options, **trial.arm.labeling})
        length = self.args.seconds * trial.arm.length
        return trials.key_of(self.setting.name, trial.name, trial.seed, trial.fold, length, made_from)

    def is_there(self, trial: Trial) -> bool:
        """Whether the member of the log's line is still on the disk."""
        line, experiment = self.line_of(trial), round_experiment(self.experiment(trial), trial.arm.round)
        done = self.workspace(trial.seed).member_dir(experiment, trial.fold, trial.seed) / "done.json"
        return line is not None and line["member"] == file_fingerprint(done)

    def workspace(self, seed: int) -> Workspace:
        return Workspace(workspace_of(self.setting.config(workspace=home(seed))))

    def experiment(self, trial: Trial) -> str:
        """Each member has one of its own: 04 lets all members of an experiment label."""
        return f"rounds_{trial.name}_{self.args.seconds:g}s_fold{trial.fold}"

    def run(self, trial: Trial) -> None:
        """Label where the arm learns from labels, train, write it down."""
        if trial.seed not in self.cut:
            trials.prepare_own_tiles(self.setting, {}, home(trial.seed))
            self.cut.add(trial.seed)
        arm, started = trial.arm, time.monotonic()
        length, options = self.args.seconds * arm.length, {**COMMON, **arm.options, "train.round": f"{arm.round}"}
        if not length:
            options["train.epochs"] = f"{self.setting.config().train.epochs * arm.length:g}"
        labels = self.label(trial, options) if arm.round else {"tiles": 0, "label_seconds": 0.0}
        where = self.experiment(trial), trial.fold, trial.seed, length
        found = trials.train(self.setting, *where, options, home(trial.seed))
        taught = sum(self.line_of(teacher)["cost"] for teacher in self.teachers(trial))
        about = {
            "key": self.key(trial), "competition": self.setting.name, "kind": trial.name,
            "options": {**arm.options, **arm.labeling},
            "base": self.setting.hash({}), "fold": trial.fold, "seed": trial.seed, "seconds": length,
        }  # fmt: skip
        seconds = {
            "cost": round(taught + labels["label_seconds"] + found["train_seconds"], 1),
            "wall_seconds": round(time.monotonic() - started, 1),
        }
        LOG.add({**about, **labels, **found, **seconds})

    def label(self, trial: Trial, options: Options) -> dict:
        """04 with the member's teachers."""
        teachers, workspace = self.teachers(trial), self.workspace(trial.seed)
        experiment = self.experiment(teachers[0])
        if len(teachers) > 1:  # together in an experiment, by links
            experiment = f"rounds_all_{self.args.seconds:g}s"
            for teacher in teachers:
                link = workspace.member_dir(experiment, teacher.fold, teacher.seed)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(Path("..", self.experiment(teacher), link.name), target_is_directory=True)
        options = {**options, **trial.arm.labeling, "train.experiment": experiment}
        flags = self.setting.flags(options, home(trial.seed))
        trials.run("04_pseudo_label.py", *flags)
        done = read_json(workspace.root / f"manifests/04_pseudo_label_round{trial.arm.round}.json", {})
        return {"tiles": done["facts"]["tiles"], "label_seconds": done["seconds"]}

    # ---- the forecast

    def minutes(self, wanted: list[Trial]) -> float:
        return sum(self.seconds(trial) for trial in wanted) / 60

    def seconds(self, trial: Trial) -> float:
        """By the clock: what the longest like it took, or a guess."""
        length = self.args.seconds * trial.arm.length
        return trials.expected_seconds(LOG.lines(), trial.name, self.setting.name, length, self.guesses)

    @cached_property
    def guesses(self) -> dict[str, float]:
        """Seconds of an arm beside its training: the windows of its scoring and its labels, by a timed network."""
        config = self.setting.config(COMMON)
        load_plugins(config.plugins)
        pick_device(config.train.device, config.train.threads)
        channels, workspace = Competition(config.competition).channels, Workspace(workspace_of(config))
        images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
        folds = tables.read(workspace.folds, tables.FOLDS, "02_make_folds.py")
        unlabeled = images[images["split"] != "train"]
        scoring = scoring_seconds(images_of_fold(workspace, folds, self.args.folds[0]), config, channels)
        labeling = scoring_seconds(list(zip(unlabeled["image_id"], unlabeled["path"], strict=True)), config, channels)
        guesses = {}
        for name, arm in ARMS.items():
            members = len(self.teachers(Trial(name, 0, 0)))
            starts = START_SECONDS * (2 if arm.round else 1)
            views = cost(arm.labeling.get("infer.tta", config.infer.tta))
            guesses[name] = starts + scoring + labeling * members * views
        return guesses


# ---- what came out ---------------------------------------------------------------------------------------------------


def effect_of(own: dict[int, float], reference: dict[int, float]) -> dict | None:
    """Paired effect of two arms' scores by seed; None without a pair."""
    differences = [score - reference[seed] for seed, score in own.items() if seed in reference]
    return effects.paired_effect(differences) if differences else None


def scores_of(lines: list[dict], folds: list[int]) -> dict[int, float]:
    """Of an arm's lines: each seed's mean over the folds, where all of them are finished."""
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
    scores = {name: scores_of(own, args.folds) for name, own in lines.items()}
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
        told = [effects.told(arms[name][other]) if other != name else "" for other in REFERENCES]
        print(f"| {name} | {arms[name]['score'][0]:.4f} | {' | '.join(told)} | {arms[name]['seconds']:.0f} | "
              f"{arms[name]['tiles']} |")  # fmt: skip
    about = {
        "competition": bench.setting.name, "base": bench.setting.hash({}), "folds": args.folds, "seeds": args.seeds,
        "seconds": args.seconds,
    }  # fmt: skip
    print(json.dumps({**about, "arms": arms, "failed": failed}))


if __name__ == "__main__":
    run_script(main)
