"""Labels as one JSON of polygons per image: labelme's (https://github.com/wkentaro/labelme), Cityscapes', or a list
`annotations` of `label` and `points` beside `height` and `width`, perhaps under `metadata`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np

from lib.competition.labels.coco import Thing, label_of_things, thing_of_polygons
from lib.competition.labels.common import Label, WrongSize, index_of
from lib.competition.labels.mask_images import label_files
from lib.config.competition import Competition
from lib.errors import UserError
from lib.plugins import register
from lib.tables import IGNORE

Shape = tuple[str, list[list[float]]]
"""Name, corners (x, y) of its outline."""
CORNERS = 64  # of a circle
KINDS = ("polygon", "rectangle", "circle", "point", "points", "line", "linestrip")  # the last four have no area


@register("labels", "labelme")
class Labelme:
    """Files are found as masks are, by `labels.suffix` or `labels.files`; lines and points, which have no area, do not
    count. Later objects lie on top, in the order of `labels.paint`."""

    def __init__(self, config: Competition, known_ids: set[str]):
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
        size, shapes = read_shapes(path) if path else ((height, width), [])
        if size != (height, width):
            raise WrongSize(f"{path} says that {image_id} is {size[0]} x {size[1]}; it is {height} x {width}")
        if self.config.labels.paint == "area":
            shapes = sorted(shapes, key=lambda shape: -cv2.contourArea(np.array(shape[1], np.float32)))
        things = [thing for shape in shapes if (thing := self._thing(path, shape, height, width))]
        return label_of_things(things, height, width, self.config.background)

    def _thing(self, path: Path, shape: Shape, height: int, width: int) -> Thing | None:
        name, corners = shape
        index, other = index_of(name, self.config), self.config.labels.other
        if index is None and other == "error":
            raise UserError(
                f"{path} holds {name!r}, which is none of competition.classes; add it, or set competition.labels.other "
                "to ignore or background"
            )
        if index is None and other == "background":
            return None
        index = IGNORE if index is None else index
        return thing_of_polygons(index, [np.ravel(corners).tolist()], (height, width))


def read_shapes(path: Path) -> tuple[tuple[int, int], list[Shape]]:
    """((height, width), shapes that have an area). Raises UserError on another kind of file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if "shapes" in content:
            size = content["imageHeight"], content["imageWidth"]
            strange = {s["shape_type"] for s in content["shapes"] if s.get("shape_type")} - {*KINDS}
            if strange:
                raise UserError(f"{path} has a shape of type {min(strange)!r}, which is not read; make it a polygon")
            shapes = [(s["label"], _outline(s["points"], s.get("shape_type") or "polygon")) for s in content["shapes"]]
        elif "objects" in content:
            size = content["imgHeight"], content["imgWidth"]
            shapes = [(s["label"], s["polygon"]) for s in content["objects"]]
        else:
            whole = {**content, **content.get("metadata", {})}
            size = whole["height"], whole["width"]
            shapes = [(s["label"], s["points"]) for s in content["annotations"]]
        return size, [(str(name), _pairs(corners)) for name, corners in shapes if len(corners) > 2]
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        kinds = "labelme, Cityscapes or annotations with points"
        raise UserError(f"{path} is no JSON of {kinds}: {type(error).__name__} {error}") from None


def _pairs(corners: list[list[float]]) -> list[list[float]]:
    """The corners, all of them two numbers. Raises ValueError or TypeError."""
    pairs = np.array(corners, np.float64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"corner {corners[0]} is no pair of x and y")
    return pairs.tolist()


def _outline(points: list[list[float]], kind: str) -> list[list[float]]:
    """Corners of a shape of one of the `KINDS`; none of one without area.

    >>> _outline([[1, 2], [4, 9]], "rectangle")
    [[1, 2], [4, 2], [4, 9], [1, 9]]
    """
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points
        return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    if kind == "circle":
        (x, y), rim = points
        radius, angles = math.dist((x, y), rim), np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        return np.column_stack([x + radius * np.cos(angles), y + radius * np.sin(angles)]).tolist()
    return points if kind == "polygon" else []
