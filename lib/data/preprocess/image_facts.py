"""What the header of an image file tells, before any pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib.competition.dataset import Competition, ImageInfo
from lib.errors import UserError
from lib.imaging.reader import open_image
from lib.imaging.readers.base import ANY_DEPTH, WrongDepth


@dataclass(frozen=True)
class Facts:
    """`file`: the organiser's. `orientation`, `depth`: as in `ImageReader`."""

    file: Path
    orientation: int
    depth: str
    channels: int


def facts_of(image: ImageInfo, competition: Competition) -> Facts:
    """The facts of an image.

    Raises UserError where `pixels.range` is made for more bits than the file has. The message also names a file that
    has more.
    """
    pixels = competition.settings.pixels
    try:
        with open_image(image.path, pixels) as reader:
            return Facts(image.path, reader.orientation, reader.depth, reader.channels)
    except WrongDepth as error:
        if pixels.channels:
            raise
        deeper = _deeper_image(competition)
        raise UserError(f"{error}{f'; {deeper} for one is deeper' if deeper else ''}") from None


def _deeper_image(competition: Competition) -> Path | None:
    """The first image of more than 8 bits per channel."""
    pixels = competition.settings.pixels.model_copy(update={"range": ANY_DEPTH.range})
    for image in competition.images:
        with open_image(image.path, pixels) as reader:
            if reader.depth != "uint8":
                return image.path
    return None
