"""What each trick is worth: the same fold and seeds with and without it, after equal seconds of training.

    python benchmarks/ablation.py configs/demo.yaml --seeds 42 43 44 --seconds 40
    python benchmarks/ablation.py configs/aerial.yaml --budget 120 -- --competition.root ../shared/competitions/aerial
    python benchmarks/ablation.py configs/demo.yaml --switches ema larger_window --redo ema
    python benchmarks/ablation.py configs/demo.yaml --seconds 0 -- --train.epochs 9
    python benchmarks/ablation.py --table

Run it with the Python of the solution, on an otherwise idle machine. `--seconds 0` trains equal epochs instead: then no
clock decides, and other trainings may share the machine. The baseline is the competition's YAML with the
options after `--`, which go to the scripts. A switch is a trick, an entry of switches.py. Where the YAML has the
trick already, the variant is the training without it. An effect is always the score with the trick less the score
without it, in the competition's metric on the stitched whole images of the fold, at threshold 0.5, with the YAML's
windows. Kinds of switches:

    data    cuts its own tiles (stage 1 in a workspace of its own; the folds are the baseline's), then trains
    train   trains an experiment of its own on the baseline's tiles
    infer   trains nothing: the baseline's member of that seed, predicted as 05 does, with other options

`against` says what a switch is compared with: the baseline of the same seed (an `infer` switch: the same pass with the
YAML's options, baseline_05), another switch, or other weights of the same training (`own last`). Averages of weights
are compared with the last weights of a training that anneals, which is what one has without averaging; so are those
after a constant or cyclic rate (`swa_annealed last`). Two experiments averaged (resize_ensemble) have trained twice as
long as the baseline. `fitted_threshold`: each group's images (each image, where the competition names no groups) are
decided by the threshold fitted on the fold's other groups; no image is decided by a threshold that saw it.

For each switch: mean ± standard error of the paired differences over the seeds; `helps` or `hurts` when there are at
least three pairs and the mean is more than two standard errors from 0, else `not shown`; of an `infer` switch the
median ratio of the seconds of its pass, above 1 where the trick costs; of the others the median ratio of the steps
taken, below 1 where the trick slows the training down. Seconds of training include waiting for the loader.

Finished runs are lines of benchmarks/results/ablation.jsonl and are not run again while the YAML and the options are
the same (changed code is not noticed): `--redo SWITCH` runs them once more. An `infer` line belongs to the very member
that it was measured on; where that member is gone and one is needed, the baseline is trained anew. All switches of the
first seed come first. `--budget MINUTES` begins no run that would not fit. A switch that the configuration rejects, or
that cannot be had (one class, no bf16), is skipped with a line. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import effects, trials
from benchmarks.switches import SWITCHES, Switch
from benchmarks.trials import Options, Setting
from lib.config.load import workspace_of
from lib.errors import UserError
from lib.workspace import Workspace, file_fingerprint

LOG = trials.Log(trials.RESULTS / "ablation.jsonl")


def main() -> None:
    args = parse_arguments()
    if args.table:
        for seconds in sorted({line["seconds"] for line in LOG.lines()}):
            print(f"\n{f'{seconds:g} s' if seconds else 'Equal epochs'} of training")
            report(newest(LOG.lines(seconds=seconds)), list(SWITCHES), {})
        return
    setting = Setting.of(args.config, args.given)
    trials.prepare(setting)
    bench = Bench(setting, plan(setting, args.switches), args, trials.Budget(args.budget))
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
    parser = trials.parser(__doc__)
    parser.add_argument("--switches", nargs="+", choices=list(SWITCHES), default=list(SWITCHES), metavar="SWITCH")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--redo", nargs="+", choices=list(SWITCHES), default=[], metavar="SWITCH")
    parser.add_argument("--table", action="store_true", help="print what the log holds, run nothing")
    return trials.parse(parser, sys.argv[1:])


# ---- what to run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """A switch, resolved for one setting."""

    switch: Switch
    trick: str  # `on` or `off`: what the options do to the trick
    options: Options
    infer: Options
    against: str


class Same(UserError):
    """The configuration has what a switch would set."""


def plan(setting: Setting, wanted: list[str]) -> dict[str, Variant]:
    """The variants to run, with those they are compared with; says which are skipped, and why."""
    needed = {"baseline", "baseline_05", *wanted}
    needed |= {SWITCHES[name].against.split()[0] for name in wanted} - {"own"}
    variants, same = {}, {}
    for name in SWITCHES:
        if name in needed:
            try:
                variants[name] = resolve(SWITCHES[name], setting)
            except UserError as error:
                print(f"-- {name} is skipped: {error}", flush=True)
                if isinstance(error, Same):  # then its score is the baseline's
                    same[name] = "baseline_05" if SWITCHES[name].kind == "infer" else "baseline"
    return {name: replace(v, against=same.get(v.against, v.against)) for name, v in variants.items()}


def resolve(switch: Switch, setting: Setting) -> Variant:
    """Raises UserError when the setting cannot have the switch."""
    base = setting.config()
    what, fits = switch.need
    if not fits(base):
        raise UserError(f"it needs {what}")
    on, off, infer = (trials.values_for(base, values) for values in (switch.on, switch.off, switch.infer))
    setting.config({**on, **infer})
    trick, options = "on", on
    if off and setting.changes(off):  # the YAML has the trick on, in whatever strength
        trick, options = "off", off
    elif on and not setting.changes(on):
        # Only other weights of the baseline's own training can still be compared.
        if not switch.against.startswith("own") or switch.score == "ema":
            raise Same("the configuration does it already")
        options = {}
    return Variant(switch, trick, options, infer, switch.against)


# ---- the trials ------------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """Runs variants of one setting, and writes them down."""

    setting: Setting
    variants: dict[str, Variant]
    args: argparse.Namespace
    budget: trials.Budget
    redone: set[str] = field(default_factory=set)  # `--redo` runs a trial once

    def lines(self) -> list[dict]:
        """The log's lines of this setting, fold and seconds."""
        return LOG.lines(
            competition=self.setting.name, base=self.setting.hash({}), fold=self.args.fold, seconds=self.args.seconds
        )

    def trial(self, name: str, seed: int) -> None:
        """Run a switch for a seed, unless that was done, or does not fit the budget."""
        variant, switch = self.variants[name], self.variants[name].switch
        key = self.key(name, seed)
        again = name in self.args.redo and key not in self.redone
        if not again and self.is_done(name, key, seed):
            return
        if name != "baseline" and not self.has_baseline(seed, switch):
            return
        expected = trials.expected_seconds(LOG.lines(), switch.kind, self.setting.name, self.args.seconds)
        if not self.budget.fits(expected):
            print(f"-- {name}, seed {seed}: not begun, its {expected:.0f} s do not fit the budget", flush=True)
            return
        print(f"-- {name}: {self.setting.name}, fold {self.args.fold}, seed {seed}", flush=True)
        started = time.monotonic()
        if switch.kind == "infer":
            found = self.predict(variant.options, ["baseline"], seed)
        else:
            found = self.train(name, variant, seed, again)
        about = {
            "key": key, "competition": self.setting.name, "switch": name, "kind": switch.kind, "trick": variant.trick,
            "against": variant.against,
            "options": {**variant.options, **variant.infer}, "base": self.setting.hash({}), "fold": self.args.fold,
            "seed": seed, "seconds": self.args.seconds,
        }  # fmt: skip
        LOG.add({**about, **found, "wall_seconds": round(time.monotonic() - started, 1)})
        self.redone.add(key)

    def key(self, name: str, seed: int) -> str:
        variant = self.variants[name]
        after = {f"after: {key}": value for key, value in variant.infer.items()}
        made_from = self.setting.hash({**variant.options, **after})
        return trials.key_of(self.setting.name, name, seed, self.args.fold, self.args.seconds, made_from)

    def is_done(self, name: str, key: str, seed: int) -> bool:
        found = [line for line in self.lines() if line["key"] == key]
        if name == "baseline_05":  # of the present member: every other pass is compared with it
            return any(line["member"] == self.member_here(seed) for line in found) or not self.member_here(seed)
        return bool(found)

    def member_here(self, seed: int) -> str:
        """Fingerprint of the baseline's member, if it is still the one in the log; else empty."""
        workspace = Workspace(workspace_of(self.setting.config()))
        done = workspace.member_dir(self.experiment("baseline"), self.args.fold, seed) / "done.json"
        logged = [line["member"] for line in self.lines() if (line["switch"], line["seed"]) == ("baseline", seed)]
        return logged[-1] if logged and logged[-1] == file_fingerprint(done) else ""

    def has_baseline(self, seed: int, switch: Switch) -> bool:
        """Whether there is what a switch needs of the baseline; a member that is gone is trained anew."""
        if not (switch.kind == "infer" or switch.with_baseline):
            return any((line["switch"], line["seed"]) == ("baseline", seed) for line in self.lines())
        if not self.member_here(seed):
            self.args.redo.append("baseline")
            self.redone.discard(self.key("baseline", seed))
            self.trial("baseline", seed)
            self.args.redo.remove("baseline")
        if self.member_here(seed) and switch.kind == "infer" and switch is not SWITCHES["baseline_05"]:
            self.trial("baseline_05", seed)
        return bool(self.member_here(seed))

    def train(self, name: str, variant: Variant, seed: int, again: bool) -> dict:
        """Train a switch's member; with other options than the baseline's, in an experiment of its own."""
        switch, home = variant.switch, name if variant.switch.kind == "data" else ""
        own = name if variant.options else "baseline"
        base = self.setting.config(variant.options)
        weights = ["swa", *(["last"] if base.train.swa.start < 1 else []), *(["ema"] if base.train.ema else [])]
        if home:
            trials.prepare_own_tiles(self.setting, variant.options, home)
        options = {**variant.options, "infer.checkpoints": f"[{', '.join(weights)}]"}
        where = self.experiment(own), self.args.fold, seed, self.args.seconds
        found = trials.train(self.setting, *where, options, home, again and own == name)
        found["scores"].setdefault("last", found["scores"]["swa"])  # the same weights where SWA is off
        if variant.infer or switch.with_baseline:
            names = ["baseline", own] if switch.with_baseline else [own]
            predicted = self.predict({**variant.options, **variant.infer}, names, seed)
            found["scores"] |= predicted["scores"]
            found |= {"infer_seconds": predicted["infer_seconds"]}
        if switch.with_baseline:
            found["member"] = self.member_here(seed)
        return found

    def predict(self, options: Options, names: list[str], seed: int) -> dict:
        """05's pass over the fold with the members of some switches."""
        experiments = [self.experiment(name) for name in names]
        inferred = trials.infer(self.setting.config(options), experiments, self.args.fold, seed)
        scores = {"05": inferred.score()}
        if inferred.oof.binary:
            scores["fitted"] = inferred.fitted_score()
        return {"scores": scores, "infer_seconds": inferred.seconds, "member": self.member_here(seed)}

    def experiment(self, name: str) -> str:
        return f"ablation_{name}_{self.args.seconds:g}s"


# ---- what came out ---------------------------------------------------------------------------------------------------


def newest(lines: list[dict]) -> list[dict]:
    """Of every competition the lines that belong to its last one: same YAML, fold and seconds."""
    last = {line["competition"]: line for line in lines}
    same = ("base", "fold", "seconds")
    return [line for line in lines if all(line[key] == last[line["competition"]][key] for key in same)]


def effect_of(name: str, lines: list[dict]) -> dict | None:
    """Paired effect of a switch over the seeds in one competition's lines, oldest first; None without a pair."""
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
    """(a switch's line, the line that it is compared with, the score with the technique less that without) by seed.

    Only lines of the switch's latest options count.
    """
    switch, own = SWITCHES[name], [line for line in lines if line["switch"] == name]
    own = {
        line["seed"]: line for line in own if (line["trick"], line["options"]) == (own[-1]["trick"], own[-1]["options"])
    }
    for line in own.values():
        reference = reference_of(switch, line, lines)
        if reference is not None:
            against, weights = reference
            yield line, against, sign_of(line) * (line["scores"][switch.score] - against["scores"][weights])


def sign_of(line: dict) -> int:
    """1 where the line has the technique, -1 where the line that it is compared with has it."""
    return 1 if line["trick"] == "on" else -1


def reference_of(switch: Switch, line: dict, lines: list[dict]) -> tuple[dict, str] | None:
    """(the line that a switch's line is compared with, which of its scores), or None when there is none."""
    other, _, weights = line["against"].partition(" ")
    if other == "own":
        return line, weights
    found = [known for known in lines if (known["switch"], known["seed"]) == (other, line["seed"])]
    if switch.kind == "infer" or switch.with_baseline:  # both measured on one member
        found = [known for known in found if known["member"] == line["member"]]
    return (found[-1], weights or SWITCHES[other].score) if found else None


def report(lines: list[dict], names: list[str], failed: dict[str, str]) -> None:
    """Print a table, one row for each switch and one column for each competition, and all of it as one JSON line."""
    competitions = list(dict.fromkeys(line["competition"] for line in lines))
    names = [name for name in names if not name.startswith("baseline")]
    of = {c: [line for line in lines if line["competition"] == c] for c in competitions}
    told = {
        c: {name: effect_of(name, of[c]) for name in names if any(line["switch"] == name for line in of[c])}
        for c in competitions
    }
    print(f"\n| switch | {' | '.join(competitions)} |\n|---|{'---|' * len(competitions)}")
    for name in names:
        print(f"| {name} | {' | '.join(cell(told[c].get(name)) for c in competitions)} |")
    summary = {}
    for c in competitions:
        scores = list({line["seed"]: line["score"] for line in of[c] if line["switch"] == "baseline"}.values())
        about = {key: of[c][-1][key] for key in ("base", "fold", "seconds")}
        summary[c] = {**about, "baseline": effects.spread(scores, 6) if scores else None, "switches": told[c]}
    print(json.dumps({**summary, "failed": failed}))


def cell(effect: dict | None) -> str:
    """One effect as the table shows it.

    >>> cell({"effect": 0.0123, "se": 0.0041, "pairs": 3, "verdict": "helps", "seconds": 1.9})
    '+.0123 ± .0041 (3), helps; 1.90 × seconds'
    >>> cell(None)
    'not yet'
    """
    ratios = [f"; {effect[what]:.2f} × {what}" for what in ("seconds", "steps") if effect and what in effect]
    return effects.told(effect) + "".join(ratios)


if __name__ == "__main__":
    main()
