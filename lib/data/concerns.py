"""What 01 says about images and labels that do not stop it, but may make a result wrong."""

from __future__ import annotations

from collections.abc import Iterator

from lib.config import Config
from lib.data.cutting import Survey
from lib.imaging.readers.tiff import TIFF_SUFFIXES


def concerns(surveys: list[Survey], config: Config) -> Iterator[str]:
    """Sentences for the user, each with a count and an example. `surveys`: of all images."""
    yield from _turned(surveys, config.competition.pixels.exif)


def _turned(surveys: list[Survey], exif: bool) -> Iterator[str]:
    """Images whose file says that its pixels must be turned: labels may be of the turned or of the stored pixels."""
    turned = [survey.facts.file for survey in surveys if survey.facts.orientation != 1]
    tiffs = [path for path in turned if path.suffix.lower() in TIFF_SUFFIXES]
    photographs = [path for path in turned if path not in tiffs]
    if photographs:
        what = "are turned as their EXIF orientation says" if exif else "are not turned, although EXIF says so"
        yield (
            f"{len(photographs)} of {len(surveys)} images {what} ({photographs[0].name} for one); look at the "
            "report whether labels lie on their objects, and if they do not, set competition.pixels.exif to "
            f"{str(not exif).lower()}"
        )
    if tiffs:
        yield (
            f"{len(tiffs)} of {len(surveys)} images are TIFFs whose tag 274 says to turn them ({tiffs[0].name} "
            "for one); this is not done: where labels are of the turned images, turn the files first"
        )
