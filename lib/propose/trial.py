"""Tries a proposed configuration with the stages' own code before it is written."""

from __future__ import annotations

from pathlib import Path

from lib.competition.dataset import HOME, Competition
from lib.competition.scoring import open_codec
from lib.config import load
from lib.data.split_check import check_split
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.propose.found import evenly_spaced

TRIED_IMAGES = 24  # so many images of each split are opened, and so many labels are read
TRIED_LABEL_SIDE = 4096  # pixels: of each label, the upper left square of this side is read


def first_error(path: Path) -> str:
    """The message of the first error that the stages would raise; empty where there is none."""
    try:
        config = load(path)
        competition = Competition(config.competition)
        competition.check()
        open_codec(competition)
        for split in ("train", "test"):
            _open_some(competition, split)
        check_split(config, competition)
    except UserError as error:
        return str(error)
    return ""


def _open_some(competition: Competition, split: str) -> None:
    """Read windows of some images, and of their labels. Raises UserError."""
    pixels = competition.settings.pixels  # whose ranges 01 fits later
    pixels = pixels.model_copy(update={"scaling": "image"}) if pixels.channels else pixels
    images = [image for image in competition.images if (image.split, image.source) == (split, HOME)]
    for image in evenly_spaced(images, TRIED_IMAGES):
        with open_image(image.path, pixels) as reader:
            height, width = reader.height, reader.width
            reader.read(0, 0, min(16, height), min(16, width))
        if split == "train":
            competition.open_label(image, height, width).read(
                0, 0, min(TRIED_LABEL_SIDE, height), min(TRIED_LABEL_SIDE, width)
            )
