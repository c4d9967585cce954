"""Label readers: one file per format.

A reader is `Reader(config: Competition section, known_ids)`; `reader.image_ids` lists labeled images and
`reader.open(image_id, height, width)` gives a `lib.competition.labels.common.Label`, made from a function that reads
label indices by window: (h, w) uint8, `lib.tables.IGNORE` where nothing is scored. With background, 0 is background
and 1…n the classes; without, 0…n-1 the classes. Where classes overlap (`config.multilabel`), it gives planes
(lib/competition/labels/planes.py); `label_of_objects` makes either.
"""

from lib.competition.labels import coco, labelme, mask_images, polygons, rle_csv  # noqa: F401  (they register themselves)
