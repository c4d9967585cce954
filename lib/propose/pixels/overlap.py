"""Whether classes overlap in the labels, which then are kept as planes, and else in which order they are painted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lib.competition.dataset import Competition
from lib.competition.labels.planes import class_mask
from lib.config.competition import CompetitionSettings
from lib.data.preprocess.tile_labels import nearest_label
from lib.imaging.reader import open_image
from lib.propose.found import Notes, OptionChoice, evenly
from lib.propose.pixels.measure import MEASURED_LABELS, MEASURED_SIDE

LEAST_SHARED = 0.001  # share of the object's pixels that have several classes, from which classes overlap
LOOKED_PIXELS, MOST_LOOKED = 2**27, 60  # pixels, and labels, that are looked at: a few alone may overlap
OUTLINE = np.ones((3, 3), np.uint8)  # polygons that only touch share their outline, which is one pixel wide


@dataclass(frozen=True)
class ClassOverlap:
    """`areas` (K,): pixels of each class. `several`: share of the object's pixels that have more than one class, and
    `shared` of these that are more than the outlines of neighbours."""

    areas: np.ndarray
    several: float
    shared: float


def measure_overlap(settings: CompetitionSettings) -> ClassOverlap:
    """From the labels of a few images. Raises UserError on a broken label."""
    competition = Competition(settings.model_copy(update={"multilabel": True}))
    areas, everything, several, shared = np.zeros(len(settings.classes)), 0.0, 0.0, 0.0
    looked = [image for image in competition.images if image.split == "train"]
    with open_image(looked[0].path, settings.pixels) as reader:
        count = LOOKED_PIXELS // (reader.height * reader.width)
    for image in evenly(looked, min(max(count, MEASURED_LABELS), MOST_LOOKED)):
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
    """The choices with `multilabel` where classes overlap and answers have a row for each, else with the classes in the
    order in which they are painted; and the settings that they make."""
    found = measure_overlap(settings)
    polygons = any(choice.key == "competition.labels.paint" for choice in choices)
    overlaps = (found.shared if polygons else found.several) >= LEAST_SHARED
    if overlaps and answers_overlap(settings):
        return _with_planes(choices, settings, found, notes)
    if polygons:
        notes.unsure.append("which of two overlapping objects counts: the smaller one is painted over the larger")
        return choices, settings
    if not found.several:
        return choices, settings
    ordered = sorted(settings.classes, key=lambda name: -found.areas[settings.classes.index(name)])
    notes.unsure.append(
        f"what classes that overlap mean here: {found.several:.0%} of the objects' pixels have several, and a pixel "
        f"has one; the smaller class lies on top ({', '.join(ordered)}: the order of classes)"
    )
    order = OptionChoice("competition.classes", ordered, "where classes overlap, a later one lies on top")
    choices = [order if choice.key == order.key else choice for choice in choices]
    return choices, settings.model_copy(update={"classes": ordered})


def answers_overlap(settings: CompetitionSettings) -> bool:
    """Whether an answer has a row for each class of an image, so that classes may share pixels."""
    submission = settings.submission
    return submission.codec == "rle" and bool(submission.class_column or "{class" in submission.id_template)


def _with_planes(
    choices: list[OptionChoice], settings: CompetitionSettings, found: ClassOverlap, notes: Notes
) -> tuple[list[OptionChoice], CompetitionSettings]:
    what = f"{100 * found.several:.2g}% of the objects' pixels have several classes"
    notes.found.append(f"classes overlap: {what}; each class is learned and answered by itself (multilabel)")
    replaced = ("competition.labels.paint", "competition.multilabel")
    kept = [choice for choice in choices if choice.key not in replaced]
    place = [choice.key for choice in kept].index("competition.classes") + 1
    kept.insert(place, OptionChoice("competition.multilabel", True, what))
    return kept, settings.model_copy(update={"multilabel": True})
