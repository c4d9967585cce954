"""Regions of interest: where stage 01 cuts tiles, and where 04 and 05 compute windows."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from lib.artifacts.read import read_json
from lib.config.preprocess import ROI_WORDS
from lib.errors import UserError
from lib.imaging.content import Content, content_map
from lib.imaging.geometry import Box
from lib.imaging.reader import ImageReader
from lib.user_tables import read_csv

BOX_COLUMNS = ["image_id", "y", "x", "height", "width"]
MOST_ON_BLANK = 0.02  # of the object pixels in tiles that count as blank; with more, windows are computed everywhere


class Regions:
    """`keep(y, x, h, w)` tells whether a box of original pixels is in a region of interest."""

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
    """Regions of an image. `roi`: `none` (everywhere), `content` (not on blank areas) or the path of a CSV of boxes.

    `coarse` has the meaning of `content` here, because 05 replaces it by a CSV of boxes
    (lib/predict/coarse_to_fine.py). `content`: the image's map, where it is known already. Raises UserError when a box
    reaches outside the image.
    """
    if roi == "none":
        return Regions(None)
    if roi in ROI_WORDS:
        return Regions(content or content_map(reader, tolerance))
    boxes = read_boxes(Path(roi)).get(image_id, [])
    for y, x, h, w in boxes:
        if min(y, x) < 0 or min(h, w) < 1 or y + h > reader.height or x + w > reader.width:
            raise UserError(
                f"{roi}: box ({y}, {x}, {h}, {w}) of {image_id} is not inside the image of "
                f"{reader.height} x {reader.width}"
            )
    return Regions(content, boxes)


def roi_in_effect(roi: str, fingerprint: Path) -> str:
    """`infer.roi`, or `none` in place of `content` and `coarse` where 01 found too many objects on blank ground."""
    if roi not in ("content", "coarse") or not fingerprint.is_file():
        return roi
    return "none" if _on_blank(fingerprint, fingerprint.stat().st_mtime_ns) > MOST_ON_BLANK else roi


@lru_cache(maxsize=2)  # asked for with every image
def _on_blank(fingerprint: Path, _changed: int) -> float:
    return read_json(fingerprint, {}).get("objects_on_blank", 0.0)


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Boxes (y, x, height, width) by image, sorted, from a CSV with columns `image_id,y,x,height,width`."""
    if not path.is_file():
        raise UserError(f"roi: expected none, content or a CSV of boxes, found {path}, which is not a file")
    return _boxes(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)  # asked for with every image
def _boxes(path: Path, _changed: int) -> dict[str, list[Box]]:
    table = read_csv(path, [])
    missing = [column for column in BOX_COLUMNS if column not in table.columns]
    if missing:
        raise UserError(f"{path} lacks the column(s) {', '.join(missing)}; expected {','.join(BOX_COLUMNS)}")
    numbers = table[BOX_COLUMNS[1:]].apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = ~np.isfinite(numbers).all(axis=1) | (table["image_id"] == "")
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"{path}: row {row + 2} is {','.join(table.loc[row, BOX_COLUMNS])}; an image id and four numbers are "
            "expected (an image without box has no row)"
        )
    boxes: dict[str, list[Box]] = {}
    for image_id, box in zip(table["image_id"], numbers.astype(int).to_numpy().tolist(), strict=True):
        boxes.setdefault(image_id, []).append(tuple(box))
    return {image_id: sorted(set(own)) for image_id, own in boxes.items()}


def boxes_file(roi: str) -> list[Path]:
    """The CSV of boxes, where `roi` names one."""
    return [] if roi in ROI_WORDS else [Path(roi)]


def check_boxes(key: str, roi: str, what: str, image_ids: list[str]) -> None:
    """Say how many of some images (`what` they are) have no box. Raises UserError, naming the option, if none has."""
    if roi in ROI_WORDS or not image_ids:
        return
    without = [image_id for image_id in image_ids if image_id not in read_boxes(Path(roi))]
    if len(without) == len(image_ids):
        raise UserError(f"{key}: {roi} has no box of any {what} image, {without[0]} for one; check its column image_id")
    if without:
        print(f"warning: {roi} has no box of {len(without)} of {len(image_ids)} {what} images ({without[0]} for one)")
