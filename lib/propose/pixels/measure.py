"""Measures images and labels: sizes, depth, physical scale, size and thickness of objects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile

from lib.competition.dataset import Competition
from lib.competition.labels.planes import class_masks
from lib.config.competition import Pixels
from lib.config.preprocess import Preprocess
from lib.data.preprocess.tile_labels import nearest_label
from lib.errors import UserError
from lib.imaging.content import content_map
from lib.imaging.grid import grid
from lib.imaging.reader import open_image
from lib.imaging.readers.tiff import TIFF_SUFFIXES, channel_pages
from lib.propose.folder import Folder
from lib.propose.found import Notes, evenly, some
from lib.propose.pixels.depth import shown_range
from lib.tables import IGNORE

SIZED = 400  # images whose heads are read
MEASURED_LABELS = 12  # labels
MEASURED_SIDE = 2048  # at which labels are looked at
SCALE_COLUMN = re.compile(r"pixel.?size|mpp|microns|um_?per|gsd|resolution", re.IGNORECASE)
BLANK_TOLERANCE = Preprocess().blank_tolerance
MANY_CLASSES, ALONE = 8, 0.8  # classes, and share of images and classes with one object, that make it `placed`
DEEP_RANGE = (0.0, 65535.0)  # a range of which only heads are read


@dataclass(frozen=True)
class PictureSizes:
    """Of `images`, in pixels; `range`: black and white of deep images, () for those of 8 bits; `turned`: names of those
    that were looked at and that EXIF says to turn; `shallow`: of 8-bit images among deep ones."""

    images: int
    heights: list[int]
    widths: list[int]
    channels: int
    range: tuple[float, ...]
    turned: tuple[str, ...] = ()
    shallow: tuple[str, ...] = ()

    @property
    def short(self) -> int:
        """The median of the shorter sides."""
        return int(np.median(np.minimum(self.heights, self.widths)))

    @property
    def long(self) -> int:
        """The median of the longer sides."""
        return int(np.median(np.maximum(self.heights, self.widths)))

    def doubts(self) -> list[str]:
        """Sentences on what the files alone do not tell of how their pixels are to be read."""
        turned, shallow = some(list(self.turned), 2), some(list(self.shallow), 2)
        sentences = {
            f"whether labels are of the turned or of the stored pixels where EXIF says to turn an image: {turned} "
            "(competition.pixels.exif)": self.turned,
            f"how images of 8 bits ({shallow}) belong to the deeper ones: each type is shown in its own whole range "
            "(competition.pixels.range)": self.shallow,
        }
        return [sentence for sentence, files in sentences.items() if files]

    def tiles(self, scale: float, stride: int) -> float:
        """How many tiles all images have.

        >>> PictureSizes(4, [100, 200], [100, 300], 3, ()).tiles(0.5, 50)
        14.0
        """
        down, across = (np.ceil(np.multiply(sides, scale / stride)) for sides in (self.heights, self.widths))
        return float(self.images * (down * across).mean())

    @property
    def uneven(self) -> bool:
        """Whether one image is as large as several others."""
        areas = np.multiply(self.heights, self.widths, dtype=np.float64)
        return bool(areas.max() > 4 * np.median(areas))


@dataclass(frozen=True)
class ObjectSizes:
    """In pixels of the original image: `side` of the objects that hold nine tenths of the object's pixels, at most;
    `thickness` of the thinnest class; `share` of all pixels that are object. `placed`: whether there are many classes
    of which most images have one object each, as in anatomy: then its place tells which class an object is."""

    side: float
    thickness: float
    share: float
    placed: bool = False


def picture_sizes(root: Path, names: list[str], pixels: Pixels) -> PictureSizes:
    heights, widths, channels, deep, turned, shallow = [], [], set(), [], [], []
    for name in evenly(names, SIZED):
        check_pages(root / name)
        try:
            reader = open_image(root / name, pixels)
        except UserError:
            reader = open_image(root / name, pixels.model_copy(update={"range": DEEP_RANGE}))
            deep.append(root / name)
        with reader:
            turned += [name] if reader.orientation != 1 else []
            shallow += [name] if reader.depth == "uint8" else []
            heights.append(reader.height)
            widths.append(reader.width)
            channels.add(reader.channels)
    if deep and len(deep) < len(heights):  # each type then is shown in its own whole range
        return PictureSizes(len(names), heights, widths, max(channels), DEEP_RANGE, tuple(turned), tuple(shallow))
    black_white = shown_range(evenly(deep, MEASURED_LABELS), pixels) if deep else ()
    return PictureSizes(len(names), heights, widths, max(channels), black_white, tuple(turned))


def check_pages(path: Path) -> None:
    """Raises UserError for a TIFF whose pages are images of their own: readers show the first page alone."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        pages = [size for name, size in zip(series.axes, series.shape, strict=True) if name not in "YXS"]
        count = int(np.prod(pages)) // channel_pages(series.axes, series.shape)
    if count > 1:
        raise UserError(
            f"{path} holds a stack of {count} pages, and only the first would be read; save each page of the images "
            "and of their masks as a file of its own, for example with tifffile"
        )


def physical_scale(folder: Folder, names: list[str], notes: Notes) -> None:
    """Notes the size of a pixel where a table has a column of it, or TIFFs say one in metric units."""
    for name, table in folder.tables.items():
        for column in filter(SCALE_COLUMN.search, table.columns):
            notes.found.append(f"physical scale: column {column} of {name}: {some(set(table[column]))}")
            return
    found = set()
    for name in evenly([n for n in names if Path(n).suffix.lower() in TIFF_SUFFIXES], 20):
        try:
            with tifffile.TiffFile(folder.root / name) as file:
                tags = file.pages[0].tags
                unit, resolution = tags.valueof("ResolutionUnit"), tags.valueof("XResolution")
        except (tifffile.TiffFileError, OSError):
            continue
        if resolution and resolution[0] and unit in (2, 3):
            length = 25400 if unit == 2 else 10000  # micrometres in an inch, a centimetre
            found.add(round(length * resolution[1] / resolution[0], 3))
    found = {size for size in found if size < 50}  # 72 or 96 dots per inch are no measure
    if len(found) == 1:
        notes.found.append(f"a pixel shows {found.pop()} micrometres")
    elif found:
        notes.found.append(f"pixels show from {min(found)} to {max(found)} micrometres")
        notes.unsure.append("how to bring images of several physical scales to one; all are read alike")
    else:
        notes.unsure.append("the physical size of a pixel")


def share_with_object(competition: Competition, side: int) -> float:
    """Of the tiles of `side` original pixels of a few images, blank ones left out, the share that holds an object."""
    first, count = competition.settings.first_class, len(competition.label_names)
    held = seen = 0
    for image in evenly([image for image in competition.images if image.split == "train"], MEASURED_LABELS):
        with open_image(image.path, competition.settings.pixels) as reader:
            content, height, width = content_map(reader, BLANK_TOLERANCE), reader.height, reader.width
        label = competition.labels.open(image.image_id, height, width)
        for y, x in grid(height, width, side, side):
            box = y, x, min(side, height - y), min(side, width - x)
            if not content.is_blank(*box):
                seen, held = seen + 1, held + bool(label.counts(*box)[first:count].any())
    return held / max(1, seen)


UNKNOWN_OBJECTS = ObjectSizes(64, 16, 0.1)  # where labels cannot be read yet


def measure_objects(competition: Competition, notes: Notes) -> ObjectSizes:
    """From the labels of a few images, shrunk to at most `MEASURED_SIDE` pixels. Raises UserError on a broken label."""
    first = competition.settings.first_class
    sides, areas, thick = [], [], {index: [] for index in range(first, len(competition.label_names))}
    held = known = alone = 0.0
    images = [image for image in competition.images if image.split == "train"]
    looked = evenly(images, MEASURED_LABELS)
    for image in looked:
        with open_image(image.path, competition.settings.pixels) as reader:
            height, width = reader.height, reader.width
        label = competition.labels.open(image.image_id, height, width)
        factor = min(1.0, MEASURED_SIDE / max(height, width))
        seen = nearest_label(label, (0, 0, height, width), (round(height * factor) or 1, round(width * factor) or 1))
        masks = dict(class_masks(seen, first))
        scored = (seen != IGNORE) if seen.ndim == 2 else (seen != IGNORE).any(0)
        known += scored.sum() / factor**2
        held += (scored & np.any([*masks.values(), scored & False], axis=0)).sum() / factor**2
        for index, mask in ((index, mask.astype(np.uint8)) for index, mask in masks.items()):
            _, _, boxes, _ = cv2.connectedComponentsWithStats(mask)
            alone += len(boxes) == 2  # the first one is the background
            sides += (boxes[1:, 2:4].max(1) / factor).tolist()
            areas += (boxes[1:, 4] / factor**2).tolist()
            inside = cv2.distanceTransform(cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
            # In a stripe the mean distance to the rim is a quarter of its width.
            thick[index].append(4 * float(inside[1:-1, 1:-1][mask > 0].mean()) / factor)
    widths = [float(np.median(values)) for values in thick.values() if values]
    if not widths:
        raise UserError("the labels of the images that were looked at are all empty; look how they are read")
    rising = np.argsort(sides)
    total = np.cumsum(np.array(areas)[rising])
    side = np.array(sides)[rising][np.searchsorted(total, 0.9 * total[-1])]
    placed = len(thick) >= MANY_CLASSES and alone >= ALONE * len(thick) * len(looked)
    objects = ObjectSizes(float(side), min(widths), float(held / known), placed)
    notes.found.append(
        f"objects: nine tenths of their pixels are in such of up to {objects.side:.0f} pixels, the thinnest class is "
        f"about {objects.thickness:.1f} thick, {objects.share:.1%} of the pixels are object"
    )
    return objects
