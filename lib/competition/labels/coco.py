"""Labels as COCO JSON: polygons and run-lengths, read by lib/competition/labels/coco_file.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lib.competition import coco_rle, rle
from lib.competition.labels.coco_file import read_coco
from lib.competition.labels.common import Label, WrongSize, index_of, painted_once
from lib.competition.labels.json_file import corners_of
from lib.competition.labels.planes import label_of_objects
from lib.competition.labels.template import written_id
from lib.config.competition import CompetitionSettings
from lib.errors import UserError
from lib.imaging.geometry import Box
from lib.plugins import register
from lib.tables import IGNORE

CANVAS = 2**26  # pixels of an object painted whole; larger ones are painted on the window alone
LONGEST_OUTLINE = 50_000_000  # pixels of an outline: pycocotools walks along it in steps of a fifth of a pixel
PYCOCOTOOLS_PIXELS = 2**32  # pixels of an image that pycocotools can number


@dataclass(frozen=True)
class PaintedObject:
    """An object: its label index, the (y, x, h, w) that it lies in, and its mask (h, w) in any window."""

    index: int
    box: Box
    mask: Callable[[int, int, int, int], np.ndarray]


@register("labels", "coco")
class Coco:
    """`image_ids`: the images that the JSON lists; one without annotation holds no object.

    Later objects lie on top, in the order of `labels.paint`.
    """

    def __init__(self, config: CompetitionSettings, known_ids: set[str]):
        self.config, self.path = config, Path(config.root) / config.labels.path
        content = read_coco(self.path)
        self.indices = self._indices(content)
        self.images = {
            written_id(image["file_name"], config.image_ids, known_ids): image for image in content["images"]
        }
        twice = len(content["images"]) - len(self.images)
        if twice:
            raise UserError(
                f"{self.path} lists {twice} image(s) twice; file names must differ, or competition.image_ids say how "
                "folders tell them apart"
            )
        ids = {image["id"]: name for name, image in self.images.items()}
        self.annotations: dict[str, list[dict]] = {name: [] for name in self.images if name in known_ids}
        for annotation in content["annotations"]:
            name = ids.get(annotation["image_id"])
            if name not in known_ids:
                raise UserError(
                    f"{self.path} annotates {name or annotation['image_id']!r}, but competition.train_images "
                    f"({config.train_images}) has no such image; add the image or remove the annotation"
                )
            self.annotations[name].append(annotation)
        self.image_ids = set(self.annotations)

    def open(self, image_id: str, height: int, width: int) -> Label:
        """Raises UserError when the JSON knows the image at another size, or an object cannot be read."""
        listed = self.images.get(image_id, {})
        said = tuple(listed.get(key, side) for key, side in (("height", height), ("width", width)))
        if said != (height, width):
            raise WrongSize(f"{self.path} says that {image_id} is {said[0]} x {said[1]}; it is {height} x {width}")
        annotations = self.annotations.get(image_id, [])
        if self.config.labels.paint == "area":
            annotations = sorted(annotations, key=lambda annotation: -self._area(annotation))
        wanted = [one for one in annotations if self.indices[one["category_id"]] is not None]
        things = [self._thing(one, height, width) for one in wanted]
        return label_of_things(self.path, things, (height, width), self.config)

    def _indices(self, content: dict) -> dict[int, int | None]:
        """Category id → label index; None for one that is not painted."""
        other = self.config.labels.other
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        indices = {number: index_of(name, self.config) for number, name in names.items()}
        if other == "ignore":
            indices = {number: IGNORE if index is None else index for number, index in indices.items()}
        missing = [name for name in self.config.classes if name not in names.values()]
        if missing:
            raise UserError(
                f"{self.path} has no category {missing[0]!r} of competition.classes; it has "
                f"{', '.join(sorted(names.values()))}"
            )
        used = {annotation["category_id"] for annotation in content["annotations"]}
        unlisted = sorted(map(repr, used - set(names)))
        if unlisted:
            raise UserError(
                f"{self.path} annotates the category {unlisted[0]}, which its categories do not list; add it there"
            )
        strangers = sorted(names[number] for number in used if indices[number] is None)
        if strangers and other == "error":
            raise UserError(
                f"{self.path} annotates {strangers[0]!r}, which is not one of competition.classes; add it, or set "
                "competition.labels.other to ignore or background"
            )
        return indices

    def _thing(self, annotation: dict, height: int, width: int) -> PaintedObject | None:
        """None for what covers no pixel of the image, such as a box or key points alone."""
        index = self.indices[annotation["category_id"]]
        where = self._where(annotation)
        crowd = annotation.get("iscrowd")
        if crowd not in (None, 0, 1):
            raise UserError(f"{where}: iscrowd is {str(crowd)[:40]!r}; 0 or 1 is expected")
        if crowd and self.config.labels.crowd == "ignore":
            index = IGNORE
        shape = annotation.get("segmentation")
        if not shape:
            return None
        try:
            if isinstance(shape, dict):
                return _of_counts(index, shape, (height, width), where)
            polygons = thing_of_polygons if self.config.labels.polygon_fill == "fillpoly" else thing_of_coco_polygons
            return polygons(index, shape, (height, width))
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise UserError(f"{where}: its segmentation is neither polygons nor run-lengths ({error})") from None

    def _area(self, annotation: dict) -> float:
        """The area that the file states, 0 for none. Raises UserError where it is not a number."""
        area = annotation.get("area") or 0
        if not isinstance(area, int | float) or not math.isfinite(area):
            raise UserError(f"{self._where(annotation)}: area is {str(area)[:40]!r}; a number is expected")
        return area

    def _where(self, annotation: dict) -> str:
        return f"{self.path}, annotation {annotation.get('id')}"


def label_of_things(
    path: Path | None, found: list[PaintedObject | None], size: tuple[int, int], config: CompetitionSettings
) -> Label:
    """The label of an image of `size` (height, width). Later things lie on top, where classes do not overlap.

    `found`: the objects of the file `path` (None: there is none), None for one that covers no pixel.
    """
    things = [(thing.index, thing) for thing in found if thing]
    unused = {path: len(found) - len(things)} if len(things) < len(found) else {}

    def paint(some: list[tuple[int, PaintedObject]], maps: int) -> Label:
        return painted_once(_painter(some, config.background), *size, unused, maps)

    return label_of_objects(things, paint, config)


def _painter(things: list[tuple[int, PaintedObject]], background: bool) -> Callable[[int, int, int, int], np.ndarray]:
    """What paints the things under a window, each with the index before it; the last one lies on top."""

    def read(y: int, x: int, h: int, w: int) -> np.ndarray:
        out = np.full((h, w), 0 if background else IGNORE, np.uint8)
        for index, thing in things:
            top, left = max(y, thing.box[0]), max(x, thing.box[1])
            bottom = min(y + h, thing.box[0] + thing.box[2])
            right = min(x + w, thing.box[1] + thing.box[3])
            if top < bottom and left < right:
                mask = thing.mask(top, left, bottom - top, right - left)
                out[top - y : bottom - y, left - x : right - x][mask > 0] = index
        return out

    return read


def thing_of_polygons(index: int, polygons: list[list[float]], size: tuple[int, int]) -> PaintedObject | None:
    """What cv2.fillPoly fills at rounded vertices, of each polygon, cut at the image. Raises as `corners_of`."""
    rings = [np.round(corners_of(ring)).reshape(-1, 2).astype(np.int32) for ring in polygons if ring]
    if not rings:
        return None
    corners = np.concatenate(rings)
    left, top = np.maximum(corners.min(0), 0).tolist()
    right, bottom = np.minimum(corners.max(0) + 1, size[::-1]).tolist()
    if left >= right or top >= bottom:
        return None
    whole = top, left, bottom - top, right - left

    def mask(y: int, x: int, h: int, w: int) -> np.ndarray:
        # Lines that are cut by a window's rim may step elsewhere, so an object is painted whole, then cut.
        canvas_box = whole if whole[2] * whole[3] <= CANVAS else (y, x, h, w)
        canvas = np.zeros(canvas_box[2:], np.uint8)
        for ring in rings:
            cv2.fillPoly(canvas, [ring], 1, offset=(-canvas_box[1], -canvas_box[0]))
        return canvas[y - canvas_box[0] :, x - canvas_box[1] :][:h, :w]

    return PaintedObject(index, whole, mask)


def thing_of_coco_polygons(index: int, polygons: list[list[float]], size: tuple[int, int]) -> PaintedObject | None:
    """What pycocotools' annToMask gives for polygons [x, y, x, y, …] in an image of `size` (height, width).

    Run-lengths of the whole image are made from the outlines: the memory is that of the outlines, not of the image.
    Only in images of more pixels than pycocotools can number, the object's own box is taken for the image.
    Raises ValueError where a polygon has no pairs of numbers, lies too far outside of the image, or is too long.
    """
    from pycocotools import mask as tool

    polygons = [corners_of(ring).reshape(-1, 2) for ring in polygons]
    # pycocotools judges by the first one, and takes two corners for a box. One corner covers nothing.
    polygons = sorted((ring for ring in polygons if len(ring) > 1), key=len, reverse=True)
    if not polygons or len(polygons[0]) < 3:
        return None
    corners = np.concatenate(polygons)
    if sum(np.abs(np.diff(ring, axis=0, append=ring[:1])).sum() for ring in polygons) > LONGEST_OUTLINE:
        raise ValueError(f"an outline is longer than {LONGEST_OUTLINE} pixels")
    x, y, height, width = 0, 0, *size
    if height * width >= PYCOCOTOOLS_PIXELS:
        x, y = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0).tolist()
        right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, size[::-1]).tolist()
        height, width = bottom - y, right - x
        if height <= 0 or width <= 0:
            return None
        if height * width >= PYCOCOTOOLS_PIXELS:
            raise ValueError("an object is too large for pycocotools; set competition.labels.polygon_fill to fillpoly")
    rings = [(ring - (x, y)).ravel().tolist() for ring in polygons]
    text = tool.merge(tool.frPyObjects(rings, height, width))["counts"].decode()
    thing = _thing_of_runs(index, *coco_rle.runs_of_counts(coco_rle.counts_of_text(text)), (height, width))
    if thing is None or (x, y) == (0, 0):
        return thing
    top, left, *sides = thing.box
    return PaintedObject(
        index, (top + y, left + x, *sides), lambda row, column, *box: thing.mask(row - y, column - x, *box)
    )


def _of_counts(index: int, shape: dict, size: tuple[int, int], where: str) -> PaintedObject | None:
    """COCO's run-lengths, column by column, compressed or not."""
    counts = shape["counts"]
    counts = coco_rle.counts_of_text(counts) if isinstance(counts, str) else np.asarray(counts)
    if counts.ndim != 1 or (counts.size and counts.dtype.kind not in "iu"):
        raise ValueError("counts must be whole numbers")
    pixels, counts = size[0] * size[1], counts.astype(np.int64)
    # Absurd numbers would overflow in the sum.
    absurd = counts.size and (counts.min() < 0 or counts.max() > pixels)
    if tuple(shape["size"]) != size or absurd or counts.sum() != pixels:
        raise UserError(f"{where}: its run-lengths are not those of an image of {size[0]} x {size[1]} pixels")
    return _thing_of_runs(index, *coco_rle.runs_of_counts(counts), size)


def _thing_of_runs(index: int, starts: np.ndarray, lengths: np.ndarray, size: tuple[int, int]) -> PaintedObject | None:
    """An object of runs column by column, from 0."""
    if not len(starts):
        return None
    left, right = int(starts[0] // size[0]), int((starts[-1] + lengths[-1] - 1) // size[0]) + 1
    return PaintedObject(
        index,
        (0, left, size[0], right - left),
        lambda *window: rle.window_of_runs(starts, lengths, size, "column", window),
    )
