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
from lib.propose.found import Notes, abbreviated, evenly_spaced
from lib.propose.pixels.depth import shown_range
from lib.tables import IGNORE

SIZED_IMAGES = 400  # so many images are opened to read their sizes
MEASURED_LABELS = 12  # so many labels are read
MEASURED_SIDE = 2048  # pixels: larger labels are shrunk to this side before objects are measured
SCALE_COLUMN = re.compile(r"pixel.?size|mpp|microns|um_?per|gsd|resolution", re.IGNORECASE)
BLANK_TOLERANCE = Preprocess().blank_tolerance
MANY_CLASSES = 8  # with fewer classes, the place of an object tells little about its class
ALONE_SHARE = 0.8  # of all images and classes, those with exactly one object, from which objects are `placed`
DEEP_RANGE = (0.0, 65535.0)  # opens an image with more than 8 bits, whatever its values


@dataclass(frozen=True)
class PictureSizes:
    """Heights and widths in pixels of some of `images` images.

    `range`: black and white of images with more than 8 bits, () for 8 bits. `turned`: names of images that their EXIF
    orientation turns. `shallow`: names of 8-bit images among deeper ones.
    """

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
        """Sentences on how pixels should be read where the files do not show it."""
        turned, shallow = abbreviated(list(self.turned), 2), abbreviated(list(self.shallow), 2)
        sentences = {
            f"whether labels fit the turned or the stored pixels of images with an EXIF orientation: {turned} "
            "(competition.pixels.exif)": self.turned,
            f"how the values of 8-bit images ({shallow}) compare with those of the deeper ones: each type is shown in "
            "its whole range (competition.pixels.range)": self.shallow,
        }
        return [sentence for sentence, files in sentences.items() if files]

    def tiles(self, scale: float, stride: int) -> float:
        """How many tiles all images have together. `stride`: pixels between tiles, after shrinking by `scale`.

        >>> PictureSizes(4, [100, 200], [100, 300], 3, ()).tiles(0.5, 50)
        14.0
        """
        down, across = (np.ceil(np.multiply(sides, scale / stride)) for sides in (self.heights, self.widths))
        return float(self.images * (down * across).mean())

    @property
    def uneven(self) -> bool:
        """Whether the largest image has more than four times the pixels of the median image."""
        areas = np.multiply(self.heights, self.widths, dtype=np.float64)
        return bool(areas.max() > 4 * np.median(areas))


@dataclass(frozen=True)
class ObjectSizes:
    """Sizes of objects in pixels of the original image.

    `side`: objects up to this side hold 90 % of the objects' pixels. `thickness`: of the thinnest class. `share`: of
    all pixels, those that belong to an object. `placed`: whether there are many classes and most images have one object
    of each, as in anatomy. The place of an object then tells its class.
    """

    side: float
    thickness: float
    share: float
    placed: bool = False


def picture_sizes(root: Path, names: list[str], pixels: Pixels) -> PictureSizes:
    """Open some pictures below `root` and note their sizes. Raises UserError where one cannot be read."""
    heights, widths, channels, deep, turned, shallow = [], [], set(), [], [], []
    for name in evenly_spaced(names, SIZED_IMAGES):
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
    if deep and len(deep) < len(heights):  # each type is then shown in its own whole range
        return PictureSizes(len(names), heights, widths, max(channels), DEEP_RANGE, tuple(turned), tuple(shallow))
    black_white = shown_range(evenly_spaced(deep, MEASURED_LABELS), pixels) if deep else ()
    return PictureSizes(len(names), heights, widths, max(channels), black_white, tuple(turned))


def check_pages(path: Path) -> None:
    """Raises UserError for a TIFF whose pages are separate images, because readers show only the first page."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        pages = [size for name, size in zip(series.axes, series.shape, strict=True) if name not in "YXS"]
        count = int(np.prod(pages)) // channel_pages(series.axes, series.shape)
    if count > 1:
        raise UserError(
            f"{path} holds a stack of {count} pages, and only the first would be read; save each page of the images "
            "and of their masks as a separate file, for example with tifffile"
        )


def physical_scale(folder: Folder, names: list[str], notes: Notes) -> None:
    """Note the size of a pixel, from a table's column or from the resolution in TIFF tags."""
    for name, table in folder.tables.items():
        for column in filter(SCALE_COLUMN.search, table.columns):
            notes.found.append(f"physical scale: column {column} of {name}: {abbreviated(set(table[column]))}")
            return
    sizes = set()  # micrometres
    for name in evenly_spaced([n for n in names if Path(n).suffix.lower() in TIFF_SUFFIXES], 20):
        try:
            with tifffile.TiffFile(folder.root / name) as file:
                tags = file.pages[0].tags
                unit, resolution = tags.valueof("ResolutionUnit"), tags.valueof("XResolution")
        except (tifffile.TiffFileError, OSError):
            continue
        if resolution and resolution[0] and unit in (2, 3):
            length = 25400 if unit == 2 else 10000  # micrometres in an inch, a centimetre
            sizes.add(round(length * resolution[1] / resolution[0], 3))
    sizes = {size for size in sizes if size < 50}  # 72 or 96 dots per inch are a screen's default, not a measurement
    if len(sizes) == 1:
        notes.found.append(f"a pixel shows {sizes.pop()} micrometres")
    elif sizes:
        notes.found.append(f"pixels show from {min(sizes)} to {max(sizes)} micrometres")
        notes.unsure.append("whether images of several physical scales should be resized to one: all are read alike")
    else:
        notes.unsure.append("the physical size of a pixel")


def share_with_object(competition: Competition, side: int) -> float:
    """The share of tiles that hold an object, in a few images. Blank tiles are left out. `side`: original pixels."""
    first, count = competition.settings.first_class, len(competition.label_names)
    with_object = tiles = 0
    for image in evenly_spaced([image for image in competition.images if image.split == "train"], MEASURED_LABELS):
        with open_image(image.path, competition.settings.pixels) as reader:
            content, height, width = content_map(reader, BLANK_TOLERANCE), reader.height, reader.width
        label = competition.labels.open(image.image_id, height, width)
        for y, x in grid(height, width, side, side):
            box = y, x, min(side, height - y), min(side, width - x)
            if not content.is_blank(*box):
                tiles += 1
                with_object += bool(label.counts(*box)[first:count].any())
    return with_object / max(1, tiles)


UNKNOWN_OBJECTS = ObjectSizes(64, 16, 0.1)  # where labels cannot be read yet


def measure_objects(competition: Competition, notes: Notes) -> ObjectSizes:
    """Measure objects in the labels of a few images. Raises UserError on a broken label, or where all are empty."""
    first = competition.settings.first_class
    sides, areas, thick = [], [], {index: [] for index in range(first, len(competition.label_names))}
    object_pixels = scored_pixels = alone = 0.0
    images = [image for image in competition.images if image.split == "train"]
    measured = evenly_spaced(images, MEASURED_LABELS)
    for image in measured:
        with open_image(image.path, competition.settings.pixels) as reader:
            height, width = reader.height, reader.width
        label = competition.labels.open(image.image_id, height, width)
        factor = min(1.0, MEASURED_SIDE / max(height, width))
        size = round(height * factor) or 1, round(width * factor) or 1
        indices = nearest_label(label, (0, 0, height, width), size)
        masks = dict(class_masks(indices, first))
        scored = (indices != IGNORE) if indices.ndim == 2 else (indices != IGNORE).any(0)
        scored_pixels += scored.sum() / factor**2
        object_pixels += (scored & np.any([*masks.values(), scored & False], axis=0)).sum() / factor**2
        for index, mask in ((index, mask.astype(np.uint8)) for index, mask in masks.items()):
            _, _, boxes, _ = cv2.connectedComponentsWithStats(mask)
            alone += len(boxes) == 2  # the first one is the background
            sides += (boxes[1:, 2:4].max(1) / factor).tolist()
            areas += (boxes[1:, 4] / factor**2).tolist()
            inside = cv2.distanceTransform(cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
            # In a stripe the mean distance to the edge is a quarter of its width.
            thick[index].append(4 * float(inside[1:-1, 1:-1][mask > 0].mean()) / factor)
    widths = [float(np.median(values)) for values in thick.values() if values]
    if not widths:
        raise UserError(
            f"the labels of the {len(measured)} images that were opened are all empty; check that competition.labels "
            "reads them as their organiser means them"
        )
    ascending = np.argsort(sides)
    cumulated = np.cumsum(np.array(areas)[ascending])
    side = np.array(sides)[ascending][np.searchsorted(cumulated, 0.9 * cumulated[-1])]
    placed = len(thick) >= MANY_CLASSES and alone >= ALONE_SHARE * len(thick) * len(measured)
    objects = ObjectSizes(float(side), min(widths), float(object_pixels / scored_pixels), placed)
    notes.found.append(
        f"objects: 90 % of their pixels lie in objects of up to {objects.side:.0f} pixels a side; the thinnest class "
        f"is about {objects.thickness:.1f} pixels thick; {objects.share:.1%} of all pixels belong to objects"
    )
    return objects
