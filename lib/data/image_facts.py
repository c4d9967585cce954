"""What the organiser's files themselves say of images, before any is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib.competition.dataset import Competition, ImageInfo
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.imaging.readers.base import ANY_DEPTH, WrongDepth


@dataclass(frozen=True)
class Facts:
    """`orientation` and `depth`: as of `ImageReader`."""

    file: Path
    orientation: int
    depth: str
    channels: int


def facts_of(image: ImageInfo, competition: Competition) -> Facts:
    """Raises UserError, naming a file of each kind, where some are of fewer bits than `pixels.range` was made for."""
    pixels = competition.settings.pixels
    try:
        with open_image(image.path, pixels) as reader:
            return Facts(image.path, reader.orientation, reader.depth, reader.channels)
    except WrongDepth as error:
        deeper = _deeper(competition)
        raise UserError(f"{error}{f'; {deeper} for one is deeper' if deeper else ''}") from None


def _deeper(competition: Competition) -> Path | None:
    """The first image of more than 8 bits a channel."""
    pixels = competition.settings.pixels.model_copy(update={"range": ANY_DEPTH.range})
    for image in competition.images:
        with open_image(image.path, pixels) as reader:
            if reader.depth != "uint8":
                return image.path
    return None
