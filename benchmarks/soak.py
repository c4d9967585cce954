"""Memory, file handles, threads and shared memory do not grow over a long training and many images.

    python benchmarks/soak.py                          # 2,000 steps and 500 images, some minutes on two cores
    python benchmarks/soak.py --steps 200 --images 50

Trains a small network with loading processes, EMA, SWA and scores during the training, and predicts images with a
sliding window and TTA, each in a process of its own. The process looks at itself after every epoch, or every few
images. Growth is the difference between the medians of the last fifth of these looks and of the second one: the first
fifth warms up. Runs on Linux. The last line it prints is JSON: for `training` and `inference`, the growth of resident
memory and of shared memory in MiB, of open files, threads and processes, and the largest value of each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

FACTS = ("mib", "shared_mib", "handles", "threads", "processes")


def look() -> dict[str, float]:
    """What this process holds just now."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "mib": int(status["VmRSS"].split()[0]) / 1024,
        "shared_mib": int(status["RssShmem"].split()[0]) / 1024,
        "handles": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "processes": len(children),
    }


def growth(looks: list[dict[str, float]]) -> dict[str, object]:
    """Growth and largest value of each fact, and the number of looks. Raises SystemExit where there are too few."""
    fifth = len(looks) // 5
    if not fifth:
        raise SystemExit("soak.py: too few looks; more steps or images are needed")
    early, late = looks[fifth : 2 * fifth], looks[-fifth:]
    grown = {fact: round(median(x[fact] for x in late) - median(x[fact] for x in early), 1) for fact in FACTS}
    return {**grown, "looks": len(looks), "largest": {fact: round(max(x[fact] for x in looks), 1) for fact in FACTS}}


def soak_training(config_file: Path, steps: int) -> list[dict[str, float]]:
    """Looks at every epoch of a training of the first fold, with scores on whole images."""
    from lib.config import load
    from lib.report.evaluate_member import MemberEvaluation
    from lib.session import Session
    from lib.training.distributed import ProcessGroup
    from lib.training.member import make_data, make_trainer, training_tiles
    from lib.workspace import Member

    options = ["--train.ema", "0.9", "--train.evaluations", "20", "--train.workers", "2", "--train.batch_size", "2",
               "--train.crop", "32", "--train.sampling.samples_per_epoch", "40",
               "--train.epochs", str(steps // 20)]  # fmt: skip
    session = Session(load(config_file, options))
    config, workspace = session.config, session.workspace
    member = Member("soak", 0, 1, workspace.member_dir("soak", 0, 1))
    member.path.mkdir(parents=True)
    tiles = training_tiles(workspace, session.folds, 0, config)
    data = make_data(tiles, config, 1, 1, config.train.workers)
    trainer = make_trainer(member, config, 1, data, ProcessGroup(device=session.device))
    evaluation, looks = MemberEvaluation(session, member, trainer), []
    log = trainer.log

    def logging(**record: object) -> None:
        log(**record)
        if "loss" in record:
            looks.append(look())

    trainer.log = logging
    trainer.run(evaluation.score)
    assert trainer.step == steps
    return looks


def soak_inference(folder: Path, images: int) -> list[dict[str, float]]:
    """Looks at every image of many that a small network predicts."""
    import cv2
    import numpy as np
    import torch

    from lib.config.training import Model
    from lib.inference.networks import Ensemble, ScaleGroup
    from lib.inference.sliding_window import predict_windows
    from lib.inference.windows import Limits, Source, Windows
    from lib.models.network import build_network

    sources = []
    for number in range(20):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), np.random.default_rng(number).integers(0, 255, (150 + number, 200, 3), np.uint8))
        sources.append(Source(str(number), path))
    sources = [sources[number % 20] for number in range(images)]
    networks = [build_network(Model(architecture="tiny"), 2).eval() for _ in range(2)]
    group = ScaleGroup(Windows(64, 0.25, 1.0, "gaussian", 0.25), Ensemble(networks, torch.device("cpu"), tta="flips"))
    looks = []
    for block in predict_windows(sources, group, np.array([1.0, 0.0]), Limits(4, 0.001, folder)):
        if block.last:
            looks.append(look())
    assert len(looks) == images
    return looks


def run_part(part: str, count: int, folder: Path) -> dict[str, object]:
    """A part in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder), f"--{part}", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="a multiple of 20")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--part", choices=["steps", "images"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        if options.part == "steps":
            looks = soak_training(options.folder / "tiny.yaml", options.steps)
        else:
            looks = soak_inference(options.folder, options.images)
        print(json.dumps(growth(looks)))
        return
    from tests.conftest import make_tiny

    with tempfile.TemporaryDirectory() as name:
        config = make_tiny(Path(name))
        for script in ("01_preprocess.py", "02_make_folds.py"):
            repository = Path(__file__).resolve().parents[1]
            subprocess.run([sys.executable, script, str(config)], cwd=repository, check=True, stdout=subprocess.DEVNULL)
        parts = {part: run_part(part, getattr(options, part), Path(name)) for part in ("steps", "images")}
    print(json.dumps({"training": parts["steps"], "inference": parts["images"],
                      "steps": options.steps, "images": options.images}))  # fmt: skip


if __name__ == "__main__":
    main()
