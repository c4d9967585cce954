"""Measures whether classes overlap in the labels, and chooses planes for each class, or the order of painting."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lib.competition.dataset import Competition
from lib.competition.labels.planes import class_mask
from lib.config.competition import CompetitionSettings
from lib.data.preprocess.tile_labels import nearest_label
from lib.imaging.reader import open_image
from lib.propose.found import Notes, OptionChoice, evenly_spaced
from lib.propose.pixels.measure import MEASURED_LABELS, MEASURED_SIDE

MIN_OVERLAP = 0.001  # classes overlap if at least this share of the objects' pixels has several classes
MAX_PIXELS, MAX_LABELS = 2**27, 60  # so many pixels and labels are read at most, because only a few may overlap
OUTLINE = np.ones((3, 3), np.uint8)  # polygons that only touch share their outline, which is one pixel wide


@dataclass(frozen=True)
class ClassOverlap:
    """How much K classes overlap.

    `areas` (K,): pixels of each class. `several`: share of the objects' pixels that have more than one class. `shared`:
    the same without the outlines of objects that only touch.
    """

    areas: np.ndarray
    several: float
    shared: float


def measure_overlap(settings: CompetitionSettings) -> ClassOverlap:
    """Measure the overlap in the labels of a few images. Raises UserError on a broken label."""
    competition = Competition(settings.model_copy(update={"multilabel": True}))
    areas, everything, several, shared = np.zeros(len(settings.classes)), 0.0, 0.0, 0.0
    images = [image for image in competition.images if image.split == "train"]
    with open_image(images[0].path, settings.pixels) as reader:
        count = MAX_PIXELS // (reader.height * reader.width)
    for image in evenly_spaced(images, min(max(count, MEASURED_LABELS), MAX_LABELS)):
        with open_image(image.path, settings.pixels) as reader:
            height, width = reader.height, reader.width
        factor = min(1.0, MEASURED_SIDE / max(height, width))
        size = round(height * factor) or 1, round(width * factor) or 1
        planes = nearest_label(competition.labels.open(image.image_id, height, width), (0, 0, height, width), size)
        classes = np.zeros(size, np.uint8)
        for index in range(len(planes)):
            mask = class_mask(planes, index)
            areas[index] += mask.sum() / factor**2
            classes += mask
        thick = cv2.morphologyEx((classes > 1).astype(np.uint8), cv2.MORPH_OPEN, OUTLINE)
        sums = [(classes > 0).sum(), (classes > 1).sum(), thick.sum()]
        everything, several, shared = np.add((everything, several, shared), np.divide(sums, factor**2))
    return ClassOverlap(areas, several / max(everything, 1), shared / max(everything, 1))


def overlap_choices(
    choices: list[OptionChoice], settings: CompetitionSettings, notes: Notes
) -> tuple[list[OptionChoice], CompetitionSettings]:
    """The choices for classes that may overlap, and the settings that they make.

    `multilabel` is chosen where classes overlap and answers have a row for each class. Otherwise the classes are
    ordered by falling area, so that small ones are painted over large ones.
    """
    overlap = measure_overlap(settings)
    polygons = any(choice.key == "competition.labels.paint" for choice in choices)
    overlaps = (overlap.shared if polygons else overlap.several) >= MIN_OVERLAP
    if overlaps and answers_overlap(settings):
        return _with_planes(choices, settings, overlap, notes)
    if polygons:
        notes.unsure.append(
            "which of two overlapping objects counts: the smaller one is painted over the larger (labels.paint)"
        )
        return choices, settings
    if not overlap.several:
        return choices, settings
    ordered = sorted(settings.classes, key=lambda name: -overlap.areas[settings.classes.index(name)])
    notes.unsure.append(
        f"which class counts where classes overlap: {overlap.several:.0%} of the objects' pixels have several classes, "
        f"and a pixel can have one; the smaller class lies on top (order of competition.classes: {', '.join(ordered)})"
    )
    order = OptionChoice("competition.classes", ordered, "where classes overlap, a later one lies on top")
    choices = [order if choice.key == order.key else choice for choice in choices]
    return choices, settings.model_copy(update={"classes": ordered})


def answers_overlap(settings: CompetitionSettings) -> bool:
    """Whether an answer has a row for each class of an image, so that classes may share pixels."""
    submission = settings.submission
    return submission.codec == "rle" and bool(submission.class_column or "{class" in submission.id_template)


def _with_planes(
    choices: list[OptionChoice], settings: CompetitionSettings, overlap: ClassOverlap, notes: Notes
) -> tuple[list[OptionChoice], CompetitionSettings]:
    """The choices and settings with `multilabel`, and without an order of painting."""
    share = f"{100 * overlap.several:.2g}% of the objects' pixels have several classes"
    notes.found.append(f"classes overlap: {share}; each class is trained and answered separately (multilabel)")
    replaced = ("competition.labels.paint", "competition.multilabel")
    kept = [choice for choice in choices if choice.key not in replaced]
    place = [choice.key for choice in kept].index("competition.classes") + 1
    kept.insert(place, OptionChoice("competition.multilabel", True, share))
    return kept, settings.model_copy(update={"multilabel": True})
