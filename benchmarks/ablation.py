"""Measures the effect of each trick: the same fold and seeds with and without it, after equal seconds of training.

    python benchmarks/ablation.py configs/demo.yaml --seeds 42 43 44 --seconds 40
    python benchmarks/ablation.py configs/aerial.yaml --budget 120 -- --competition.root ../data/aerial
    python benchmarks/ablation.py configs/demo.yaml --switches ema larger_window --redo ema
    python benchmarks/ablation.py configs/demo.yaml --seconds 0 -- --train.epochs 9
    python benchmarks/ablation.py --table

Run it with the Python of the solution, on an otherwise idle machine. With `--seconds 0` it trains equal epochs; then
other programs may share the machine. The baseline is the competition's YAML with the options after `--`, which go to
the scripts. A switch is a trick, an entry of switches.py. If the YAML already has the trick, the variant is the
training without it. An effect is the score with the trick minus the score without it, in the competition's metric on
the stitched whole images of the fold, at threshold 0.5, with the YAML's windows. There are three kinds of switches:

    data    cuts its own tiles (stage 1 in a separate workspace, with the baseline's folds), then trains
    train   trains a separate experiment on the baseline's tiles
    infer   trains nothing: predicts with the baseline's member of that seed as 05 does, with other options

`against` says what a switch is compared with: the baseline of the same seed (for an `infer` switch: the same pass with
the YAML's options, baseline_05), another switch, or other weights of the same training (`own last`). Averages of
weights are compared with the last weights of an annealed training, which one would use without averaging; the same
holds for averages after a constant or cyclic rate (`swa_annealed last`). The two experiments of resize_ensemble have
trained twice as long as the baseline. `fitted_threshold`: the threshold of each group's images (of each image, without
groups) is fitted on the fold's other groups.

The table shows for each switch: the mean ± standard error of the paired differences over the seeds, and the verdict.
`helps` or `hurts` needs at least three pairs and a mean of more than two standard errors from 0; otherwise it is `not
shown`. For an `infer` switch, the table adds the median ratio of the seconds of its pass; it is above 1 if the trick
costs time. For the others it adds the median ratio of the steps; it is below 1 if the trick slows the training down.
Seconds of training include waiting for the loader.

Finished runs are lines of benchmarks/results/ablation.jsonl. They are not run again while the YAML and the options are
the same (changed code is not noticed); `--redo SWITCH` runs them once more. An `infer` line belongs to the member that
it was measured on. If that member is gone and needed, the baseline is trained again. All switches of the first seed
come first. `--budget MINUTES` begins no run that would not fit. A switch that the configuration rejects, or that the
machine lacks (bf16), is skipped with a message. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import effects, trials
from benchmarks.settings import FIRST_NAMES, Options, Setting, parse, parser_of
from benchmarks.switches import SWITCHES, Switch, Variant, plan
from benchmarks.trial_log import RESULTS, Budget, Log, expected_seconds, key_of
from lib.config.load import workspace_of
from lib.errors import UserError
from lib.workspace import Workspace, file_fingerprint

LOG = Log(RESULTS / "ablation.jsonl")


def main() -> None:
    args = parse_arguments()
    if args.table:
        for seconds in sorted({line["seconds"] for line in LOG.lines()}):
            print(f"\n{f'{seconds:g} s' if seconds else 'Equal epochs'} of training")
            report(newest(LOG.lines(seconds=seconds)), list(SWITCHES), {})
        return
    setting = Setting.of(args.config, args.given)
    trials.prepare(setting)
    bench = Bench(setting, plan(setting, args.switches), args, Budget(args.budget))
    failed = {}
    for seed in args.seeds:
        for name in bench.variants:
            try:
                bench.trial(name, seed)
            except (trials.Failed, UserError) as error:
                print(f"-- {name}, seed {seed} failed: {error}", flush=True)
                failed[f"{name} seed{seed}"] = str(error)
    report([line for line in bench.lines() if line["seed"] in args.seeds], list(bench.variants), failed)


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--switches", nargs="+", choices=list(SWITCHES), default=list(SWITCHES), metavar="SWITCH")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--redo", nargs="+", choices=list(SWITCHES), default=[], metavar="SWITCH")
    parser.add_argument("--table", action="store_true", help="print what the log holds, run nothing")
    return parse(parser, sys.argv[1:])


# ---- the trials ------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """Runs variants of one setting, and logs them."""

    setting: Setting
    variants: dict[str, Variant]
    args: argparse.Namespace
    budget: Budget
    redone: set[str] = field(default_factory=set)  # `--redo` runs a trial once

    def lines(self) -> list[dict]:
        """The lines of the log that belong to this setting, fold and seconds."""
        return LOG.lines(
            competition=self.setting.name, base=self.setting.hash({}), fold=self.args.fold, seconds=self.args.seconds
        )

    def trial(self, name: str, seed: int) -> None:
        """Run a switch for a seed, unless it is done or does not fit the budget."""
        variant, switch = self.variants[name], self.variants[name].switch
        key = self.key(name, seed)
        again = name in self.args.redo and key not in self.redone
        if not again and self.is_done(name, key, seed):
            return
        if name != "baseline" and not self.has_baseline(seed, switch):
            return
        expected = expected_seconds(LOG.lines(), switch.kind, self.setting.name, self.args.seconds)
        if not self.budget.fits(expected):
            print(f"-- {name}, seed {seed}: not begun, its {expected:.0f} s do not fit the budget", flush=True)
            return
        print(f"-- {name}: {self.setting.name}, fold {self.args.fold}, seed {seed}", flush=True)
        started = time.monotonic()
        if switch.kind == "infer":
            result = self.predict(variant.options, ["baseline"], seed)
        else:
            result = self.train(name, variant, seed, again)
        about = {
            "key": key, "competition": self.setting.name, "switch": name, "kind": switch.kind, "trick": variant.trick,
            "against": variant.against,
            "options": {**variant.options, **variant.infer}, "base": self.setting.hash({}), "fold": self.args.fold,
            "seed": seed, "seconds": self.args.seconds,
        }  # fmt: skip
        LOG.add({**about, **result, "wall_seconds": round(time.monotonic() - started, 1)})
        self.redone.add(key)

    def key(self, name: str, seed: int) -> str:
        """The log's key of a switch's trial."""
        variant = self.variants[name]
        after = {f"after: {FIRST_NAMES.get(key, key)}": value for key, value in variant.infer.items()}
        made_from = self.setting.hash({**variant.options, **after})
        return key_of(self.setting.name, name, seed, self.args.fold, self.args.seconds, made_from)

    def is_done(self, name: str, key: str, seed: int) -> bool:
        lines = [line for line in self.lines() if line["key"] == key]
        if name == "baseline_05":  # every other pass is compared with it, so it must be of the present member
            member = self.present_member(seed)
            return not member or any(line["member"] == member for line in lines)
        return bool(lines)

    def present_member(self, seed: int) -> str:
        """The fingerprint of the baseline's member if the log's last line is of it; else empty."""
        workspace = Workspace(workspace_of(self.setting.config()))
        done = workspace.member_dir(self.experiment("baseline"), self.args.fold, seed) / "done.json"
        logged = [line["member"] for line in self.lines() if (line["switch"], line["seed"]) == ("baseline", seed)]
        return logged[-1] if logged and logged[-1] == file_fingerprint(done) else ""

    def has_baseline(self, seed: int, switch: Switch) -> bool:
        """Whether the baseline has what a switch needs. A member that is needed and gone is trained again."""
        if not (switch.kind == "infer" or switch.with_baseline):
            return any((line["switch"], line["seed"]) == ("baseline", seed) for line in self.lines())
        if not self.present_member(seed):
            self.args.redo.append("baseline")
            self.redone.discard(self.key("baseline", seed))
            self.trial("baseline", seed)
            self.args.redo.remove("baseline")
        if self.present_member(seed) and switch.kind == "infer" and switch is not SWITCHES["baseline_05"]:
            self.trial("baseline_05", seed)
        return bool(self.present_member(seed))

    def train(self, name: str, variant: Variant, seed: int, again: bool) -> dict:
        """Train a switch's member. If it has other options than the baseline, it is a separate experiment."""
        switch, workspace = variant.switch, name if variant.switch.kind == "data" else ""
        trained = name if variant.options else "baseline"
        base = self.setting.config(variant.options)
        weights = ["swa", *(["last"] if base.train.swa.start < 1 else []), *(["ema"] if base.train.ema else [])]
        if workspace:
            trials.prepare_own_tiles(self.setting, variant.options, workspace)
        options = {**variant.options, "infer.checkpoints": f"[{', '.join(weights)}]"}
        training = trials.Training(self.experiment(trained), self.args.fold, seed, self.args.seconds)
        result = trials.train(self.setting, training, options, workspace, again and trained == name)
        result["scores"].setdefault("last", result["scores"]["swa"])  # the same weights where SWA is off
        if variant.infer or switch.with_baseline:
            names = ["baseline", trained] if switch.with_baseline else [trained]
            predicted = self.predict({**variant.options, **variant.infer}, names, seed)
            result["scores"] |= predicted["scores"]
            result["infer_seconds"] = predicted["infer_seconds"]
        if switch.with_baseline:
            result["member"] = self.present_member(seed)
        return result

    def predict(self, options: Options, names: list[str], seed: int) -> dict:
        """Run 05's pass over the fold with the members of some switches."""
        experiments = [self.experiment(name) for name in names]
        inferred = trials.infer(self.setting.config(options), experiments, self.args.fold, seed)
        scores = {"05": inferred.score()}
        if inferred.oof.binary:
            scores["fitted"] = inferred.fitted_score()
        return {"scores": scores, "infer_seconds": inferred.seconds, "member": self.present_member(seed)}

    def experiment(self, name: str) -> str:
        """The experiment of a switch's members."""
        return f"ablation_{name}_{self.args.seconds:g}s"


# ---- the results -----------------------------------------------------------------------------------------------------


def newest(lines: list[dict]) -> list[dict]:
    """The lines with the same YAML, fold and seconds as the last line of their competition."""
    last = {line["competition"]: line for line in lines}
    same = ("base", "fold", "seconds")
    return [line for line in lines if all(line[key] == last[line["competition"]][key] for key in same)]


def effect_of(name: str, lines: list[dict]) -> dict | None:
    """The paired effect of a switch over the seeds in one competition's lines, oldest first; None without a pair."""
    pairs, seconds, steps = list(pairs_of(name, lines)), [], []
    if not pairs:
        return None
    for line, against, _ in pairs:
        sign = sign_of(line)
        if "infer_seconds" in line and "infer_seconds" in against:
            seconds.append((line["infer_seconds"] / against["infer_seconds"]) ** sign)
        elif "steps" in line and line is not against:
            steps.append((line["steps"] / against["steps"]) ** sign)
    ratios = {"seconds": round(median(seconds), 3)} if seconds else {"steps": round(median(steps), 3)} if steps else {}
    return {**effects.paired_effect([difference for *_, difference in pairs]), **ratios}


def pairs_of(name: str, lines: list[dict]) -> Iterator[tuple[dict, dict, float]]:
    """By seed: (a switch's line, the line that it is compared with, the score with the trick minus that without it).

    `lines`: of one competition, oldest first. Only those with the switch's latest options count.
    """
    switch, of_switch = SWITCHES[name], [line for line in lines if line["switch"] == name]
    by_seed = {
        line["seed"]: line for line in of_switch
        if (line["trick"], line["options"]) == (of_switch[-1]["trick"], of_switch[-1]["options"])
    }  # fmt: skip
    for line in by_seed.values():
        reference = reference_of(switch, line, lines)
        if reference is not None:
            against, weights = reference
            yield line, against, sign_of(line) * (line["scores"][switch.score] - against["scores"][weights])


def sign_of(line: dict) -> int:
    """1 where the line has the trick, -1 where the line that it is compared with has it."""
    return 1 if line["trick"] == "on" else -1


def reference_of(switch: Switch, line: dict, lines: list[dict]) -> tuple[dict, str] | None:
    """(the line that a switch's line is compared with, the name of its score); None where there is no such line."""
    other, _, weights = line["against"].partition(" ")
    if other == "own":
        return line, weights
    others = [one for one in lines if (one["switch"], one["seed"]) == (other, line["seed"])]
    if switch.kind == "infer" or switch.with_baseline:  # both must be measured on the same member
        others = [one for one in others if one["member"] == line["member"]]
    return (others[-1], weights or SWITCHES[other].score) if others else None


def report(lines: list[dict], names: list[str], failed: dict[str, str]) -> None:
    """Print a table with a row for each switch and a column for each competition, and then everything as JSON."""
    competitions = list(dict.fromkeys(line["competition"] for line in lines))
    names = [name for name in names if not name.startswith("baseline")]
    of = {c: [line for line in lines if line["competition"] == c] for c in competitions}
    effects_of = {
        c: {name: effect_of(name, of[c]) for name in names if any(line["switch"] == name for line in of[c])}
        for c in competitions
    }
    print(f"\n| switch | {' | '.join(competitions)} |\n|---|{'---|' * len(competitions)}")
    for name in names:
        print(f"| {name} | {' | '.join(cell(effects_of[c].get(name)) for c in competitions)} |")
    summary = {}
    for c in competitions:
        scores = list({line["seed"]: line["score"] for line in of[c] if line["switch"] == "baseline"}.values())
        about = {key: of[c][-1][key] for key in ("base", "fold", "seconds")}
        summary[c] = {**about, "baseline": effects.spread(scores, 6) if scores else None, "switches": effects_of[c]}
    print(json.dumps({**summary, "failed": failed}))


def cell(effect: dict | None) -> str:
    """One effect as the table shows it.

    >>> cell({"effect": 0.0123, "se": 0.0041, "pairs": 3, "verdict": "helps", "seconds": 1.9})
    '+0.0123 ± 0.0041 (3), helps; 1.90 × seconds'
    >>> cell(None)
    'not yet'
    """
    ratios = [f"; {effect[what]:.2f} × {what}" for what in ("seconds", "steps") if effect and what in effect]
    return effects.shown(effect) + "".join(ratios)


if __name__ == "__main__":
    main()
