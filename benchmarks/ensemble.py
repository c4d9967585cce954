"""Score against seconds: what 05 loses under a time limit, and whether its planner knows how long it will take.

    python benchmarks/ensemble.py configs/demo.yaml -- --infer.tta d4 --infer.overlap 0.5
    python benchmarks/ensemble.py configs/aerial.yaml --shares 0.5 0.1 --fresh -- --competition.root ../aerial

Needs the finished workspace of the YAML and the options after `--`, which go to 05. Nothing in it is touched: 05 runs
in a copy of its tables and out-of-fold maps, work/bench/ensemble/<name>, with its members linked. First without a
limit, then with each of the `--shares` of the seconds that this took. Out-of-fold maps are there when limited runs
begin, and the time of making them does not count; `--fresh`: each run makes its own, of fewer images where the limit is
short, and the time counts.

A score is out-of-fold, in the competition's metric. Of a limited run: each fold's images are predicted by the fold's
own networks with as many passes and overlap as the test images' windows had, and decided by that run's decision. What
the other folds' networks add to a test image is not in it. `expected`: seconds that the planner foretold of the test
images; `test`: those they took; `answered`: when the CSV was there. The last line
printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import trials
from benchmarks.settings import REPOSITORY, Setting, split_arguments
from lib.competition import metrics
from lib.config.load import workspace_of
from lib.decision.decision import Decision
from lib.decision.fit import Fitting, needs_maps
from lib.errors import UserError, run_script
from lib.inference.checkpoints import Checkpoint, check_same_models, named_checkpoints
from lib.inference.members import choose_engine, image_sources, scale_groups
from lib.inference.multi_scale import maps_of
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.sources import limits_of
from lib.oof.evaluate import CountCollector, TrueLabels, evaluate, outside_values
from lib.oof.evaluation import Evaluation
from lib.oof.map_files import Maps, MapWriter
from lib.predict.time_pacer import PacedEnsemble
from lib.predict.time_plan import order_of
from lib.predict.workload import overlapping
from lib.session import Session
from lib.system.text_table import text_table
from lib.workspace import Workspace, read_json


def main(argv: list[str]) -> None:
    args = parse_arguments(argv)
    setting = Setting.of(args.config, args.given)
    os.chdir(REPOSITORY)  # as the scripts do: a workspace's paths may be relative to it
    config = setting.own_config()
    if config.infer.time_limit or config.infer.roi == "coarse" or config.infer.folds == "all":
        raise UserError(
            "this benchmark sets infer.time_limit itself, and cannot follow infer.roi coarse or infer.folds all; leave "
            "them out"
        )
    scratch = copy_of(Workspace(workspace_of(config)), REPOSITORY / "work/bench/ensemble" / setting.name)
    rows = [limited(setting, scratch, 0.0, args.fresh)]
    unlimited = rows[0]["taken"]
    for share in args.shares:
        rows.append(limited(setting, scratch, share * unlimited, args.fresh))
    for row in rows:
        row["loss"] = round(rows[0]["score"] - row["score"], 4)
    print(text_table(rows))
    about = {"competition": setting.name, "metric": config.competition.metric, "fresh": args.fresh}
    print(json.dumps({**about, "given": args.given, "runs": rows}))


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--shares", nargs="+", type=float, default=[1, 0.5, 0.25, 0.1], help="of the unlimited seconds")
    parser.add_argument("--fresh", action="store_true", help="every run makes its out-of-fold maps")
    ours, given = split_arguments(argv)
    args = parser.parse_args(ours)
    args.given = given
    return args


def copy_of(home: Workspace, root: Path) -> Workspace:
    """A workspace for 05 to work in: tables, measured choices and out-of-fold maps of `home`, and its members, linked.

    What was measured for time limits is left behind. Raises UserError where there is nothing to copy.
    """
    if not home.folds.is_file() or not home.runs.is_dir():
        raise UserError(f"{home.root} has no folds.csv and no members; run stages 1 to 3 first (bash run_all.sh)")
    shutil.rmtree(root, ignore_errors=True)
    copy = Workspace(root)
    for path in (home.images, home.folds, home.root / "manifests", home.oof_dir):
        target = root / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target)
        elif path.is_file():
            shutil.copyfile(path, target)
    (root / "manifests/05_infer_ensemble.json").unlink(missing_ok=True)
    timed = "infer.time_limit"
    for key, value in home.choices.all().items():
        if not key.startswith(timed):
            copy.choose(key, value)
    copy.runs.symlink_to(home.runs.resolve())
    return copy


def limited(setting: Setting, scratch: Workspace, limit: float, fresh: bool) -> dict:
    """A run of 05 under a limit in seconds (0: none): one row of the table."""
    if fresh:
        shutil.rmtree(scratch.oof_dir, ignore_errors=True)
    own = [*setting.own_flags(), "--workspace", str(scratch.root), "--infer.time_limit", f"{limit:.6f}"]
    trials.run("05_infer_ensemble.py", *own)
    facts = read_json(scratch.root / "manifests/05_infer_ensemble.json", {})["facts"]
    plan, parts = facts["plan"], facts["speed"]["parts"]
    taken = facts["seconds"] - (0.0 if fresh or limit else parts["out-of-fold maps"])
    row = {
        "asked": round(limit, 3) if limit else None, "taken": round(taken, 2), "expected": None,
        "test": parts["test images"], "answered": None, "score": facts["oof_score"], "passes": None, "overlap": None,
    }  # fmt: skip
    if not limit:
        return row
    config = setting.own_config("--workspace", str(scratch.root))
    session, members = Session(config), named_checkpoints(facts["members"], scratch)
    return {
        **row, "expected": plan["expected"], "answered": round(facts["seconds"], 2),
        "score": limited_score(session, members, plan, Decision.load(scratch.decision)),
        "passes": [mean_passes(turns) for turns in plan["windows"]], "overlap": plan["overlap"],
    }  # fmt: skip


def mean_passes(turns: dict[str, int]) -> float:
    """
    >>> mean_passes({"0": 1, "4": 3})
    3.0
    """
    return round(sum(int(count) * windows for count, windows in turns.items()) / max(1, sum(turns.values())), 2)


def own_passes(count: int, folds: int, systems: int) -> int:
    """Of a test window's first `count` passes, which go through views, folds and systems, those that one fold's
    networks make for its own images: a system that any fold has told of counts.

    >>> [own_passes(count, folds=2, systems=2) for count in range(9)]
    [0, 1, 2, 2, 2, 3, 4, 4, 4]
    """
    views, more = divmod(count, folds * systems)
    return views * systems + min(more, systems)


class Replay:
    """A pace for one fold's networks, whose batches have the passes that the test images' windows had, drawn anew.

    `windows`: of every group, passes → windows; `systems`: how many each group has.
    """

    def __init__(self, windows: list[dict[str, int]], folds: int, systems: list[int]):
        self._random = np.random.default_rng(0)
        self._counts = [
            [own_passes(int(count), folds, own) for count in turns] for turns, own in zip(windows, systems, strict=True)
        ]
        self._shares = [np.array(list(turns.values())) / sum(turns.values()) for turns in windows]

    def plan(self) -> list[int]:
        return [
            int(self._random.choice(counts, p=shares))
            for counts, shares in zip(self._counts, self._shares, strict=True)
        ]

    clock = staticmethod(time.monotonic)

    def took(self, *_: object) -> None:
        pass

    expect = over = took


class Replayed(PacedEnsemble):
    """A `PacedEnsemble` whose windows may get no pass, and `fill` (K,) then."""

    def __init__(self, whole: Ensemble, order: list[tuple[int, int]], pace: Replay, group: int, fill: np.ndarray):
        super().__init__(whole, order, pace, group)
        self.fill = fill

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        counts = self.pace.plan()
        if not counts[self.group]:
            shape = len(windows), self.map_count, len(self.fill), *windows.shape[1:3]
            return np.broadcast_to(self.fill[:, None, None], shape)
        return super().__call__(windows)


def limited_score(session: Session, parts: list[Checkpoint], plan: dict, decision: Decision) -> float:
    """The metric of out-of-fold maps made as the plan's test maps became, decided by `decision`."""
    config, competition, engine = session.config, session.competition, choose_engine(session, parts)
    labels, folds = len(competition.label_names), sorted({part.member.fold for part in parts})
    whole = needs_maps(config, len(check_same_models(parts)))
    evaluations, files = [], []
    with tempfile.TemporaryDirectory(dir=session.workspace.root) as folder:
        for fold in folds:
            own = [part for part in parts if part.member.fold == fold]
            sources = image_sources(session, session.folds.query("fold == @fold")["image_id"])
            fill = outside_values(config.competition, config.infer.gated)
            groups = replayed(scale_groups(session, own, engine, per_model=True), own, plan, len(folds), fill)
            path = Path(folder) / f"{fold}.maps"
            truth = TrueLabels.of(competition, config.infer.gated)
            counts = CountCollector([source.image_id for source in sources], truth, maps_of(groups))
            with MapWriter(path) as writer:
                collectors = [counts, writer] if whole else [counts]
                evaluate(sources, groups, truth, limits_of(config), collectors, f"05 as limited, fold {fold}")
            evaluations.append(counts.evaluation())
            files.append(path)
        fitting = Fitting(Evaluation.concat(evaluations), Maps(files) if whole else None, labels, config, Path(folder))
        counts, _ = fitting.decide(decision, np.ones(len(fitting.oof.image_ids), bool))
    return round(metrics.score(config.competition, counts), 4)


def replayed(
    groups: list[ScaleGroup], own: list[Checkpoint], plan: dict, folds: int, fill: np.ndarray
) -> list[ScaleGroup]:
    """One fold's groups, made of the parts `own`, each window with as many passes as the plan's had."""
    owners = iter(own)
    parts = [[next(owners) for _ in group.forward.runs] for group in groups]
    pace = Replay(plan["windows"], folds, [len(some) for some in parts])
    orders = [
        order_of(some, plan["models"], len(group.forward.views)) for group, some in zip(groups, parts, strict=True)
    ]
    return [
        ScaleGroup(overlapping(group.windows, plan["overlap"]), Replayed(group.forward, order, pace, i, fill))
        for i, (group, order) in enumerate(zip(groups, orders, strict=True))
    ]


if __name__ == "__main__":
    run_script(main)
