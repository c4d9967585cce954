"""Which images stage 1 works on: all, or with `preprocess.max_images` a few, training images with objects first."""

from __future__ import annotations

import numpy as np

from lib.competition.dataset import Competition, ImageInfo
from lib.competition.labels.planes import class_masks
from lib.data.preprocess.tile_labels import nearest_label
from lib.imaging.reader import open_image

LABELS_PER_PICK = 5  # labels that are inspected at most for each image that is picked
LABEL_SIDE = 512  # longest side, in pixels, at which a label is inspected


def pick_images(competition: Competition, limit: int) -> list[ImageInfo]:
    """All images, or with `limit` so many of each split and source, evenly spread over the sorted list.

    Labeled images without objects are replaced by others with objects, as far as `LABELS_PER_PICK` allows.
    """
    if not limit:
        return list(competition.images)
    chosen = []
    for split, source in dict.fromkeys((image.split, image.source) for image in competition.images):
        images = [image for image in competition.images if (image.split, image.source) == (split, source)]
        picked = _spread(images, limit)
        if split == "train":
            with_object = [image for image in picked if has_object(competition, image)]
            for image in _spread(images, LABELS_PER_PICK * limit):
                if len(with_object) < len(picked) and image not in picked and has_object(competition, image):
                    with_object.append(image)
            others = [image for image in picked if image not in with_object]
            picked = sorted([*with_object, *others][:limit], key=images.index)
        chosen += picked
    return chosen


def _spread(images: list[ImageInfo], limit: int) -> list[ImageInfo]:
    places = np.unique(np.linspace(0, len(images) - 1, min(limit, len(images))).round().astype(int))
    return [images[i] for i in places]


def has_object(competition: Competition, image: ImageInfo) -> bool:
    """Whether the label of a training image, read at `LABEL_SIDE` pixels a side at most, is more than background."""
    with open_image(image.path, competition.settings.pixels) as reader:
        height, width = reader.height, reader.width
    label = competition.open_label(image, height, width)
    labels = nearest_label(label, (0, 0, height, width), (min(height, LABEL_SIDE), min(width, LABEL_SIDE)))
    return any(True for _ in class_masks(labels, competition.settings.first_class))
