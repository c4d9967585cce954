"""What may be wrong with images and labels, and does not stop stage 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lib.config import Config
from lib.config.competition import CompetitionSettings, Pixels
from lib.config.multilabel import ONE_LABEL_CODECS
from lib.data.preprocess.survey import Survey, share_on_blank
from lib.imaging.readers.base import WHOLE_RANGE
from lib.imaging.readers.tiff import TIFF_SUFFIXES
from lib.imaging.roi import MOST_ON_BLANK


def concerns(surveys: list[Survey], config: Config) -> Iterator[str]:
    """Sentences for the user, each with a count and an example. `surveys`: of all images."""
    yield from _vanished(surveys, config)
    yield from _turned(surveys, config.competition.pixels.exif)
    yield from _mixed_types(surveys, config.competition.pixels)
    yield from _all_blank(surveys)
    yield from _objects_on_blank(surveys, config)
    yield from _objects_without_pixel(surveys)
    yield from _hidden(surveys, config.competition)


def _vanished(surveys: list[Survey], config: Config) -> Iterator[str]:
    """Objects that lose all pixels where images are resized whole."""
    vanished, objects = sum(survey.vanished for survey in surveys), sum(survey.objects for survey in surveys)
    if vanished:
        yield (
            f"at {config.preprocess.tile_size} pixels {vanished} of {objects} objects have no pixel left; "
            "raise preprocess.tile_size, or set preprocess.mode tiles"
        )


def _turned(surveys: list[Survey], exif: bool) -> Iterator[str]:
    """Images whose file says that they must be rotated: labels may fit the rotated or the stored pixels."""
    turned = [survey.facts.file for survey in surveys if survey.facts.orientation != 1]
    tiffs = [path for path in turned if path.suffix.lower() in TIFF_SUFFIXES]
    photographs = [path for path in turned if path not in tiffs]
    if photographs:
        action = "are turned as their EXIF orientation says" if exif else "are not turned, although EXIF says so"
        yield (
            f"{len(photographs)} of {len(surveys)} images {action} (for example {photographs[0].name}); check in the "
            "report that labels lie on their objects, and if they do not, set competition.pixels.exif to "
            f"{str(not exif).lower()}"
        )
    if tiffs:
        yield (
            f"{len(tiffs)} of {len(surveys)} images are TIFFs whose tag 274 says to turn them (for example "
            f"{tiffs[0].name}); they are not turned: if labels fit the turned images, turn the files first"
        )


def _mixed_types(surveys: list[Survey], pixels: Pixels) -> Iterator[str]:
    """`pixels.range` and `pixels.bands` apply to all files, but files have different depths or channels."""
    options = (("range", pixels.range, "depth", ""), ("bands", pixels.bands, "channels", " channels"))
    for key, option, attribute, unit in options:
        files: dict[object, list[Path]] = {}
        for survey in surveys:
            files.setdefault(getattr(survey.facts, attribute), []).append(survey.facts.file)
        if option and len(files) > 1:
            found = ", ".join(f"{len(paths)} with {kind}{unit} ({paths[0].name})" for kind, paths in files.items())
            scaled = key == "range" and option == WHOLE_RANGE
            ranges = "; each is scaled from the whole range of its type" if scaled else ""
            yield f"competition.pixels.{key} {list(option)} applies to images of several types: {found}{ranges}"


def _all_blank(surveys: list[Survey]) -> Iterator[str]:
    blank = [survey.facts.file for survey in surveys if survey.row["blank_share"] == 1]
    if blank:
        yield (
            f"{len(blank)} of {len(surveys)} images are blank everywhere (for example {blank[0].name}); check "
            "competition.pixels.range. With preprocess.roi and infer.roi none they are used anyway"
        )


def _objects_on_blank(surveys: list[Survey], config: Config) -> Iterator[str]:
    share = share_on_blank(surveys)
    if not share:
        return
    worst = max(surveys, key=lambda survey: survey.on_blank[0])
    known = (
        f"{share:.1%} of the object pixels lie in tiles that count as blank ({worst.facts.file.name} has the most); 01 "
        "keeps these tiles"
    )
    if config.infer.roi not in ("content", "coarse"):
        return
    if share > MOST_ON_BLANK:
        yield f"{known}, and 03 to 05 look everywhere, as with infer.roi none, because more than {MOST_ON_BLANK:.0%} do"
    else:
        yield (
            f"{known}, but 05 leaves blank windows out; set infer.roi to none to look everywhere, or lower "
            f"preprocess.blank_tolerance ({config.preprocess.blank_tolerance:g})"
        )


def _objects_without_pixel(surveys: list[Survey]) -> Iterator[str]:
    unused: Counter[Path] = Counter()
    for survey in surveys:
        unused.update(survey.unused)
    if unused:
        ((worst, most),) = unused.most_common(1)
        yield (
            f"labels hold {unused.total()} object(s) that cover no pixel and do not count: points, lines, outlines of "
            "fewer than three corners, boxes or key points alone, or objects outside of their image (the most, "
            f"{most}, in {worst}); draw those that are meant to count as polygons"
        )


def _hidden(surveys: list[Survey], competition: CompetitionSettings) -> Iterator[str]:
    """Classes that other classes are painted over."""
    found = {survey.facts.file.name: survey.hidden for survey in surveys if survey.hidden is not None}
    found = {name: hidden for name, hidden in found.items() if hidden.size}
    pixels, lost = sum(found.values(), np.zeros((2, len(competition.classes)), np.int64))
    if lost.any():
        worst, image = int(lost.argmax()), max(found, key=lambda name: found[name][1].sum())
        yield (
            f"classes overlap in the labels, and a pixel has one label here: {_percent(lost.sum(), pixels.sum())} of "
            f"the object pixels are lost, the most of {competition.classes[worst]!r} "
            f"({_percent(lost[worst], pixels[worst])}; {image} has the most){_way_out(competition)}"
        )


def _way_out(competition: CompetitionSettings) -> str:
    codec = competition.submission.codec
    if codec in ONE_LABEL_CODECS:
        return f", as answers of codec {codec} need it"
    return "; set competition.multilabel to true to keep them"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2g}%"
