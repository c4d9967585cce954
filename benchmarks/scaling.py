"""Measures the stages on one and two workers of a Dask cluster, and simulates many workers from measured costs.

    python benchmarks/scaling.py configs/demo.yaml
    python benchmarks/scaling.py configs/demo.yaml --stages 01 04 -- --train.epochs 1
    python benchmarks/scaling.py --simulate costs.json

Run it on an otherwise idle machine. The stages run as their scripts, in a workspace of their own for each number of
workers: 01, 02, 03 with all members, 04 and 05, each worker with one thread. `efficiency` is the time on one worker
over twice the time on two. `cores`: the same for two processes that only compute, at the same time; it is below 1 where
two cores share memory or a clock. `ratio` is one over the other: what the engine loses. `task_ms`: the overhead of one
task that does nothing. `files`, `mb_per_second`: what the workers wrote to the shared folder.

With --simulate, a file of `costs` and `plan` (benchmarks/cluster_model.py says which), such as 5 folds, 3 seeds and 2
rounds, is put into the graph of the stages, on 1 to 64 workers, and once more with 8 workers killed in the middle. It
is a simulation: nothing of it has been run. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.cluster_model import Costs, Plan, simulate, tasks_of
from lib.config.execution import Execution
from lib.errors import UserError, reading, run_script

ROOT = Path(__file__).resolve().parents[1]
STAGES = {
    "01": ["01_preprocess.py"], "02": ["02_make_folds.py"], "03": ["03_train.py"],
    "04": ["04_pseudo_label.py", "--train.round", "1"], "05": ["05_infer_ensemble.py"],
}  # fmt: skip
WORKERS = (1, 2, 4, 8, 16, 32, 64)
KILLED = 8


def stage_seconds(config: str, flags: list[str], workers: int, workspace: Path, stages: list[str]) -> dict[str, dict]:
    """Seconds, files and bytes of each stage on so many workers, up to the last one that is asked for."""
    found = {}
    execution = ["--execution.backend", "dask", "--execution.devices", *["cpu"] * workers, "--execution.threads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, (script, *words) in STAGES.items():
        own = [*execution, "--workspace", str(workspace)]
        command = [sys.executable, str(ROOT / script), config, *words, *flags, *own]
        before, started = _written(workspace), time.monotonic()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        seconds, after = time.monotonic() - started, _written(workspace)
        files, megabytes = after[0] - before[0], (after[1] - before[1]) / 2**20
        found[name] = {"seconds": seconds, "files": files, "mb_per_second": megabytes / seconds}
        if name == max(stages):
            break
    return found


def _written(folder: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def compute(_: int) -> float:
    """Seconds of a fixed amount of arithmetic."""
    values, started = np.random.default_rng(0).random((600, 600)), time.monotonic()
    for _ in range(60):
        values = values @ values
        values /= values.max()
    return time.monotonic() - started


def cores_efficiency() -> float:
    """How much of one core's speed each of two has when both compute."""
    with ProcessPoolExecutor(2) as pool:
        alone = pool.submit(compute, 0).result()
        return alone / max(pool.map(compute, range(2)))


def task_overhead(count: int = 200) -> float:
    """Seconds of the cluster for one task that does nothing."""
    from lib.execution.dask_executor import DaskExecutor

    engine = DaskExecutor(Execution(backend="dask", devices=["cpu"], threads=1))
    engine.map(divmod, [(1, 1)], "", "task", [])
    started = time.monotonic()
    engine.map(divmod, [(number, 1) for number in range(count)], "", "task", [])
    seconds = (time.monotonic() - started) / count
    engine.close()
    return seconds


def simulated(costs: Costs, plan: Plan) -> list[dict]:
    """A row for each number of workers, calm and with `KILLED` of them killed in the middle."""
    tasks, rows = tasks_of(plan, costs), []
    for workers in WORKERS:
        calm = simulate(tasks, workers)
        row = {"workers": workers, "seconds": round(calm.seconds, 1), "path": calm.path}
        if workers > KILLED:
            killed = simulate(tasks, workers, KILLED, calm.seconds / 2)
            row |= {"seconds_killed": round(killed.seconds, 1), "restarted": killed.restarted}
        rows.append(row)
    return rows


def measured(args: argparse.Namespace, flags: list[str]) -> dict:
    """The whole measurement."""
    with tempfile.TemporaryDirectory() as folder:
        each = {
            workers: stage_seconds(args.config, flags, workers, Path(folder, str(workers)), args.stages)
            for workers in (1, 2)
        }
    cores, rows = cores_efficiency(), {}
    for name in args.stages:
        one, two = each[1][name], each[2][name]
        efficiency = one["seconds"] / (2 * two["seconds"])
        rows[name] = {**two, "seconds": [one["seconds"], two["seconds"]], "efficiency": efficiency,
                      "ratio": efficiency / cores}  # fmt: skip
    return {"cores": cores, "task_ms": 1000 * task_overhead(), "stages": rows}


def main(argv: list[str]) -> None:
    own, flags = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="configs/demo.yaml")
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=["01", "03", "04", "05"])
    parser.add_argument("--simulate", type=Path, help="JSON with `costs` and `plan`, in place of a measurement")
    args = parser.parse_args(own)
    if args.simulate is None:
        print(json.dumps(measured(args, flags)))
        return
    if not args.simulate.is_file():
        raise UserError(
            f"there is no file {args.simulate}; it holds `costs` and `plan`, see benchmarks/cluster_model.py"
        )
    with reading(args.simulate, "not a file of `costs` and `plan`", "see benchmarks/cluster_model.py for their names"):
        given = json.loads(args.simulate.read_text(encoding="utf-8"))
        costs, plan = Costs(**given["costs"]), Plan(**given["plan"])
    rows = simulated(costs, plan)
    for row in rows:
        print(f"{row['workers']:3} workers: {row['seconds']:.0f} s, {row.get('seconds_killed', 0):.0f} s with kills")
    print(json.dumps(rows))


if __name__ == "__main__":
    run_script(main)
