"""Predicts a package's images on several devices: one process for each, with a share of the images."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lib.config import Config
from lib.errors import UserError
from lib.package.job import Job
from lib.predict.answer_parts import Answer
from lib.predict.time_plan import late_note
from lib.predict.two_passes import LabelStore
from lib.predict.write_submission import write_encoded
from lib.workspace import read_json, write_json


def gpus_of(config: Config) -> list[str]:
    """All GPUs if `train.device` is auto and there are several, else none."""
    count = torch.cuda.device_count() if config.train.device == "auto" else 0
    return [f"cuda:{number}" for number in range(count)] if count > 1 else []


def images_of_share(job: Job, number: int, count: int) -> Job:
    """The job with the images that process `number` of `count` predicts.

    Images are dealt out from the largest to the smallest, each to the process with the fewest pixels so far.
    """
    pixels = (job.images["height"] * job.images["width"]).to_numpy()
    load, chosen = np.zeros(count), []
    for place in np.argsort(-pixels, kind="stable"):
        least = int(np.argmin(load))
        load[least] += pixels[place]
        chosen += [int(place)] if least == number else []
    return replace(job, images=job.images.iloc[sorted(chosen)].reset_index(drop=True))


def write_share(job: Job, path: Path, number: int, count: int) -> None:
    """Predict a share: write the labels of its images to the file `path`, and where each one is to a JSON beside it."""
    answers, planner = images_of_share(job, number, count).answers()
    with path.open("wb+") as file:
        labels, sizes = LabelStore(file), {}
        for image_id, height, width, bands in answers:
            labels.put(image_id, bands)
            sizes[image_id] = height, width
    late = [*planner.late, planner.label] if planner else [0, 0, 0]
    write_json(path.with_suffix(".json"), {"places": labels.places, "sizes": sizes, "late": late})


def predict_on_devices(job: Job, out: Path, devices: list[str], command: list[str]) -> str:
    """Run `command` once for each of `devices`, and write the answers of all to `out`.

    Returns a note on windows that were not predicted in time. Raises UserError where a process fails; the others are
    then stopped.
    """
    paths = [job.folder / f"share{number}.labels" for number in range(len(devices))]
    threads = job.config.train.threads or max(1, (os.cpu_count() or 1) // len(devices))
    running = []
    try:
        for number, (device, path) in enumerate(zip(devices, paths, strict=True)):
            flags = ["--train.device", device, "--train.threads", str(threads)]
            flags += ["--share", str(number), str(len(devices)), "--out", str(path)]
            running.append(subprocess.Popen([*command, *flags]))
        _wait(running, devices)
    finally:
        for process in running:
            process.terminate()
            process.wait()
    found = [read_json(path.with_suffix(".json"), {}) for path in paths]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in paths]
        stores = [LabelStore(file, about["places"]) for file, about in zip(files, found, strict=True)]
        sizes = {image_id: size for about in found for image_id, size in about["sizes"].items()}
        write_encoded(out, job.images, _in_order(job, stores, sizes), job.competition)
    late, every = (sum(about["late"][i] for about in found) for i in (0, 1))
    return late_note(late, every, found[0]["late"][2], job.config.competition)


def _wait(running: list[subprocess.Popen], devices: list[str]) -> None:
    """Wait until all processes have ended. Raises UserError as soon as one fails."""
    while any(process.poll() is None for process in running) or any(process.returncode for process in running):
        for process, device in zip(running, devices, strict=True):
            if process.returncode:
                raise UserError(f"the process on {device} failed with exit code {process.returncode}; see above")
        time.sleep(0.1)


def _in_order(job: Job, stores: list[LabelStore], sizes: dict[str, list[int]]) -> Iterator[Answer]:
    for image_id in job.images["image_id"]:
        store = next(store for store in stores if image_id in store)
        yield image_id, *sizes[image_id], store.get(image_id)
