"""Features of every image for the leak check: a grey thumbnail and local descriptors, in a file of equal records.

Descriptors are SIFT (Lowe 2004). The file keeps memory small, because processes read and write single records of it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lib.config.competition import Pixels
from lib.imaging.draw import as_picture
from lib.imaging.reader import AS_THEY_ARE, open_image

DESCRIPTOR_VALUES = 128  # 4 rows x 4 columns x 8 directions
# Under a mirror, the patch around a feature has its rows reversed and its directions turned the other way.
MIRROR = np.arange(DESCRIPTOR_VALUES).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()
JPEG_SUFFIXES = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Detail:
    """How closely the leak check looks at images.

    `side`: longest side of the thumbnail, pixels. `features`: of an image, at most. `min_inliers`: features that must
    agree on one transform. `neighbours`: likely pairs of an image, at most. `layers`, `blur`: of SIFT's scale space;
    lower values find smaller features, which cost less and suit small thumbnails.
    """

    side: int
    features: int
    min_inliers: int
    neighbours: int
    layers: int = 3
    blur: float = 1.6


# (largest number of images, detail): time grows with the number of images, so larger sets are checked in less detail.
DETAILS = ((1_000, Detail(512, 500, 14, 12)), (20_000, Detail(256, 200, 10, 12)), (60_000, Detail(160, 100, 8, 6)))
COARSEST = Detail(80, 64, 7, 4, layers=2, blur=1.3)


def detail_for(images: int) -> Detail:
    """
    >>> detail_for(240).side, detail_for(5_000).side, detail_for(192_000).side
    (512, 256, 80)
    """
    return next((detail for most, detail in DETAILS if images <= most), COARSEST)


@dataclass(frozen=True)
class ImageFeatures:
    """Grey thumbnail (h, w) uint8, key points (n, 2) as x, y in its pixels, and descriptors (n, 128) uint8."""

    grey: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray

    def mirrored(self) -> ImageFeatures:
        """The features of the image with left and right exchanged."""
        points = self.points * np.float32([-1, 1]) + np.float32([self.grey.shape[1] - 1, 0])
        return ImageFeatures(np.ascontiguousarray(self.grey[:, ::-1]), points, self.descriptors[:, MIRROR])


def unit_vectors(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors (n, 128) as RootSIFT unit vectors, which match better. Source: Arandjelović & Zisserman 2012."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1e-9))


def extract_features(thumbnail: np.ndarray, detail: Detail = DETAILS[0][1]) -> ImageFeatures:
    """Features of a thumbnail, (h, w, 3) uint8 RGB or (h, w) uint8 grey."""
    grey = thumbnail if thumbnail.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(thumbnail), cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT_create(detail.features, nOctaveLayers=detail.layers, sigma=detail.blur)
    key_points, descriptors = sift.detectAndCompute(grey, None)
    if descriptors is None:
        return ImageFeatures(grey, np.zeros((0, 2), np.float32), np.zeros((0, DESCRIPTOR_VALUES), np.uint8))
    order = np.argsort([-p.response for p in key_points], kind="stable")[: detail.features]  # ties may add some
    return ImageFeatures(grey, np.float32([key_points[i].pt for i in order]), descriptors[order].astype(np.uint8))


def features_of_file(path: Path, pixels: Pixels, detail: Detail) -> ImageFeatures:
    return extract_features(_thumbnail(path, pixels, detail.side), detail)


def _thumbnail(path: Path, pixels: Pixels, side: int) -> np.ndarray:
    """A thumbnail of at most `side` pixels.

    A plain JPEG is decoded at an eighth to a half of its size where that is enough, which is several times faster. Its
    EXIF orientation does not matter, because rotated copies are found as well.
    """
    if path.suffix.lower() in JPEG_SUFFIXES and pixels == AS_THEY_ARE:
        with contextlib.suppress(OSError), Image.open(path) as image:  # `open_image` reports damaged files
            factor = side / max(image.size)
            if factor <= 0.5 and image.mode in ("RGB", "L"):
                size = tuple(max(1, round(n * factor)) for n in image.size)
                image.draft("L", size)
                return cv2.resize(np.asarray(image.convert("L")), size, interpolation=cv2.INTER_AREA)
    with open_image(path, pixels) as reader:
        return as_picture(reader.thumbnail(side), pixels)


class FeatureFile:
    """The features of many images in one file: a record for each, so that any process can read and write it."""

    def __init__(self, path: Path, detail: Detail, count: int):
        self.path, self.detail, self.count = path, detail, count
        self.record = np.dtype(
            [
                ("shape", "<i4", 2), ("found", "<i4"), ("grey", "u1", detail.side**2),
                ("points", "<f4", (detail.features, 2)),
                ("descriptors", "u1", (detail.features, DESCRIPTOR_VALUES)),
            ]
        )  # fmt: skip

    def write(self, first: int, paths: list[Path], pixels: Pixels) -> None:
        """Extract the features of the images `paths`, whose records begin at `first`."""
        records = np.zeros(len(paths), self.record)
        for record, path in zip(records, paths, strict=True):
            image = features_of_file(path, pixels, self.detail)
            record["shape"], record["found"] = image.grey.shape, len(image.points)
            record["grey"][: image.grey.size] = image.grey.ravel()
            record["points"][: len(image.points)] = image.points
            record["descriptors"][: len(image.points)] = image.descriptors
        with self.path.open("r+b") as file:
            file.seek(first * self.record.itemsize)
            file.write(records.tobytes())

    def records(self, first: int, count: int) -> np.ndarray:
        """Records `first` to `first + count`, or as many as there are."""
        with self.path.open("rb") as file:
            file.seek(first * self.record.itemsize)
            return np.fromfile(file, self.record, min(count, self.count - first))

    def read(self, position: int) -> ImageFeatures:
        """The features of one image."""
        record = self.records(position, 1)[0]
        (height, width), found = record["shape"], record["found"]
        grey = record["grey"][: height * width].reshape(height, width)
        return ImageFeatures(grey, record["points"][:found], record["descriptors"][:found])
