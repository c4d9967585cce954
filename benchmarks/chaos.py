"""Kills, full disks, read-only disks and second processes; then every result is the same, byte for byte.

    python benchmarks/chaos.py                     # some 20 minutes on two cores
    python benchmarks/chaos.py --kills 20 --faults 4 --pairs 1 --seed 1
    python benchmarks/chaos.py --shard 0 2 & python benchmarks/chaos.py --shard 1 2    # halves, side by side

A miniature competition goes through its stages once without disturbance. Then each stage begins many times from the
files of the stage before. It is disturbed, and its command is given again until it ends. The disturbances:

    kills       KILL, TERM or INT to all processes of the stage, just before or after a rename, or at a random moment
    faults      from some operation on files on, all that write fail, as on a full or a read-only disk
    pairs       two processes of the same stage at once

Then tables, tiles, labels, weights, decision and submission are compared with those of the calm run. A stop (TERM, INT)
must say one sentence, and so must a fault and the process of a pair that waits in vain. Processes are forked from this
one, which has imported everything, so that each takes a second. Runs on Linux and macOS. The last line it prints is
JSON: `kills`, `differences`, `unclear` (more or less than one sentence), `leftovers` (temporary files of a finished
stage) and counts of each kind.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import os
import random
import runpy
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")
from benchmarks.disturbances import contents, count_operations, fail_from, kill_at, moments
from lib.training import trainer
from tests.conftest import make_tiny

REPOSITORY = Path(__file__).resolve().parents[1]
STAGES = [
    ("01_preprocess", 0), ("02_make_folds", 0), ("03_train", 0), ("04_pseudo_label", 1), ("03_train", 1),
    ("05_infer_ensemble", 1),
]  # fmt: skip
FLAGS = ["--train.epochs", "2", "--train.workers", "1"]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STOPPED = "stopped; run the same command again to go on from here"
HANGS = 180.0  # seconds
COUNTS = (
    "kills", "differences", "unclear", "leftovers", "hangs", "KILL", "TERM", "INT", "full_disks", "read_only", "pairs",
    "slowest_stop_ms",
)  # fmt: skip
Disturb = Callable[[], object]


@dataclass
class Chaos:
    """The folder of the trials, and what they found."""

    folder: Path
    random: random.Random
    counts: Counter = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)

    @property
    def workspace(self) -> Path:
        """Where the disturbed stages write."""
        return self.folder / "work"

    def snapshot(self, stage: int) -> Path:
        """The workspace as it was before a stage of the calm run."""
        return self.folder / f"before{stage}"

    def note(self, kind: str, text: str) -> None:
        """Count a finding, keep its sentence, and print it."""
        self.counts[kind] += 1
        self.log.append(f"{kind}: {text}")
        print(self.log[-1], flush=True)

    # ---- processes ---------------------------------------------------------------------------------------------------

    def start(self, stage: int, disturb: Disturb = bool, name: str = "output") -> int:
        """The id of a process, in a group of its own, that runs a stage after calling `disturb()`."""
        script, round_ = STAGES[stage]
        output = self.folder / f"{name}.txt"
        sys.stdout.flush()
        process = os.fork()
        if process:
            return process
        code = 1
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)  # until the script's own handler
            target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(target, 1)
            os.dup2(target, 2)
            sys.argv = [f"{script}.py", str(self.folder / "tiny.yaml"), *FLAGS, "--train.round", str(round_)]
            disturb()
            runpy.run_path(str(REPOSITORY / f"{script}.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait(self, process: int, limit: float = HANGS) -> int | None:
        """The exit code of a process (negative: of a signal); None where it still runs after `limit` seconds."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return None

    def run(self, stage: int, disturb: Disturb = bool) -> tuple[int, str]:
        """(exit code, output) of a stage; one that hangs is killed and noted."""
        process = self.start(stage, disturb)
        code = self.wait(process)
        if code is None:
            self.note("hangs", STAGES[stage][0])
            os.killpg(process, signal.SIGKILL)
            code = self.wait(process)
        return code, self.output()

    def output(self, name: str = "output") -> str:
        """What the process of that name printed."""
        return (self.folder / f"{name}.txt").read_text(errors="replace")

    # ---- trials ------------------------------------------------------------------------------------------------------

    def begin(self, stage: int) -> None:
        """The workspace is again what it was before a stage."""
        shutil.rmtree(self.workspace, ignore_errors=True)
        shutil.copytree(self.snapshot(stage), self.workspace)

    def finish(self, stage: int, what: str) -> None:
        """Give a stage's command again, without disturbance, and compare."""
        code, output = self.run(stage)
        if code:
            self.note("differences", f"{what}: the next call ended with {code}: {output[-2000:]}")
            return
        before, after = contents(self.snapshot(stage + 1)), contents(self.workspace)
        other = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        if other:
            self.note("differences", f"{what}: {', '.join(other[:5])} ({len(other)} files)")
        left = list(self.workspace.rglob(".*tmp*"))
        if left:
            self.note("leftovers", f"{what}: {left[0].relative_to(self.workspace)} ({len(left)} files)")

    def killed(self, code: int | None, output: str, number: signal.Signals, what: str) -> bool:
        """Whether a stage ended by our signal, and not before it. A stop must say one sentence."""
        if number == signal.SIGKILL and code == -signal.SIGKILL:
            self.counts["KILL"] += 1
        elif number != signal.SIGKILL and code in (130, -number):  # the latter before the script has begun
            self.counts[number.name.removeprefix("SIG")] += 1
            if code == 130 and (output.count(STOPPED) != 1 or "Traceback" in output or "rror" in output):
                self.note("unclear", f"{what}: {output[-2000:]}")
        else:
            if code:
                self.note("differences", f"{what}: ended with {code} in place of the stop: {output[-2000:]}")
            return False
        self.counts["kills"] += 1
        return True

    def kill_at_rename(self, stage: int, place: int, before: bool, number: signal.Signals) -> None:
        """Kill a stage before or after its rename number `place`, then finish and compare."""
        what = f"{STAGES[stage][0]}, {number.name} {'before' if before else 'after'} rename {place + 1}"
        self.begin(stage)
        code, output = self.run(stage, lambda: kill_at(place, before, number))
        self.killed(code, output, number, what)
        self.finish(stage, what)

    def kill_at_moments(self, stage: int, seconds: float, number: signal.Signals) -> None:
        """Kill a stage one to three times, each at a random moment of its `seconds`."""
        self.begin(stage)
        what = f"{STAGES[stage][0]}, {number.name} at"
        for _ in range(self.random.randint(1, 3)):
            delay = self.random.uniform(0, seconds)
            what += f" {delay:.2f} s"
            process = self.start(stage)
            code = self.wait(process, delay)
            if code is None:
                os.killpg(process, number)
                started = time.monotonic()
                code = self.wait(process)
                self.counts["slowest_stop_ms"] = max(
                    self.counts["slowest_stop_ms"], round(1000 * (time.monotonic() - started))
                )
            if not self.killed(code, self.output(), number, what):
                break
        self.finish(stage, what)

    def fail_writing(self, stage: int, place: int, number: int) -> None:
        """Let all that a stage writes fail from operation `place` on, then finish and compare."""
        what = f"{STAGES[stage][0]}, {errno.errorcode[number]} from operation {place + 1} on"
        self.begin(stage)
        code, output = self.run(stage, lambda: fail_from(place, number, self.workspace))
        self.counts["full_disks" if number == errno.ENOSPC else "read_only"] += 1
        if code and (code != 2 or output.count("error:") != 1 or "Traceback" in output):
            self.note("unclear", f"{what}: ended with {code}: {output[-2000:]}")
        self.finish(stage, what)

    def two_at_once(self, stage: int) -> None:
        """Run a stage twice at the same time. At most one may stop, with one sentence."""
        what = f"{STAGES[stage][0]}, twice at once"
        self.begin(stage)
        both = [self.start(stage, name=name) for name in ("output", "second")]
        for process, name in zip(both, ("output", "second"), strict=True):
            code, output = self.wait(process), self.output(name)
            if code and (code != 2 or output.count("error:") != 1 or "Traceback" in output):
                self.note("unclear", f"{what}: ended with {code}: {output[-2000:]}")
        self.counts["pairs"] += 1
        self.finish(stage, what)

    # ---- the calm run ------------------------------------------------------------------------------------------------

    def calm(self, stage: int) -> tuple[int, int, float]:
        """(renames, operations that write, seconds) of an undisturbed stage. Keeps the workspace after it."""
        counts = self.folder / "counts.json"
        started = time.monotonic()
        code, output = self.run(stage, lambda: count_operations(counts, self.workspace))
        if code:
            raise SystemExit(f"{STAGES[stage][0]} fails without a disturbance: {output}")
        seconds = time.monotonic() - started
        shutil.copytree(self.workspace, self.snapshot(stage + 1))
        return (*json.loads(counts.read_text()), seconds)


# ---- all of it -------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="at least so many")
    parser.add_argument("--faults", type=int, default=40, help="full and read-only disks")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", type=int, nargs=2, default=[0, 1], help="do every second, third, … trial alone")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "work/bench/chaos", help="is emptied")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    trainer.SAVE_INTERVAL = 0.0  # a training can go on from each of its epochs
    for script, _ in STAGES:  # imports what the stages need, before their processes are forked
        runpy.run_path(str(REPOSITORY / f"{script}.py"), run_name="imported")
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    make_tiny(options.folder)
    chaos = Chaos(options.folder.resolve(), random.Random(options.seed))
    chaos.snapshot(0).mkdir()
    chaos.workspace.mkdir()
    renames, operations, seconds = zip(*(chaos.calm(stage) for stage in range(len(STAGES))), strict=True)
    print(
        f"renames {renames}, operations that write {operations}, seconds {[round(s, 1) for s in seconds]}", flush=True
    )
    for stage in range(len(STAGES)):  # without a disturbance nothing differs, or the comparison means nothing
        chaos.begin(stage)
        chaos.finish(stage, f"{STAGES[stage][0]}, calm")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was found so far is printed
    try:
        disturb_all(chaos, options, renames, operations, seconds)
    finally:
        counts = {name: chaos.counts[name] for name in COUNTS}
        print(json.dumps({**counts, "seconds": round(time.monotonic() - started)}), flush=True)


def disturb_all(
    chaos: Chaos, options: argparse.Namespace, renames: list[int], operations: list[int], seconds: list[float]
) -> None:
    """All disturbances of this shard. The last three arguments: of each stage, as `Chaos.calm` returns them."""
    first, shards = options.shard
    kills, faults, pairs = (
        len(range(first, count, shards)) for count in (options.kills, options.faults, options.pairs)
    )
    numbers, every = itertools.cycle(SIGNALS), itertools.cycle(range(len(STAGES)))
    for stage, place, before in list(moments(renames, options.kills, chaos.random))[first::shards]:
        chaos.kill_at_rename(stage, place, before, next(numbers))
    least = max(kills, chaos.counts["kills"] + kills // 5)
    while chaos.counts["kills"] < least:
        stage = next(every)
        chaos.kill_at_moments(stage, seconds[stage], next(numbers))
    for number, stage in zip(range(faults), every, strict=False):
        place = chaos.random.randrange(operations[stage])
        chaos.fail_writing(stage, place, errno.EROFS if number // len(STAGES) % 2 else errno.ENOSPC)
    for _, stage in zip(range(pairs), every, strict=False):
        chaos.two_at_once(stage)


if __name__ == "__main__":
    main()
