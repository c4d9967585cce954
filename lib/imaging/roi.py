"""Where tiles are cut (01) and windows computed (04, 05): the same words in both."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from lib.errors import UserError
from lib.imaging.content import Content, content_map
from lib.imaging.reader import ImageReader

Box = tuple[int, int, int, int]


class Regions:
    """`keep(y, x, h, w)` tells whether a box of original pixels is worth looking at."""

    def __init__(self, content: Content | None, boxes: list[Box] | None = None):
        self.content, self.boxes = content, boxes
        self._boxes = np.array(boxes or [], np.int64).reshape(-1, 4).T

    def keep(self, y: float, x: float, h: float, w: float) -> bool:
        if self.boxes is not None:
            by, bx, bh, bw = self._boxes
            return bool(np.any((y < by + bh) & (by < y + h) & (x < bx + bw) & (bx < x + w)))
        return self.content is None or not self.content.is_blank(y, x, h, w)

    def blank_share(self, y: int, x: int, h: int, w: int) -> float:
        return self.content.blank_share(y, x, h, w) if self.content else 0.0


def regions(
    roi: str, image_id: str, reader: ImageReader, tolerance: float = 6.0, content: Content | None = None
) -> Regions:
    """`none` (everywhere), `content` (not on blank areas) or the path of a CSV of boxes.

    `coarse` means content here: 05 has boxes found, and names their CSV instead (lib/inference/coarse.py).
    `content`: the reader's map, where it is known already.
    """
    if roi == "none":
        return Regions(None)
    content = content or content_map(reader, tolerance)
    if roi in ("content", "coarse"):
        return Regions(content)
    boxes = read_boxes(Path(roi)).get(image_id, [])
    for y, x, h, w in boxes:
        if min(y, x) < 0 or min(h, w) < 1 or y + h > reader.height or x + w > reader.width:
            raise UserError(
                f"{roi}: box ({y}, {x}, {h}, {w}) of {image_id} is not inside the image of "
                f"{reader.height} x {reader.width}"
            )
    return Regions(content, boxes)


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Boxes (y, x, height, width) by image from a CSV with columns `image_id,y,x,height,width`."""
    if not path.is_file():
        raise UserError(f"roi: expected none, content or a CSV of boxes, found {path}, which is no file")
    return _boxes(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)  # asked for with every image
def _boxes(path: Path, _changed: int) -> dict[str, list[Box]]:
    table = pd.read_csv(path, dtype={"image_id": str})
    missing = [c for c in ("image_id", "y", "x", "height", "width") if c not in table.columns]
    if missing:
        raise UserError(f"{path} lacks the column(s) {', '.join(missing)}; expected image_id,y,x,height,width")
    boxes: dict[str, list[Box]] = {}
    for row in table.itertuples():
        boxes.setdefault(row.image_id, []).append((int(row.y), int(row.x), int(row.height), int(row.width)))
    return boxes
