"""Does a change of the code leave every result as it was? The whole demo at two commits, compared byte for byte.

    python benchmarks/golden.py main                 # this checkout's last commit against the branch main
    python benchmarks/golden.py v1.0 HEAD~3

Each commit is checked out into a temporary folder and runs all five stages there, with one pseudo-label round, one
thread, fp32 and a fixed number of steps. Then the submission, the tables, the members' weights and the out-of-fold
scores are compared. Equal results are promised for one machine and one set of libraries alone. The options in `FIXED`
must exist, with the same meaning, at both commits. Prints one line for each file that differs, and last a line of
JSON: `compared`, `differences`, `oof_score` of both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIXED = (
    "--train.member_limit", "0", "--train.epochs", "6", "--train.threads", "1", "--train.precision", "fp32",
    "--infer.backend", "eager", "--infer.precision", "fp32", "--infer.tta", "flips",
)  # fmt: skip
STEPS = (
    ("-m", "lib", "demo", "configs/demo.yaml"), ("01_preprocess.py",), ("02_make_folds.py",), ("03_train.py",),
    ("04_pseudo_label.py", "--train.round", "1"), ("03_train.py", "--train.round", "1"),
    ("05_infer_ensemble.py", "--infer.experiments", "base", "base-r1"),
)  # fmt: skip
FILES = (
    "images.csv", "tiles.csv", "folds.csv", "leaks/leaks.csv", "pseudo/round1/tiles.csv", "submission.csv",
    "tiles/**/*.*", "pseudo/round1/tiles/**/*.*", "runs/*/*/*_weights.pt",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", default="HEAD", help="a commit")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        before, after = (results_of(commit, Path(temporary) / name) for commit, name in
                         ((args.before, "before"), (args.after, "after")))  # fmt: skip
    different = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    for name in different:
        print(f"differs: {name}: {before.get(name, 'missing')} before, {after.get(name, 'missing')} after")
    scores = [result["score of the ensemble"] for result in (before, after)]
    print(json.dumps({"compared": len(before), "differences": len(different), "oof_score": scores}))
    sys.exit(bool(different))


def results_of(commit: str, folder: Path) -> dict[str, str]:
    """Name -> hash of each file, or score, that the demo leaves at this commit. It runs in `folder`."""
    subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(folder), commit], check=True)
    try:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
        for step in STEPS:
            options = () if step[0] == "-m" else ("configs/demo.yaml", *FIXED)
            call = [sys.executable, step[0], *options, *step[1:]]
            print(f"{commit}: {' '.join(call[1:])}", flush=True)
            subprocess.run(call, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        return dict(found_in(folder / "work/demo"))
    finally:
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(folder)], check=True)


def found_in(workspace: Path):
    """(name, hash or score) of everything that must not change."""
    for pattern in FILES:
        for path in sorted(workspace.glob(pattern)):
            yield str(path.relative_to(workspace)), sha256(path.read_bytes()).hexdigest()[:16]
    for path in sorted(workspace.glob("runs/*/*/done.json")):
        yield f"score of {path.parent.relative_to(workspace / 'runs')}", str(json.loads(path.read_text())["score"])
    about = next((workspace / "submissions").glob("*.json"))
    yield "score of the ensemble", str(json.loads(about.read_text())["oof_score"])


if __name__ == "__main__":
    main()
