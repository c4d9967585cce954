"""What the leak check keeps of every image: a grey thumbnail and local features, in a file of equal records.

Features are SIFT (Lowe 2004). The file keeps memory small: processes write and read single records of it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lib.config.competition import Pixels
from lib.imaging.reader import AS_THEY_ARE, open_image

VALUES = 128  # of a descriptor: 4 rows x 4 columns x 8 directions
# Under a mirror, the patch around a feature has its rows reversed and its directions turned the other way.
MIRROR = np.arange(VALUES).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()
JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Depth:
    """How closely images are looked at. `side`: the thumbnail's longest, pixels; `features`: at most, per image;
    `inliers`: features that must agree on one transform; `neighbours`: likely pairs of an image; `layers` and `blur`:
    of SIFT's scale space. Less of both finds smaller features, which cost less and suit small thumbnails.
    """

    side: int
    features: int
    inliers: int
    neighbours: int
    layers: int = 3
    blur: float = 1.6


# (images up to which a depth is used, depth): time grows with the number of images, so the look becomes coarser.
DEPTHS = ((1_000, Depth(512, 500, 14, 12)), (20_000, Depth(256, 200, 10, 12)), (60_000, Depth(160, 100, 8, 6)))
COARSEST = Depth(80, 64, 7, 4, layers=2, blur=1.3)


def depth_for(images: int) -> Depth:
    """
    >>> depth_for(240).side, depth_for(5_000).side, depth_for(192_000).side
    (512, 256, 80)
    """
    return next((depth for most, depth in DEPTHS if images <= most), COARSEST)


@dataclass(frozen=True)
class Look:
    """What is remembered of an image: grey thumbnail (h, w), key points (n, 2) as x, y, descriptors (n, 128) uint8."""

    grey: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray

    def mirrored(self) -> Look:
        """The look of the image with left and right exchanged."""
        points = self.points * np.float32([-1, 1]) + np.float32([self.grey.shape[1] - 1, 0])
        return Look(np.ascontiguousarray(self.grey[:, ::-1]), points, self.descriptors[:, MIRROR])


def unit(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors (n, 128) as unit vectors. RootSIFT (Arandjelović & Zisserman 2012): better matches for one root."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1e-9))


def features(thumbnail: np.ndarray, depth: Depth = DEPTHS[0][1]) -> Look:
    """The look of `thumbnail`, (h, w, 3) uint8 RGB or (h, w) grey."""
    grey = thumbnail if thumbnail.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(thumbnail), cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT_create(depth.features, nOctaveLayers=depth.layers, sigma=depth.blur)
    key_points, descriptors = sift.detectAndCompute(grey, None)
    if descriptors is None:
        return Look(grey, np.zeros((0, 2), np.float32), np.zeros((0, VALUES), np.uint8))
    order = np.argsort([-p.response for p in key_points], kind="stable")[: depth.features]  # ties may add some
    return Look(grey, np.float32([key_points[i].pt for i in order]), descriptors[order].astype(np.uint8))


def look_at(path: Path, pixels: Pixels, depth: Depth) -> Look:
    """Thumbnail and features of one image."""
    return features(_small(path, pixels, depth.side), depth)


def _small(path: Path, pixels: Pixels, side: int) -> np.ndarray:
    """A thumbnail, `side` pixels at most. A plain JPEG is decoded at an eighth to a half of its size where that is
    enough, which is several times as fast. Its EXIF orientation does not matter: turned copies are found."""
    if path.suffix.lower() in JPEG and pixels == AS_THEY_ARE:
        with contextlib.suppress(OSError), Image.open(path) as image:  # what is damaged is told by `open_image`
            factor = side / max(image.size)
            if factor <= 0.5 and image.mode in ("RGB", "L"):
                size = tuple(max(1, round(n * factor)) for n in image.size)
                image.draft("L", size)
                return cv2.resize(np.asarray(image.convert("L")), size, interpolation=cv2.INTER_AREA)
    with open_image(path, pixels) as reader:
        return reader.thumbnail(side)


class Looks:
    """The looks of many images in one file; a record each, so that any process can read and write any of them."""

    def __init__(self, path: Path, depth: Depth, count: int):
        self.path, self.depth, self.count = path, depth, count
        self.record = np.dtype(
            [
                ("shape", "<i4", 2), ("found", "<i4"), ("grey", "u1", depth.side**2),
                ("points", "<f4", (depth.features, 2)), ("descriptors", "u1", (depth.features, VALUES)),
            ]
        )  # fmt: skip

    def write(self, first: int, paths: list[Path], pixels: Pixels) -> None:
        """Look at some images, whose records begin at `first`."""
        records = np.zeros(len(paths), self.record)
        for record, path in zip(records, paths, strict=True):
            look = look_at(path, pixels, self.depth)
            record["shape"], record["found"] = look.grey.shape, len(look.points)
            record["grey"][: look.grey.size] = look.grey.ravel()
            record["points"][: len(look.points)] = look.points
            record["descriptors"][: len(look.points)] = look.descriptors
        with self.path.open("r+b") as file:
            file.seek(first * self.record.itemsize)
            file.write(records.tobytes())

    def read(self, first: int, count: int) -> np.ndarray:
        """Records `first` to `first + count`, or as many as there are."""
        with self.path.open("rb") as file:
            file.seek(first * self.record.itemsize)
            return np.fromfile(file, self.record, min(count, self.count - first))

    def look(self, position: int) -> Look:
        record = self.read(position, 1)[0]
        (height, width), found = record["shape"], record["found"]
        grey = record["grey"][: height * width].reshape(height, width)
        return Look(grey, record["points"][:found], record["descriptors"][:found])
