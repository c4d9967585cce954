"""Which options do not go with classes that overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.config.competition import CompetitionSettings

ONE_LABEL_CODECS = ("pixels", "patches", "files", "tif", "png")  # cannot say that a pixel has two classes


def check_multilabel(competition: CompetitionSettings) -> None:
    """Raises ValueError where classes overlap (`multilabel`), and an option is for pixels of one label."""
    if not competition.multilabel:
        return
    if not competition.background:
        raise ValueError("multilabel needs background: true: where classes may overlap, a pixel may have none")
    codec = competition.submission.codec
    if codec in ONE_LABEL_CODECS:
        raise ValueError(
            f"competition.submission.codec {codec} writes one label for each pixel, but with multilabel a pixel may "
            "have several; rle writes a row for each class"
        )
    if competition.metric == "pixel_accuracy":
        raise ValueError("competition.metric pixel_accuracy is for pixels of one label; multilabel may use mean_dice")
