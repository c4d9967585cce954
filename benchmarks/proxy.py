"""Do cheap trainings rank configurations as full ones do?

    python benchmarks/proxy.py configs/demo.yaml --seconds 40
    python benchmarks/proxy.py configs/aerial.yaml --budget 120 -- --competition.root ../shared/competitions/aerial
    python benchmarks/proxy.py configs/demo.yaml --modes short --configurations lr_low untrained heavy_augmentation

Run it with the Python of the solution, on an otherwise idle machine. Every entry of CONFIGURATIONS below, put over the
competition's YAML and the options after `--`, is trained in full mode: all folds, one seed, `--seconds` a member. Then
it is trained in each cheap mode of MODES alone. A cheap mode takes a share of the full mode's seconds, and what makes a
step cheaper (fewer pixels, a lighter encoder) should bring back the steps; the table says how many it did. `one_fold`
trains nothing: it is the first fold of the full mode, so its agreement is partly with itself.

A configuration's score in a mode is the competition's metric on all stitched out-of-fold images of the mode's folds
together, at threshold 0.5, with 05's windows. For each mode the configurations' scores are compared with those of the
full mode: Kendall's tau (b), and its 95 % interval over 1,000 draws of the images with replacement, the same draw for
both. The interval knows of the images, not of the seed: other seeds would rank otherwise. A configuration that sets an
option which the mode sets too is left out of that mode's ranking, as is one that changes nothing, or is rejected, or
whose weights are not installed. Where the competition's answers are known (the demo), the full members' submission by
05 is scored as on the leaderboard, and tau of each mode with the leaderboard is given too (its interval draws the
training images only).

Seconds are those of 03_train.py, its start and scoring included, over the configurations ranked; `saved` is what the
mode spares of the full mode's. Finished runs are lines of benchmarks/results/proxy.jsonl and are not run again while
the YAML and the options are the same (changed code is not noticed): `--redo MODE` runs a mode once more. `--budget
MINUTES` begins no run that would not fit. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import effects, trials
from benchmarks.trials import Options, Setting, Values, cross_entropy, trained_side
from lib.competition import metrics
from lib.config import Config
from lib.config.load import workspace_of
from lib.errors import UserError
from lib.models.encoder_weights import package_file
from lib.workspace import Workspace, file_fingerprint

LOG = trials.Log(trials.RESULTS / "proxy.jsonl")


def other_architecture(config: Config) -> str:
    return "fpn" if config.model.architecture.startswith("unet") else "unet"


def larger_crop(config: Config) -> str:
    """By a half, as far as the tile goes; what the YAML says where that is the whole tile already."""
    larger = min(config.preprocess.tile_size, trained_side(config) * 3 // 2)
    return f"{larger if larger > trained_side(config) else config.train.crop}"


CONFIGURATIONS: dict[str, Values] = {
    "as_configured": {},
    "lr_low": {"train.lr": "1e-4"},
    "lr_high": {"train.lr": "5e-3"},
    "no_augmentation": {"augment.preset": "none"},
    "heavy_augmentation": {"augment.preset": "heavy"},
    "cross_entropy_only": {"train.loss.terms": lambda c: f"{{{cross_entropy(c)}: 1}}"},
    "untrained_encoder": {"model.weights": "none", "train.frozen": "[]"},
    "smaller_crop": {"train.crop": lambda c: f"{trained_side(c) // 2}"},
    "larger_crop": {"train.crop": larger_crop},
    "encoder_lite1": {"model.encoder": "tu-tf_efficientnet_lite1"},
    "encoder_lite2": {"model.encoder": "tu-tf_efficientnet_lite2"},
    "other_architecture": {
        "model.architecture": other_architecture, "model.options": "{}", "model.decoder_channels": "[]",
    },
    "averaging": {  # on where the YAML has it off, and the other way round
        "train.swa.start": lambda c: "1" if c.train.swa.start < 1 else "0.75",
        "train.swa.schedule": "anneal", "train.swa.every": "0.25",
    },
    "batch_of_16": {"train.batch_size": "16"},
    "sgd": {"train.optimizer": "sgd", "train.lr": "0.02"},
}  # fmt: skip


@dataclass(frozen=True)
class Mode:
    """How a configuration is trained more cheaply."""

    options: Options = field(default_factory=dict)
    share: float = 1.0  # of the full mode's seconds
    first_fold: bool = False


MODES = {
    "full": Mode(),
    "one_fold": Mode(first_fold=True),
    "short": Mode(share=0.25),
    "quarter_of_tiles": Mode({"train.sampling.fraction": "0.25"}, 0.25),  # as many epochs as in full
    "half_scale": Mode({"train.scale": "0.5"}, 0.35),
    "light_encoder": Mode(  # no package ships its weights, so nothing may stay frozen
        {"model.encoder": "tu-mobilenetv3_small_050", "model.weights": "none", "train.frozen": "[]"}, 0.5
    ),
    "learned_stem": Mode({"model.stem": "down"}, 0.5),
}


def main() -> None:
    args = parse_arguments()
    setting = Setting.of(args.config, args.given)
    trials.prepare(setting)
    bench = Bench(setting, args, trials.Budget(args.budget))
    for mode in args.modes:
        for name in args.configurations if mode != "one_fold" else []:
            try:
                bench.member_of_each_fold(name, mode)
            except (trials.Failed, UserError) as error:
                print(f"-- {name}, {mode} is left out: {error}", flush=True)
    report(bench)


def parse_arguments() -> argparse.Namespace:
    parser = trials.parser(__doc__)
    for what, known in (("--configurations", CONFIGURATIONS), ("--modes", MODES)):
        parser.add_argument(what, nargs="+", choices=list(known), default=list(known), metavar="NAME")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--draws", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--redo", nargs="+", choices=list(MODES), default=[], metavar="MODE")
    args = trials.parse(parser, sys.argv[1:])
    args.modes = ["full", *(mode for mode in args.modes if mode != "full")]  # what all are compared with
    return args


# ---- the trials ------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """Trains configurations of one setting, and writes down their counts on every image."""

    setting: Setting
    args: argparse.Namespace
    budget: trials.Budget

    def options(self, name: str, mode: str) -> Options:
        """Raises UserError when a configuration cannot be ranked in a mode."""
        base = self.setting.config()
        own = trials.values_for(base, CONFIGURATIONS[name])
        both = sorted(set(own) & set(MODES[mode].options))
        if both:
            raise UserError(f"both set {both[0]}")
        if own and not self.setting.changes(own):
            raise UserError("it changes nothing")
        options = {**MODES[mode].options, **own}
        encoder = own.get("model.encoder", "")
        if encoder and package_file(encoder.removeprefix("tu-")) is None and "model.weights" not in options:
            raise UserError(f"no installed package ships the weights of {encoder}")
        self.setting.config(options)
        return options

    def seconds(self, mode: str) -> float:
        return round(self.args.seconds * MODES[mode].share, 1)

    def key(self, name: str, mode: str, fold: int) -> str:
        made_from = self.setting.hash(self.options(name, mode))
        return trials.key_of(
            self.setting.name, f"{name} {mode}", self.args.seed, fold, self.seconds(mode), made_from
        )  # fmt: skip

    def member_of_each_fold(self, name: str, mode: str) -> None:
        """Train and write down what is missing of a configuration in a mode."""
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

    def fits(self, what: str, mode: str) -> bool:
        expected = trials.expected_seconds(LOG.lines(), "train", self.setting.name, self.seconds(mode))
        if not self.budget.fits(expected):
            print(f"-- {what}: not begun, its {expected:.0f} s do not fit the budget", flush=True)
        return self.budget.fits(expected)

    def about(self, name: str, mode: str, fold: int) -> dict:
        return {
            "competition": self.setting.name, "configuration": name, "mode": mode, "kind": "train", "fold": fold,
            "seed": self.args.seed, "seconds": self.seconds(mode), "options": self.options(name, mode),
        }  # fmt: skip

    def member(self, experiment: str, name: str, mode: str, fold: int) -> dict:
        """Train one member; its counts (C, 3) on each image of its fold."""
        options, where = self.options(name, mode), (fold, self.args.seed, self.seconds(mode))
        found = trials.train(self.setting, experiment, *where, options, again=mode in self.args.redo)
        inferred = trials.infer(self.setting.config(options), [experiment], fold, self.args.seed)
        return {
            "score": inferred.score(), "steps": found["steps"], "train_seconds": found["train_seconds"],
            "script_seconds": found["wall_seconds"], "wall_seconds": found["wall_seconds"] + 2 * inferred.seconds,
            "member": found["member"], "images": inferred.oof.image_ids,
            "counts": inferred.oof.class_counts(-1).tolist(),
        }  # fmt: skip

    def leaderboard(self, experiment: str, name: str) -> None:
        """05 with the full mode's members, scored against the answers."""
        members = [LOG.latest().get(self.key(name, "full", fold), {}).get("member") for fold in self.setting.folds()]
        workspace = Workspace(workspace_of(self.setting.config()))
        paths = [workspace.member_dir(experiment, fold, self.args.seed) / "done.json" for fold in self.setting.folds()]
        key = f"{self.key(name, 'full', -1)} leaderboard"
        if [file_fingerprint(path) for path in paths] != members:
            return  # they are gone, or not all there yet
        if LOG.latest().get(key, {}).get("members") == members or not self.fits(f"{name}, leaderboard", "full"):
            return
        started = time.monotonic()
        chosen = {"infer.experiments": f"[{experiment}]", "report.pictures": "0", "infer.tag": "proxy"}
        flags = self.setting.flags({**self.options(name, "full"), **chosen})
        trials.run("05_infer_ensemble.py", *flags)
        command = [sys.executable, "-m", "lib", "score", *flags]
        printed = subprocess.run(command, cwd=trials.REPOSITORY, text=True, stdout=subprocess.PIPE, check=True).stdout
        wall = round(time.monotonic() - started, 1)
        about = {**self.about(name, "full", -1), "kind": "leaderboard", "wall_seconds": wall}
        LOG.add({"key": key, **about, "members": members, "score": float(printed.split()[-1])})


# ---- what came out ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """A configuration in a mode, all folds: counts (N, C, 3) of the images, in the order of `images`."""

    images: list[str]
    counts: np.ndarray
    seconds: float
    steps: int


def results(bench: Bench, mode: str) -> dict[str, Result]:
    """The configurations that are finished in a mode."""
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


def joined(lines: list[dict]) -> Result:
    """Several folds' lines as one result."""
    return Result(
        [image for line in lines for image in line["images"]],
        np.concatenate(
            [
                np.array(line["counts"]) if "counts" in line else metrics.counts_of(np.array(line["confusions"]))
                for line in lines
            ]
        ),
        sum(line["script_seconds"] for line in lines),
        sum(line["steps"] for line in lines),
    )


def scorer(found: Iterable[Result], every_image: list[str], score: Callable[[np.ndarray], float]) -> Callable:
    """`chosen → scores`: every result's score on the chosen images, positions in `every_image`.

    A mode that has not all images is scored on those of the chosen that it has; NaN when it has none of them.
    """
    counted = []  # counts, and where in them each image is
    for result in found:
        place = {image: i for i, image in enumerate(result.images)}
        counted.append((result.counts, [place.get(image) for image in every_image]))

    def scores(chosen: np.ndarray) -> list[float]:
        out = []
        for counts, at in counted:
            here = [at[i] for i in chosen if at[i] is not None]
            out.append(score(counts[here]) if here else float("nan"))
        return out

    return scores


def report(bench: Bench) -> None:
    """Print a table with a row for each mode, and all of it as one JSON line."""
    config = bench.setting.config().competition
    full = results(bench, "full")
    every_image = next(iter(full.values())).images if full else []
    everything = np.arange(len(every_image))
    board = leaderboard_scores(bench)

    def score(counts: np.ndarray) -> float:
        return metrics.score(config, counts)

    def scores_of(found: dict[str, Result], names: list[str]) -> Callable:
        return scorer([found[name] for name in names], every_image, score)

    print(
        "\n| mode | configurations | tau (interval) | of full: steps, seconds | tau with the leaderboard (interval) |"
    )
    print(f"{'|---' * 5}|")
    modes = {}
    for mode in bench.args.modes:
        found = results(bench, mode)
        names = [name for name in full if name in found]
        if len(names) < 2:
            continue
        known = [name for name in names if name in board]
        cheap, dear = ({n: r for n, r in of.items() if n in names} for of in (found, full))
        row = {
            "configurations": len(names), "scores": dict(zip(names, scores_of(found, names)(everything), strict=True)),
            "steps": ratio(cheap, dear, "steps"), "seconds": ratio(cheap, dear, "seconds"),
        }  # fmt: skip
        row["saved"] = round(1 - row["seconds"], 3)
        if mode != "full":
            row |= effects.tau_with_interval(
                scores_of(full, names), scores_of(found, names), len(every_image), bench.args.draws
            )  # fmt: skip
        if len(known) > 1:
            public = [board[name] for name in known]
            row["leaderboard"] = effects.tau_with_interval(
                lambda chosen, public=public: public, scores_of(found, known), len(every_image), bench.args.draws
            )  # fmt: skip
        modes[mode] = row
        taus = [cell(row), cell(row.get("leaderboard", {}))]
        print(f"| {mode} | {len(names)} | {taus[0]} | {row['steps']}, {row['seconds']} | {taus[1]} |")
    about = {"competition": bench.setting.name, "seed": bench.args.seed, "seconds": bench.args.seconds}
    print(json.dumps({**about, "modes": modes, "leaderboard": board}))


def cell(row: dict) -> str:
    """One tau as the table shows it.

    >>> cell({"tau": 0.6, "interval": [0.4, 0.8]})
    '0.6 (0.4 to 0.8)'
    """
    if row.get("tau") is None:
        return ""
    return f"{row['tau']} ({row['interval'][0]} to {row['interval'][1]})" if row["interval"] else str(row["tau"])


def ratio(cheap: dict[str, Result], dear: dict[str, Result], what: str) -> float:
    """Sum of `what` over the cheap results as a share of the full ones'."""
    return round(sum(getattr(r, what) for r in cheap.values()) / sum(getattr(r, what) for r in dear.values()), 3)


def leaderboard_scores(bench: Bench) -> dict[str, float]:
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
