"""Measures whether cheap trainings rank configurations like full trainings.

    python benchmarks/proxy.py configs/demo.yaml --seconds 40
    python benchmarks/proxy.py configs/aerial.yaml --budget 120 -- --competition.root ../data/aerial
    python benchmarks/proxy.py configs/demo.yaml --modes short --configurations lr_low untrained heavy_augmentation

Run it with the Python of the solution, on an otherwise idle machine. The configurations and modes stand in modes.py.
Each configuration is put over the competition's YAML and the options after `--`, and trained in full mode: all folds,
one seed, `--seconds` for each member. Then it is trained in each cheap mode, with a share of the full mode's seconds.
Cheaper steps (fewer pixels, a lighter encoder) should make up for that; the table shows how many steps it took.
`one_fold` trains nothing: it is the first fold of the full mode, so it agrees partly with itself.

A configuration's score in a mode is the competition's metric on all stitched out-of-fold images of the mode's folds, at
threshold 0.5, with 05's windows. The scores of each mode are compared with those of the full mode: Kendall's tau (b),
and its 95 % interval over 1,000 draws of the images with replacement, the same draw for both. The interval covers the
choice of images, not of the seed. A ranking leaves out a configuration that sets an option of the mode, changes
nothing, is rejected, or needs weights that are not installed. If the competition's answers are known (the demo), 05's
submission by the full members is scored, and the tau of each mode with this leaderboard is shown too. Its interval
draws only the training images.

Seconds are those of 03_train.py with its start and scoring, over the ranked configurations. `saved` is the share of the
full mode's seconds that a mode saves. Finished runs are lines of benchmarks/results/proxy.jsonl. They are not run again
while the YAML and the options are the same (changed code is not noticed); `--redo MODE` runs a mode once more. With
`--budget MINUTES`, no run begins that would not fit. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import trials
from benchmarks.modes import CONFIGURATIONS, MODES
from benchmarks.rankings import Result, cell, joined, ratio, scorer, tau_with_interval
from benchmarks.settings import REPOSITORY, Options, Setting, parse, parser_of, values_for
from benchmarks.trial_log import RESULTS, Budget, Log, expected_seconds, key_of
from lib.competition import metrics
from lib.config.load import workspace_of
from lib.errors import UserError
from lib.models.encoder_weights import package_file
from lib.workspace import Workspace, file_fingerprint

LOG = Log(RESULTS / "proxy.jsonl")


def main() -> None:
    args = parse_arguments()
    setting = Setting.of(args.config, args.given)
    trials.prepare(setting)
    bench = Bench(setting, args, Budget(args.budget))
    for mode in args.modes:
        for name in args.configurations if mode != "one_fold" else []:
            try:
                bench.member_of_each_fold(name, mode)
            except (trials.Failed, UserError) as error:
                print(f"-- {name}, {mode} is left out: {error}", flush=True)
    report(bench)


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    for flag, known in (("--configurations", CONFIGURATIONS), ("--modes", MODES)):
        parser.add_argument(flag, nargs="+", choices=list(known), default=list(known), metavar="NAME")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--redo", nargs="+", choices=list(MODES), default=[], metavar="MODE")
    args = parse(parser, sys.argv[1:])
    args.modes = ["full", *(mode for mode in args.modes if mode != "full")]  # the others are compared with it
    return args


# ---- the trials ------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """Trains configurations of one setting, and logs their counts on every image."""

    setting: Setting
    args: argparse.Namespace
    budget: Budget

    def options(self, name: str, mode: str) -> Options:
        """The options of a configuration in a mode. Raises UserError where it cannot be ranked there."""
        of_configuration = values_for(self.setting.config(), CONFIGURATIONS[name])
        both = sorted(set(of_configuration) & set(MODES[mode].options))
        if both:
            raise UserError(f"configuration and mode both set {both[0]}")
        if of_configuration and not self.setting.changes(of_configuration):
            raise UserError("it changes nothing")
        options = {**MODES[mode].options, **of_configuration}
        encoder = of_configuration.get("model.encoder", "")
        if encoder and package_file(encoder.removeprefix("tu-")) is None and "model.weights" not in options:
            raise UserError(f"no installed package has the weights of {encoder}")
        self.setting.config(options)
        return options

    def seconds(self, mode: str) -> float:
        """Seconds of training in a mode."""
        return round(self.args.seconds * MODES[mode].share, 1)

    def key(self, name: str, mode: str, fold: int) -> str:
        """The log's key of one member."""
        made_from = self.setting.hash(self.options(name, mode))
        return key_of(self.setting.name, f"{name} {mode}", self.args.seed, fold, self.seconds(mode), made_from)

    def member_of_each_fold(self, name: str, mode: str) -> None:
        """Train and log the missing members of a configuration in a mode."""
        experiment = f"proxy_{name}_{mode}_{self.seconds(mode):g}s_{self.args.seed}"
        for fold in self.setting.folds():
            key = self.key(name, mode, fold)
            if key in LOG.latest() and mode not in self.args.redo:
                continue
            if self.fits(f"{name}, {mode}, fold {fold}", mode):
                print(f"-- {name}, {mode}: {self.setting.name}, fold {fold}", flush=True)
                LOG.add({"key": key, **self.about(name, mode, fold), **self.member(experiment, name, mode, fold)})
        if mode == "full" and self.setting.config().competition.answers:
            self.leaderboard(experiment, name)

    def fits(self, run: str, mode: str) -> bool:
        """Whether a run fits the budget; prints that it is not begun where it does not."""
        expected = expected_seconds(LOG.lines(), "train", self.setting.name, self.seconds(mode))
        if not self.budget.fits(expected):
            print(f"-- {run}: not begun, its {expected:.0f} s do not fit the budget", flush=True)
        return self.budget.fits(expected)

    def about(self, name: str, mode: str, fold: int) -> dict:
        return {
            "competition": self.setting.name, "configuration": name, "mode": mode, "kind": "train", "fold": fold,
            "seed": self.args.seed, "seconds": self.seconds(mode), "options": self.options(name, mode),
        }  # fmt: skip

    def member(self, experiment: str, name: str, mode: str, fold: int) -> dict:
        """Train one member. Returns facts for the log, with its counts (C, 3) on each image of its fold."""
        options, seconds = self.options(name, mode), self.seconds(mode)
        training = trials.Training(experiment, fold, self.args.seed, seconds)
        trained = trials.train(self.setting, training, options, again=mode in self.args.redo)
        inferred = trials.infer(self.setting.config(options), [experiment], fold, self.args.seed)
        return {
            "score": inferred.score(), "steps": trained["steps"], "train_seconds": trained["train_seconds"],
            "script_seconds": trained["wall_seconds"], "wall_seconds": trained["wall_seconds"] + 2 * inferred.seconds,
            "member": trained["member"], "images": inferred.oof.image_ids,
            "counts": inferred.oof.class_counts(-1).tolist(),
        }  # fmt: skip

    def leaderboard(self, experiment: str, name: str) -> None:
        """Run 05 with the full mode's members, and log its score against the answers."""
        members = [LOG.latest().get(self.key(name, "full", fold), {}).get("member") for fold in self.setting.folds()]
        workspace = Workspace(workspace_of(self.setting.config()))
        paths = [workspace.member_dir(experiment, fold, self.args.seed) / "done.json" for fold in self.setting.folds()]
        key = f"{self.key(name, 'full', -1)} leaderboard"
        if [file_fingerprint(path) for path in paths] != members:
            return  # some are gone, or not trained yet
        if LOG.latest().get(key, {}).get("members") == members or not self.fits(f"{name}, leaderboard", "full"):
            return
        started = time.monotonic()
        chosen = {"infer.experiments": f"[{experiment}]", "report.pictures": "0", "infer.tag": "proxy"}
        flags = self.setting.flags({**self.options(name, "full"), **chosen})
        trials.run("05_infer_ensemble.py", *flags)
        command = [sys.executable, "-m", "lib", "score", *flags]
        printed = subprocess.run(command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, check=True).stdout
        wall = round(time.monotonic() - started, 1)
        about = {**self.about(name, "full", -1), "kind": "leaderboard", "wall_seconds": wall}
        LOG.add({"key": key, **about, "members": members, "score": float(printed.split()[-1])})


# ---- the results -----------------------------------------------------------------------------------------------------


def results(bench: Bench, mode: str) -> dict[str, Result]:
    """The results of the configurations that are finished in a mode."""
    latest, finished = LOG.latest(), {}
    source = "full" if mode == "one_fold" else mode
    folds = bench.setting.folds()[:1] if MODES[mode].first_fold else bench.setting.folds()
    for name in bench.args.configurations:
        try:
            lines = [latest.get(bench.key(name, source, fold)) for fold in folds]
        except UserError:
            continue
        if all(lines):
            finished[name] = joined(lines)
    return finished


def report(bench: Bench) -> None:
    """Print a table with a row for each mode, and then everything as JSON."""
    config = bench.setting.config().competition
    full = results(bench, "full")
    every_image = next(iter(full.values())).images if full else []
    everything = np.arange(len(every_image))
    board = leaderboard_scores(bench)

    def score(counts: np.ndarray) -> float:
        return metrics.score(config, counts)

    def scores_of(results: dict[str, Result], names: list[str]) -> Callable:
        return scorer([results[name] for name in names], every_image, score)

    print(
        "\n| mode | configurations | tau (interval) | of full: steps, seconds | tau with the leaderboard (interval) |"
    )
    print(f"{'|---' * 5}|")
    modes = {}
    for mode in bench.args.modes:
        cheap = results(bench, mode)
        names = [name for name in full if name in cheap]
        if len(names) < 2:
            continue
        on_board = [name for name in names if name in board]
        row = {
            "configurations": len(names), "scores": dict(zip(names, scores_of(cheap, names)(everything), strict=True)),
            **{field: ratio([cheap[name] for name in names], [full[name] for name in names], field)
               for field in ("steps", "seconds")},
        }  # fmt: skip
        row["saved"] = round(1 - row["seconds"], 3)
        if mode != "full":
            row |= tau_with_interval(
                scores_of(full, names), scores_of(cheap, names), len(every_image), bench.args.draws
            )  # fmt: skip
        if len(on_board) > 1:
            public = [board[name] for name in on_board]
            row["leaderboard"] = tau_with_interval(
                lambda chosen, public=public: public, scores_of(cheap, on_board), len(every_image), bench.args.draws
            )  # fmt: skip
        modes[mode] = row
        taus = [cell(row), cell(row.get("leaderboard", {}))]
        print(f"| {mode} | {len(names)} | {taus[0]} | {row['steps']}, {row['seconds']} | {taus[1]} |")
    about = {"competition": bench.setting.name, "seed": bench.args.seed, "seconds": bench.args.seconds}
    print(json.dumps({**about, "modes": modes, "leaderboard": board}))


def leaderboard_scores(bench: Bench) -> dict[str, float]:
    """Configuration -> its score on the leaderboard, for those that have one."""
    latest, board = LOG.latest(), {}
    for name in bench.args.configurations:
        try:
            line = latest.get(f"{bench.key(name, 'full', -1)} leaderboard")
        except UserError:
            continue
        if line:
            board[name] = line["score"]
    return board


if __name__ == "__main__":
    main()
