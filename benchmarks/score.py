"""Ours against the yardstick notebook: equal training time, threads, folds and seeds, one member each.

    python -m venv peers && peers/bin/pip install -r benchmarks/requirements.txt
    python benchmarks/score.py --peers-python peers/bin/python --data ../data \\
        --competitions aerial retina --minutes 5

Run it with the Python of the solution, on an otherwise idle machine, from any folder. For every seed both are run,
one after the other, and the one that goes first changes from seed to seed. The folds are those of 02_make_folds.py
and the scores are of the fold's whole images, at a threshold of 0.5 where there is one class: a threshold fitted on
the very fold would flatter us. Options after `--` go to our three scripts (`-- --model.architecture fpn`).

The terms are the same where a setting of ours was chosen: the notebook shrinks images and enlarges its maps by our
`preprocess.scale`, and the fold and the seeds are by default some that no setting was chosen on (settings were chosen
on folds 0 and 1 with seeds 42 to 47). The JSON says which fold, seeds and scale it was.

Finished runs stand in work/bench/scores.jsonl and are not run again while the options, the competition's YAML and
the fold's images are the same; changed code is not noticed: `--redo ours` (or `notebook`) runs them once more. The
last line it prints is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev

REPOSITORY = Path(__file__).resolve().parents[1]
SIDES = ("ours", "notebook")
SCALES = ("preprocess.scale", "train.scale")


def main() -> None:
    args = parse_arguments()
    log = REPOSITORY / "work/bench/scores.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    for name in args.competitions:
        folds = make_folds(name, args)
        for number, seed in enumerate(args.seeds):
            for side in SIDES[:: -1 if number % 2 else 1]:
                key = key_of(side, name, seed, folds, args)
                if key in {run["key"] for run in read_log(log)} and side not in args.redo:
                    continue
                print(f"-- {side}: {name}, fold {args.fold}, seed {seed}", flush=True)
                result = (run_ours if side == "ours" else run_notebook)(name, seed, folds, args)
                line = {"key": key, "side": side, "when": time.strftime("%Y-%m-%d %H:%M:%S"), **result}
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
    runs = {run["key"]: run for run in read_log(log)}  # the latest of each
    report(runs, args)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", type=Path, required=True, help="Python that has requirements.txt installed")
    parser.add_argument("--competitions", nargs="+", choices=["aerial", "retina"], default=["aerial", "retina"])
    parser.add_argument("--data", type=Path, default=REPOSITORY / "data", help="folder that holds the competitions'")
    parser.add_argument("--seeds", nargs="+", type=int, default=[61, 62, 63])
    parser.add_argument("--fold", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=5, help="minutes of training per member")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the network, for both")
    parser.add_argument("--redo", nargs="+", choices=SIDES, default=[], help="run these again")
    argv, ours = sys.argv[1:], []
    if "--" in argv:
        argv, ours = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    args = parser.parse_args(argv)
    args.ours, args.data = ours, args.data.resolve()
    # Not resolve(): a virtual environment's python is a link, and works by its own path only.
    args.peers_python = args.peers_python.absolute()
    return args


# ---- one run ---------------------------------------------------------------------------------------------------------


def make_folds(name: str, args: argparse.Namespace) -> Path:
    """Stages 1 and 2 of ours (they do nothing when they are up to date); the path of folds.csv."""
    for script in ("01_preprocess.py", "02_make_folds.py"):
        run([sys.executable, script, *our_options(name, args)])
    return workspace(name) / "folds.csv"


def run_ours(name: str, seed: int, folds: Path, args: argparse.Namespace) -> dict:
    """Train one member with 03_train.py. Returns a line for the log."""
    # An earlier member of the same options would be found finished, whatever became of the code.
    (workspace(name) / f"manifests/03_bench_fold{args.fold}_seed{seed}.json").unlink(missing_ok=True)
    member = workspace(name) / "runs/bench" / f"fold{args.fold}_seed{seed}"
    (member / "begun.json").unlink(missing_ok=True)
    which = ["--train.experiment", "bench", "--train.folds", str(args.fold), "--train.seeds", str(seed)]
    clock = ["--train.member_limit", f"{60 * args.minutes:g}", "--train.evaluations", "0"]
    threads = ["--train.threads", str(args.threads), "--train.device", "cpu"]
    started = time.monotonic()
    run([sys.executable, "03_train.py", *our_options(name, args), *which, *clock, *threads])
    done = json.loads((member / "done.json").read_text(encoding="utf-8"))
    return {
        "competition": name, "fold": args.fold, "seed": seed, "score": done.get("score_half", done["score"]),
        "steps": done.get("steps"), "train_seconds": done.get("train_seconds"),
        "wall_seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip


def run_notebook(name: str, seed: int, folds: Path, args: argparse.Namespace) -> dict:
    """Train one member with the notebook. Returns a line for the log."""
    command = [args.peers_python, "benchmarks/peers/notebook.py", "--competition", name, "--root", args.data / name]
    command += ["--folds", folds, "--fold", args.fold, "--seed", seed]
    command += ["--minutes", args.minutes, "--threads", args.threads, "--scale", scale_of(name, args)]
    started = time.monotonic()
    printed = run([str(part) for part in command], capture=True)
    result = json.loads(printed.strip().splitlines()[-1])
    return {**result, "wall_seconds": round(time.monotonic() - started, 1)}


def scale_of(name: str, args: argparse.Namespace) -> float:
    """How much our configuration shrinks the images before training."""
    options = our_options(name, args)
    scales = [run([sys.executable, "-m", "lib", "get", key, *options], capture=True) for key in SCALES]
    return float(scales[0]) * float(scales[1])


def workspace(name: str) -> Path:
    """Where our stages of a competition write."""
    return REPOSITORY / f"work/bench-{name}"


def our_options(name: str, args: argparse.Namespace) -> list[str]:
    """The words after the name of one of our scripts."""
    # After the user's own, so that these hold.
    paths = ["--workspace", f"work/bench-{name}", "--competition.root", str(args.data / name)]
    return [f"configs/{name}.yaml", *args.ours, *paths]


def run(command: list[str], capture: bool = False) -> str:
    """Run in the repository; ends this script, with what was run, when it fails."""
    done = subprocess.run(command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        raise SystemExit(f"score.py: exit code {done.returncode} of: {' '.join(command)}")
    return done.stdout or ""


# ---- what has been run -----------------------------------------------------------------------------------------------


def read_log(log: Path) -> list[dict]:
    """All finished runs; a last line that a kill cut short does not count."""
    runs = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else []:
        try:
            runs.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return runs


def key_of(side: str, name: str, seed: int, folds: Path, args: argparse.Namespace) -> str:
    """Everything that a score depends on, code aside."""
    images = [line for line in folds.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    parts = ["\n".join(images), f"scale {scale_of(name, args):g}"]
    if side == "ours":
        parts += [(REPOSITORY / f"configs/{name}.yaml").read_text(encoding="utf-8"), *args.ours]
    made_from = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
    return f"{side} {name} fold{args.fold} seed{seed} {args.minutes:g}min {args.threads}threads {made_from}"


def report(runs: dict[str, dict], args: argparse.Namespace) -> None:
    """Print the table, and all of it as one JSON line."""
    summary = {}
    print(f"\n{'competition':<12} {'seed':>5} {'ours':>8} {'notebook':>9} {'difference':>11} {'steps':>11}")
    for name in args.competitions:
        rows = []
        for seed in args.seeds:
            keys = [key_of(side, name, seed, workspace(name) / "folds.csv", args) for side in SIDES]
            ours, notebook = (runs[key] for key in keys)
            row = {"seed": seed, "ours": ours["score"], "notebook": notebook["score"]}
            rows.append({**row, "difference": round(ours["score"] - notebook["score"], 6)})
            steps = f"{ours['steps']}/{notebook['steps']}"
            print(
                f"{name:<12} {seed:>5} {row['ours']:>8.4f} {row['notebook']:>9.4f} "
                f"{rows[-1]['difference']:>+11.4f} {steps:>11}"
            )
        summary[name] = {column: spread([row[column] for row in rows]) for column in (*SIDES, "difference")}
        print(
            f"{name:<12} {'all':>5} "
            + "   ".join(f"{k} {v['mean']:.4f} ± {v['sd']:.4f}" for k, v in summary[name].items())
        )
        summary[name] |= {"scale": scale_of(name, args), "runs": rows}
    print(json.dumps({"minutes": args.minutes, "threads": args.threads, "fold": args.fold, **summary}))


def spread(values: list[float]) -> dict[str, float]:
    """Mean and sample standard deviation (0 for one value)."""
    return {"mean": round(mean(values), 6), "sd": round(stdev(values), 6) if len(values) > 1 else 0.0}


if __name__ == "__main__":
    main()
