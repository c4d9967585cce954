"""Trying a proposal as the stages will use it, before it is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lib.competition.dataset import HOME, Competition
from lib.competition.scoring import open_codec
from lib.config import load
from lib.data.folds import assign_folds, check_folds, name_groups
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.init.found import evenly

LOOKED = 24  # images of a split that are opened, and labels that are read
SIDE = 4096  # pixels of a label that are read


def what_fails(path: Path) -> str:
    """The sentence of the first thing that a configuration's stages would refuse; empty when nothing does."""
    try:
        config = load(path)
        competition = Competition(config.competition)
        competition.check()
        open_codec(competition)
        for split in ("train", "test"):
            _open_some(competition, split)
        _make_folds(competition, config.folds)
    except UserError as error:
        return str(error)
    return ""


def _open_some(competition: Competition, split: str) -> None:
    """Read windows of some images, and of their labels. Raises UserError."""
    images = [image for image in competition.images if (image.split, image.source) == (split, HOME)]
    for image in evenly(images, LOOKED):
        with open_image(image.path, competition.settings.pixels) as reader:
            height, width = reader.height, reader.width
            reader.read(0, 0, min(16, height), min(16, width))
        if split == "train":
            competition.open_label(image, height, width).read(0, 0, min(SIDE, height), min(SIDE, width))


def _make_folds(competition: Competition, folds) -> None:
    """Name groups and assign folds as 02 does, without balancing. Raises UserError."""
    import pandas as pd

    ids = competition.ids("train")
    groups = name_groups(ids, competition.metadata, folds)
    if len(set(groups)) < 2:
        raise UserError(
            f"there are {len(ids)} labeled images in {len(set(groups))} group, and validation needs two groups at "
            "least: cut the image into two or more files, or label one more"
        )
    fold = assign_folds(groups, np.ones((len(ids), 1)), folds)
    check_folds(pd.DataFrame({"image_id": ids, "group": groups, "fold": fold}))
