"""Labels as one JSON of polygons per image: labelme's (https://github.com/wkentaro/labelme), Cityscapes', or a list
`annotations` of `label` and `points` beside `height` and `width`, perhaps under `metadata`."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lib.competition.labels.coco import PaintedObject, label_of_things, thing_of_polygons
from lib.competition.labels.common import Label, WrongSize, index_of
from lib.competition.labels.json_file import corners_of, read_json_object
from lib.competition.labels.mask_images import label_files
from lib.config.competition import CompetitionSettings
from lib.errors import UserError, reading
from lib.imaging.readers.base import MOST_EXPANSION
from lib.plugins import register
from lib.tables import IGNORE


@dataclass(frozen=True)
class Patch:
    """A mask (h, w) bool with the pixel (y, x) that its first one covers."""

    y: int
    x: int
    mask: np.ndarray


Shape = tuple[str, list[list[float]] | Patch]
"""Name, and corners (x, y) of its outline, or its pixels."""
CORNERS = 64  # of a circle
OUTLINES = ("polygon", "rectangle", "rotation")
AREALESS = ("point", "points", "line", "linestrip")
SHAPE_KINDS = (*OUTLINES, "circle", "mask", *AREALESS)
LABEL_JSONS = "JSON of labelme, Cityscapes or annotations with points"


@register("labels", "labelme")
class Labelme:
    """Files are found as masks are, by `labels.suffix` or `labels.files`; lines and points, which have no area, do not
    count (01 says how many there are), and parts of one `group_id` are painted one by one. Later objects lie on top, in
    the order of `labels.paint`: a hole is an object called `_background_` that lies on top."""

    def __init__(self, config: CompetitionSettings, known_ids: set[str]):
        self.config = config
        folder = Path(config.root) / config.labels.path
        if not folder.is_dir():
            raise UserError(f"competition.labels.path: there is no folder {folder}")
        self.files = {
            image_id: files[0][1] for image_id, files in label_files(config, known_ids).items() if image_id in known_ids
        }
        self.image_ids = set(self.files)

    def open(self, image_id: str, height: int, width: int) -> Label:
        """Raises UserError when the JSON is of another size, or names a class that is unknown."""
        path = self.files.get(image_id)
        size, shapes, flat = read_shapes(path) if path else ((height, width), [], 0)
        if size != (height, width):
            raise WrongSize(f"{path} says that {image_id} is {size[0]} x {size[1]}; it is {height} x {width}")
        if self.config.labels.paint == "area":
            shapes = sorted(shapes, key=lambda shape: -_area(shape[1]))
        painted = [(index, what) for name, what in shapes if (index := self._index(path, name)) is not None]
        things = [_thing(index, what, (height, width)) for index, what in painted]
        return label_of_things(path, [*things, *[None] * flat], (height, width), self.config)

    def _index(self, path: Path, name: str) -> int | None:
        """The label index of what a file calls `name`; None for what is not painted."""
        index, other = index_of(name, self.config), self.config.labels.other
        if index is None and other == "error":
            raise UserError(
                f"{path} holds {name!r}, which is not one of competition.classes; add it, or set "
                "competition.labels.other to ignore or background"
            )
        return IGNORE if index is None and other == "ignore" else index


def read_shapes(path: Path) -> tuple[tuple[int, int], list[Shape], int]:
    """((height, width), shapes that have an area, how many have none). Raises UserError on another kind of file."""
    content = read_json_object(path, LABEL_JSONS)
    with reading(path, f"not a {LABEL_JSONS}", "export it again"):
        if "shapes" in content:
            size = content["imageHeight"], content["imageWidth"]
            strange = {s["shape_type"] for s in content["shapes"] if s.get("shape_type")} - {*SHAPE_KINDS}
            if strange:
                raise UserError(f"{path} has a shape of type {min(strange)!r}, which is not read; make it a polygon")
            shapes = [(s["label"], _form(s, s.get("shape_type") or "polygon", size)) for s in content["shapes"]]
        elif "objects" in content:
            size = content["imgHeight"], content["imgWidth"]
            shapes = [(s["label"], s["polygon"]) for s in content["objects"]]
        else:
            whole = {**content, **content.get("metadata", {})}
            size = whole["height"], whole["width"]
            shapes = [(s["label"], s["points"]) for s in content["annotations"]]
        read = [(_name(name), what if isinstance(what, Patch) else _pairs(what)) for name, what in shapes]
    filled = [(name, what) for name, what in read if isinstance(what, Patch) or len(what) > 2]
    return size, filled, len(read) - len(filled)


def _name(value: object) -> str:
    """The name of a class. Raises ValueError for another type than a text or a number."""
    if not isinstance(value, str | int):
        raise ValueError(f"the label {str(value)[:40]} is not a text")
    return str(value)


def _pairs(corners: list[list[float]]) -> list[list[float]]:
    """The corners, all of them two numbers. Raises ValueError."""
    pairs = corners_of(corners) if len(corners) else np.zeros((0, 2))
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"corner {corners[0]} is not a pair of x and y")
    return pairs.tolist()


def _form(shape: dict, kind: str, size: tuple[int, int]) -> list[list[float]] | Patch:
    """Corners, or pixels, of a shape of one of the `SHAPE_KINDS`; no corners for one without area.

    `size`: (height, width) of the image. Raises ValueError where a mask has more pixels.
    """
    points = _pairs(shape["points"])
    if kind == "mask":
        data = base64.b64decode(shape["mask"])
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if picture.height * picture.width > min(size[0] * size[1], MOST_EXPANSION * len(data)):
                raise ValueError(f"a mask of {picture.height} x {picture.width} pixels is larger than the image")
            pixels = np.asarray(picture)
        x, y = map(int, points[0])
        return Patch(y, x, (pixels if pixels.ndim == 2 else pixels.max(-1)) > 0)
    return _outline(points, kind)


def _outline(points: list[list[float]], kind: str) -> list[list[float]]:
    """A rectangle has two opposite corners, or all four of them, which may be turned.

    >>> _outline([[1, 2], [4, 9]], "rectangle")
    [[1, 2], [4, 2], [4, 9], [1, 9]]
    """
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    if kind == "circle":
        (x, y), rim = points
        radius, angles = math.dist((x, y), rim), np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        return np.column_stack([x + radius * np.cos(angles), y + radius * np.sin(angles)]).tolist()
    return points if kind in OUTLINES else []


def _area(what: list[list[float]] | Patch) -> float:
    return float(what.mask.sum() if isinstance(what, Patch) else cv2.contourArea(np.array(what, np.float32)))


def _thing(index: int, what: list[list[float]] | Patch, size: tuple[int, int]) -> PaintedObject | None:
    """None for what lies outside of the image."""
    if isinstance(what, Patch):
        return _thing_of_patch(index, what, size)
    return thing_of_polygons(index, [np.ravel(what).tolist()], size)


def _thing_of_patch(index: int, patch: Patch, size: tuple[int, int]) -> PaintedObject | None:
    """A patch, cut at the image."""
    top, left = max(0, patch.y), max(0, patch.x)
    bottom, right = min(size[0], patch.y + patch.mask.shape[0]), min(size[1], patch.x + patch.mask.shape[1])
    if top >= bottom or left >= right:
        return None

    def mask(y: int, x: int, h: int, w: int) -> np.ndarray:
        return patch.mask[y - patch.y :, x - patch.x :][:h, :w]

    return PaintedObject(index, (top, left, bottom - top, right - left), mask)
