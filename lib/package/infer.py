"""Predict a folder of images with the ensemble that lies beside this file. Needs no network and no training data.

    python infer.py --images /kaggle/input/NAME/test --sample /kaggle/input/NAME/sample_submission.csv
    python infer.py --images IMAGES --sample SAMPLE.csv --out submission.csv --train.device cpu

Every row of the sample submission is answered, by the ensemble and decision of the submission that was packaged; where
the competition has no sample, every image, without `--sample`, or those of its list, which `--list FILE` gives instead.
`--out` is submission.csv, or .zip, by default. Other options are as in config.yaml, `infer.time_limit` too, which is
that of this call; precision and backend, where they are `auto`, are measured on this machine anew.
"""

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd

from lib.competition.dataset import Competition
from lib.competition.scoring import test_sizes, with_codecs_suffix
from lib.config import Config, load
from lib.errors import UserError, run_script
from lib.imaging.readers.spool import spooled
from lib.inference.decision import Decision
from lib.inference.evaluate import background_fill
from lib.inference.members import Session, groups_of, named_parts
from lib.inference.plan import Planner, until_of
from lib.inference.submit import write_answers
from lib.package.layout import BOXES, MEMBERS, split_pattern
from lib.plugins import load_plugins
from lib.training.device import pick_device
from lib.workspace import Workspace, read_json

HERE = Path(__file__).resolve().parent


def main(argv: list[str]) -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser("infer.py", usage=__doc__, allow_abbrev=False)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--sample", type=Path)
    parser.add_argument("--list", type=Path)
    parser.add_argument("--out", type=Path)
    arguments, options = parser.parse_known_args(argv)
    config = load(HERE / "config.yaml", options)
    load_plugins(config.plugins)
    out = arguments.out or with_codecs_suffix(Path("submission"), config.competition)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="infer_", dir=out.resolve().parent) as folder:
        config = placed(config, arguments.images, arguments.sample, arguments.list, Path(folder))
        count = predict(config, out, Path(folder), started)
    print(f"{count} images in {time.monotonic() - started:.0f} s; {out}")


def placed(config: Config, images: Path, sample: Path | None, listed: Path | None, folder: Path) -> Config:
    """`config` with images, sample submission or list, and boxes where they are here, and its own files in `folder`."""
    wanted = bool(config.competition.submission.sample)
    by_list = bool(config.competition.test_list) and not wanted
    if wanted and not (sample and sample.exists()):
        raise UserError(f"--sample: there is no file {sample or ''}; give the competition's sample submission")
    if by_list and not (listed and listed.is_file()):
        raise UserError(f"--list: there is no file {listed or ''}; give the competition's list of test images")
    if not images.is_dir():
        raise UserError(f"--images: there is no folder {images}; give the one with the test images")
    pattern = split_pattern(config.competition.test_images)[1]
    submission = config.competition.submission
    if wanted:
        submission = submission.model_copy(update={"sample": str(sample.resolve())})
    if config.infer.roi == BOXES:
        config = config.model_copy(update={"infer": config.infer.model_copy(update={"roi": str(HERE / BOXES)})})
    places = {"root": str(images.resolve()), "test_images": pattern, "submission": submission}
    places["test_list"] = str(listed.resolve()) if by_list else ""
    competition = config.competition.model_copy(update=places)
    return config.model_copy(update={"competition": competition, "workspace": str(folder)})


def predict(config: Config, out: Path, folder: Path, started: float) -> int:
    """Write the answers, within `infer.time_limit` of what `started` then; the number of images."""
    competition, ensemble = Competition(config.competition, only_test=True), Workspace(HERE)
    competition.check_sample()
    about = read_json(HERE / MEMBERS, {})
    strangers = set(competition.ids("test")) - set(about["images"])
    if strangers and config.infer.roi == str(HERE / BOXES):
        raise UserError(
            f"no boxes are packaged for {min(strangers)!r} and other images; give theirs with --infer.roi FILE"
            + (", or look everywhere with --infer.roi content" if config.preprocess.mode == "tiles" else "")
        )
    sizes = test_sizes(competition)
    images = pd.DataFrame(
        [
            {
                "image_id": image.image_id,
                "path": str(spooled(image.path, config.competition.pixels, folder / "spool")),
                "height": sizes[image.image_id][0],
                "width": sizes[image.image_id][1],
                "blank_share": 0.0,  # nobody has looked
            }
            for image in competition.images
        ]
    )
    parts = named_parts(about["members"], ensemble)
    device = pick_device(config.train.device, config.train.threads)
    session = Session(config, competition, Workspace(folder), device, images, folds=pd.DataFrame())
    decision = Decision.load(ensemble.decision)
    groups, planner = groups_of(parts, session, session.engine(parts), each=decision.mix is not None), None
    if config.infer.time_limit:
        planner = Planner(groups, parts, config, images, until_of(session, started))
        sources = session.sources(images["image_id"])
        planner.warm(sources)
        order, label = about["systems"] or list(dict.fromkeys(part.system for part in parts)), about["unseen"]
        fill = background_fill(competition.channels, len(competition.label_names), config.infer.gated, label)
        planner.follow(planner.plan_for(order, planner.measure(sources)), fill, label)
    write_answers(out, images, groups, decision, config, competition, planner)
    if planner:
        planner.became()
    return len(images)


if __name__ == "__main__":
    run_script(main)
