"""Predict a folder of images with the ensemble that lies beside this file. Needs no network and no training data.

    python infer.py --input /kaggle/input --infer.time_limit 8.5h
    python infer.py --images IMAGES --sample SAMPLE.csv --out submission.csv --train.device cpu

Every row of the sample submission is answered, by the ensemble and decision of the submission that was packaged; where
the competition has no sample, every image, without `--sample`, or those of its list, which `--list FILE` gives instead.
Where the ensemble needs the pixel size of each image, `--metadata FILE…` names the tables with it; left out, they are
looked for beside the folder of images. `--input` is a folder in which all of these are found. `--out` is
submission.csv, or .zip, by default. Other options are as in config.yaml. Device, threads and backend are chosen on this
machine. `infer.time_limit` is that of this call; it began at `--began` (seconds since 1970) where that is given.
Several GPUs share the images, each in a process of its own; `--devices cuda:0 cuda:1` names them.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from lib.competition.scoring import with_codecs_suffix
from lib.config import Config, load, saved_config
from lib.errors import UserError, run_script
from lib.package.job import Job
from lib.package.layout import BOXES, check_package, found_in, split_pattern
from lib.package.pixel_sizes import files_beside, pixel_sizes
from lib.package.shares import gpus_of, predict_on_devices, write_share
from lib.plugins import load_plugins
from lib.predict.write_submission import write_encoded
from lib.system.device import pick_device

PACKAGE_FOLDER = Path(__file__).resolve().parent


def main(argv: list[str]) -> None:
    started = time.monotonic()
    arguments, options = parsed(argv)
    if arguments.began:
        started -= max(0.0, time.time() - arguments.began)
    check_package(PACKAGE_FOLDER)
    saved_config(PACKAGE_FOLDER / "config.yaml")  # raises where it is cut off
    config = load(PACKAGE_FOLDER / "config.yaml", options)
    load_plugins(config.plugins)
    if arguments.input:
        found = found_in(arguments.input.resolve(), PACKAGE_FOLDER, config.competition)
        arguments.images, arguments.sample, arguments.list = found
    with tempfile.TemporaryDirectory(prefix="infer_") as folder:
        config = placed(config, arguments, Path(folder))
        job = Job.of(config, PACKAGE_FOLDER, Path(folder), started)
        if arguments.share:
            write_share(job, arguments.out, *arguments.share)
            return
        out = arguments.out or with_codecs_suffix(Path("submission"), config.competition)
        out.parent.mkdir(parents=True, exist_ok=True)
        devices = arguments.devices or gpus_of(config)
        for device in arguments.devices:
            pick_device(device)
        if min(len(devices), len(job.images)) > 1:
            note = predict_on_devices(job, out, devices[: len(job.images)], command_of(arguments, options, started))
        else:
            one = job.on(devices[0]) if devices else job
            answers, planner = one.answers()
            write_encoded(out, one.images, answers, one.competition)
            note = planner.late_note() if planner else ""
    print(f"{len(job.images)} images in {time.monotonic() - started:.0f} s; {out}{note}")


def parsed(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """This program's own options, and those of config.yaml. Raises UserError where a value is missing or no number."""
    parser = argparse.ArgumentParser("infer.py", usage=__doc__, allow_abbrev=False, exit_on_error=False)
    for name in ("--input", "--images", "--sample", "--list", "--out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--metadata", nargs="+", type=Path, default=[])
    parser.add_argument("--began", type=float)
    parser.add_argument("--devices", nargs="+", default=[])
    parser.add_argument("--share", nargs=2, type=int)  # of a process: number, count; its labels go into --out
    try:
        arguments, options = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; python infer.py --help shows the options") from None
    if arguments.out and arguments.out.is_dir():
        raise UserError(f"--out: {arguments.out} is a folder; give the name of a file")
    return arguments, options


def command_of(arguments: argparse.Namespace, options: list[str], started: float) -> list[str]:
    """The command of a process that predicts a share of the images."""
    command = [sys.executable, str(PACKAGE_FOLDER / "infer.py"), *options]
    command += ["--began", str(time.time() - (time.monotonic() - started))]
    for name in ("images", "sample", "list"):
        if getattr(arguments, name):
            command += [f"--{name}", str(getattr(arguments, name))]
    return [*command, "--metadata", *map(str, arguments.metadata)] if arguments.metadata else command


def placed(config: Config, arguments: argparse.Namespace, folder: Path) -> Config:
    """`config` with this machine's paths of images, sample submission or list, boxes and tables of pixel sizes.

    `folder` is its workspace.
    """
    images, sample, listed = arguments.images, arguments.sample, arguments.list
    wanted = bool(config.competition.submission.sample)
    by_list = bool(config.competition.test_list) and not wanted
    if wanted and not (sample and sample.exists()):
        raise UserError(f"--sample: there is no file {sample or '(none)'}; give the competition's sample submission")
    if by_list and not (listed and listed.is_file()):
        raise UserError(f"--list: there is no file {listed or '(none)'}; give the competition's list of test images")
    if not images or not images.is_dir():
        raise UserError(f"--images: there is no folder {images or '(none)'}; give the one with the test images")
    pattern = split_pattern(config.competition.test_images)[1]
    submission = config.competition.submission
    if wanted:
        submission = submission.model_copy(update={"sample": str(sample.resolve())})
    if config.infer.roi == BOXES:
        config = config.model_copy(
            update={"infer": config.infer.model_copy(update={"roi": str(PACKAGE_FOLDER / BOXES)})}
        )
    places = {"root": str(images.resolve()), "test_images": pattern, "submission": submission}
    places["test_list"] = str(listed.resolve()) if by_list else ""
    if config.preprocess.pixel_size_column:
        places["metadata"] = str(pixel_sizes(arguments.metadata or files_beside(images, config), config, folder))
    competition = config.competition.model_copy(update=places)
    return config.model_copy(update={"competition": competition, "workspace": str(folder)})


if __name__ == "__main__":
    run_script(main)
