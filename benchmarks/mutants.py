"""Do the tests notice? Small faults, one at a time, in the code that results depend on.

    python benchmarks/mutants.py                         # 304 faults; needs requirements-dev.txt
    python benchmarks/mutants.py --only losses --count 40 --seed 1

cosmic-ray makes the faults: a number, an operator, a comparison, a condition, a loop or a decorator is changed. A
seeded sample is drawn, equally many from each subject below. A subject's tests are the examples in its docstrings and
the files listed with it. A fault is killed when they fail, or run four times as long as without it. Tests that start
processes of their own see the code without the fault, so they kill nothing here. Each fault gets a process that is
forked after the libraries were imported; no file is changed. Prints every survivor with its line, and last a line of
JSON: `mutants`, `killed`, `share`, `seed`, `seconds`.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.util
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SLOWER = 4  # times as long as without a fault counts as noticed
LEAST = 30.0  # seconds that tests get at least
LIBRARIES = (
    "cv2", "torch", "pandas", "albumentations", "timm", "segmentation_models_pytorch", "tifffile", "joblib", "pydantic",
    "hypothesis", "pytest", "parso.python.tree", "cosmic_ray.mutating",
)  # fmt: skip

SUBJECTS: dict[str, tuple[list[str], list[str]]] = {
    "losses": (
        [f"lib/training/losses/{name}.py" for name in ("build", "pixels", "regions", "targets")],
        ["tests/training/test_losses.py", "tests/training/test_loss_options.py", "tests/training/test_soft_truth.py",
         "tests/training/test_overlapping_loss.py"],
    ),
    "trainer": (
        ["lib/training/trainer.py", "lib/training/step/finite_guard.py", "lib/training/loader.py"],
        ["tests/training/test_steps.py", "tests/training/test_trainer.py", "tests/training/test_finite_guard.py",
         "tests/data/test_sampling.py", "tests/training/test_golden.py"],
    ),
    "optimiser": (
        ["lib/training/optimizers.py"],
        ["tests/training/test_schedules.py", "tests/training/test_steps.py"],
    ),
    "averaging": (
        ["lib/training/averaging.py"],
        ["tests/training/test_schedules.py", "tests/training/test_trainer.py", "tests/training/test_steps.py"],
    ),
    "sampler": (
        ["lib/data/dataset.py", "lib/data/sampler.py"],
        ["tests/data/test_dataset.py", "tests/data/test_sampling.py", "tests/data/test_fold_table.py"],
    ),
    "augmentation": (["lib/data/augment.py", "lib/data/cutmix.py"], ["tests/data/test_augment.py"]),
    "tiling": (
        ["lib/data/preprocess/tiling.py", "lib/data/preprocess/tile_labels.py", "lib/imaging/grid.py"],
        ["tests/data/test_tiling.py", "tests/imaging/test_grid_and_stitch.py"],
    ),
    "folds": (
        ["lib/data/folds.py", "lib/data/split_check.py"],
        ["tests/data/test_fold_table.py", "tests/data/test_split_check.py", "tests/data/test_folds_and_leaks.py"],
    ),
    "leaks": (
        ["lib/data/leaks/compare.py", "lib/data/leaks/features.py", "lib/data/leaks/candidates.py"],
        ["tests/data/test_leak_candidates.py", "tests/data/test_folds_and_leaks.py", "tests/data/test_leaks.py"],
    ),
    "stitch": (
        ["lib/imaging/stitch.py", "lib/imaging/blend.py"],
        ["tests/imaging/test_grid_and_stitch.py"],
    ),
    "resize": (["lib/imaging/resize.py"], ["tests/imaging/test_resize_and_components.py"]),
    "rle": (
        ["lib/competition/rle.py", "lib/competition/coco_rle.py"],
        ["tests/competition/test_rle.py", "tests/competition/test_coco.py", "tests/competition/test_rle_rows.py"],
    ),
    "codecs": (
        ["lib/competition/codecs/*.py"],
        ["tests/competition/test_codec_rows.py", "tests/competition/test_rle_rows.py",
         "tests/imaging/test_resize_and_components.py", "tests/competition/test_labels_and_codecs.py",
         "tests/competition/test_sample_files.py", "tests/competition/test_presets.py",
         "tests/predict/test_write_submission.py"],
    ),
    "metrics": (
        ["lib/competition/metrics/pixels.py", "lib/competition/metrics/objects_and_surfaces.py"],
        ["tests/competition/test_metrics.py", "tests/competition/test_preset_rules.py",
         "tests/competition/test_bootstrap.py", "tests/competition/test_scoring.py"],
    ),
    "decision": (
        [f"lib/decision/{name}.py"
         for name in ("decision", "fit", "thresholds", "presence_gate", "class_factors", "weight_search",
                      "class_search", "search")],
        ["tests/decision/test_decision.py", "tests/decision/test_fit.py", "tests/decision/test_whole_maps.py",
         "tests/decision/test_postprocess.py", "tests/decision/test_constant.py", "tests/decision/test_overlap.py"],
    ),
    "stage keys": (
        ["lib/stage.py", "lib/stages.py", "lib/config/affects.py", "lib/digests.py"],
        ["tests/stages/test_manifests.py", "tests/stages/test_options.py", "tests/stages/test_chain.py"],
    ),
}  # fmt: skip


@dataclass
class Fault:
    """One change of one file; `occurrence` counts the places where cosmic-ray's `operator` could change it."""

    subject: str
    file: str
    operator: str
    occurrence: int
    line: int
    tests: list[str] = field(repr=False)

    @cached_property
    def code(self) -> str:
        """The whole file with the change."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator

        source = (ROOT / self.file).read_text(encoding="utf-8")
        return mutate_code(source, get_operator(self.operator)(), self.occurrence)

    def shown(self) -> dict[str, object]:
        """The fault as a line of a table."""
        before = (ROOT / self.file).read_text(encoding="utf-8").splitlines()
        after = self.code.splitlines()
        changed = [(old, new) for old, new in zip(before, after, strict=False) if old != new] or [("", "")]
        old, new = (text.strip() for text in changed[0])
        where = {"subject": self.subject, "file": self.file, "line": self.line}
        return {**where, "operator": self.operator.removeprefix("core/"), "old": old, "new": new}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=19, help="faults of each subject")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=SUBJECTS, default=list(SUBJECTS), help="subjects")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("--out", type=Path, default=ROOT / "work/bench/mutants.jsonl", help="a line for each fault")
    args = parser.parse_args()
    started = time.monotonic()
    prepare()
    faults = [fault for subject in args.only for fault in drawn(subject, args.count, args.seed)]
    limits = {}
    for tests in dict.fromkeys(tuple(fault.tests) for fault in faults):
        limits[tests] = max(LEAST, SLOWER * seconds_without_fault(list(tests)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    killed = 0
    with args.out.open("w", encoding="utf-8") as file:
        for number, (fault, how) in enumerate(tried(faults, limits, args.jobs), 1):
            killed += how != "survived"
            line = {**fault.shown(), "result": how}
            file.write(json.dumps(line) + "\n")
            file.flush()
            if how == "survived":
                print(f"survived: {fault.file}:{fault.line}: {line['old']}  →  {line['new']}", flush=True)
            left = (time.monotonic() - started) / number * (len(faults) - number)
            print(f"{number} of {len(faults)}, {killed} killed, {left / 60:.0f} min left", file=sys.stderr, flush=True)
    found = {"mutants": len(faults), "killed": killed, "share": round(killed / max(1, len(faults)), 3)}
    print(json.dumps({**found, "seed": args.seed, "seconds": round(time.monotonic() - started)}))


def prepare() -> None:
    """Import what every process needs, and nothing of `lib`, which each imports with its own fault."""
    os.environ |= {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
    os.chdir(ROOT)
    for name in LIBRARIES:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    assert not [name for name in sys.modules if name == "lib" or name.startswith("lib.")]


def drawn(subject: str, count: int, seed: int) -> list[Fault]:
    """A sample of a subject's faults: places first, then one of the changes that are possible there."""
    patterns, listed = SUBJECTS[subject]
    names = [str(file.relative_to(ROOT)) for pattern in patterns for file in sorted(ROOT.glob(pattern))]
    tests = [*names, *listed]
    places: dict[tuple[str, int, int], list[Fault]] = {}
    for name in names:
        for operator, occurrence, (line, column) in positions((ROOT / name).read_text(encoding="utf-8")):
            fault = Fault(subject, name, operator, occurrence, line, tests)
            places.setdefault((name, line, column), []).append(fault)
    rng = random.Random(f"{subject} {seed}")
    chosen = rng.sample(sorted(places), min(count, len(places)))
    return [rng.choice(places[place]) for place in chosen]


def positions(source: str) -> Iterator[tuple[str, int, tuple[int, int]]]:
    """(operator, occurrence, (line, column)) of every change that could matter: annotations are never evaluated."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    inert = [span for node in ast.walk(ast.parse(source)) for span in inert_spans(node)]
    nodes = list(ast_nodes(get_ast(source)))
    for name in sorted(operator_names()):
        if name in ("core/VariableReplacer", "core/VariableInserter"):  # they need names of variables
            continue
        operator, occurrence = get_operator(name)(), -1
        for node in nodes:
            for start, _ in operator.mutation_positions(node):
                occurrence += 1
                if not any(first <= start < last for first, last in inert):
                    yield name, occurrence, start


def inert_spans(node: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where a node's annotations begin and end."""
    for name in ("annotation", "returns"):
        part = getattr(node, name, None)
        if part is not None:
            yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def seconds_without_fault(tests: list[str]) -> float:
    """How long the tests take. Ends the program when they fail."""
    began = time.monotonic()
    process = start(None, tests)
    process.join()
    if process.exitcode:
        sys.exit(f"{' '.join(tests)} fail without any fault; mend that first (exit code {process.exitcode})")
    return time.monotonic() - began


def tried(faults: list[Fault], limits: dict, jobs: int) -> Iterator[tuple[Fault, str]]:
    """(fault, `killed`, `too slow`, or `survived`) as they are finished."""
    waiting, running = list(reversed(faults)), []
    while waiting or running:
        while waiting and len(running) < jobs:
            fault = waiting.pop()
            until = time.monotonic() + limits[tuple(fault.tests)]
            running.append((fault, start(fault, fault.tests), until))
        time.sleep(0.05)
        for one in list(running):
            fault, process, until = one
            late = time.monotonic() > until
            if process.exitcode is None and not late:
                continue
            if process.exitcode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.join()
            running.remove(one)
            yield fault, "too slow" if late else "killed" if process.exitcode else "survived"


def start(fault: Fault | None, tests: list[str]) -> multiprocessing.Process:
    """A process that runs the tests, with one module changed."""
    process = multiprocessing.get_context("fork").Process(target=run_tests, args=(fault, tests))
    process.start()
    return process


def run_tests(fault: Fault | None, tests: list[str]) -> None:
    """In the process of its own: exit code 0 when all tests pass."""
    import pytest

    os.setsid()  # so that the processes of its tests end with it
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.path.insert(0, str(ROOT))
    if fault:
        sys.meta_path.insert(0, Changed(fault))
    # pytest rewrites the assertions of files that it is given, and would import them past `Changed`.
    os._exit(int(pytest.main(["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])))


class Changed(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports one module with its fault."""

    def __init__(self, fault: Fault):
        self.fault, self.path = fault, str(ROOT / fault.file)
        self.name = fault.file.removesuffix(".py").replace("/", ".")

    def find_spec(self, name: str, path: object = None, target: object = None):
        if name != self.name:
            return None
        spec = importlib.util.spec_from_loader(name, self, origin=self.path)
        spec.has_location = True
        return spec

    def get_source(self, name: str) -> str:
        return self.fault.code

    def get_code(self, name: str):
        return compile(self.fault.code, self.path, "exec", dont_inherit=True)


if __name__ == "__main__":
    main()
