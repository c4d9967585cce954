"""The class of all labels, which are read by window, and what label readers share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from lib.competition import rle
from lib.config.competition import CompetitionSettings
from lib.config.reserved import meaning_of
from lib.errors import UserError
from lib.tables import IGNORE

INDICES = 256  # a label index is uint8
COUNTED_PIXELS = 2**24  # pixels of a label counted at once
PAINTED_ONCE_PIXELS = 2**25  # a label with more pixels is painted window by window
PLANES_AT_ONCE_PIXELS = 2**27  # so is each of several planes that have more pixels together


def index_of(name: str, config: CompetitionSettings) -> int | None:
    """Label index of a class name; None for a name that is neither a class nor background nor ignored.

    >>> settings = CompetitionSettings(classes=["cell"])
    >>> [index_of(name, settings) for name in ("cell", "_background_", "__ignore__", "dust")]
    [1, 0, 255, None]
    """
    if name in config.classes:
        return config.classes.index(name) + int(config.background)
    meaning = meaning_of(name)
    if meaning == "background" and config.background:
        return 0
    return IGNORE if meaning == "ignore" else None


class WrongSize(UserError):
    """A label is of another size than its image."""


class Label:
    """One image's label, which is read by window.

    A label format is a class with `image_ids` and `open(image_id, height, width) -> Label`, registered under a name:
    `@register("labels", "masks")`. It gets (config, known image ids), and raises UserError where files are wrong.

    >>> indices = np.array([[0, 0, 1], [0, 2, 1]], np.uint8)
    >>> label = Label(lambda y, x, h, w: indices[y : y + h, x : x + w])
    >>> label.read(0, 1, 2, 2).tolist(), label.counts(0, 0, 2, 3)[:3].tolist()
    ([[0, 1], [2, 1]], [3, 2, 1])
    """

    def __init__(
        self,
        read: Callable[[int, int, int, int], np.ndarray],
        count: Callable[[int, int, int, int], np.ndarray] | None = None,
        unused: dict[Path, int] | None = None,
    ):
        """`read(y, x, h, w)` gives label indices (h, w) uint8. `count(y, x, h, w)`: as `counts`, where it is faster
        than to count pixels. `unused`: file -> how many of its objects cover no pixel of the image."""
        self._read, self._count, self.unused = read, count, unused or {}
        self.by_class: Callable[[], Label] | None = None
        """Gives the same label with a plane for each class, where classes are painted over one another."""
        self.opinions: list[Label] = []
        """Labels by several people, where training is on their mean; this label is then that of most of them."""

    @property
    def planes(self) -> list[Label]:
        """Labels of which each is stored as a plane of its own: this one; of classes that overlap, one for each."""
        return [self]

    def read(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Label indices (h, w) uint8 of the window at row `y` and column `x`, in pixels of the image."""
        return self._read(y, x, h, w)

    def mask(self, index: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Where the class of a label index is in a window, (h, w) bool."""
        return self.read(y, x, h, w) == index

    def counts(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Pixels of each label index in a window, (256,) int64."""
        if self._count:
            return self._count(y, x, h, w)
        counts = np.zeros(INDICES, np.int64)
        step = max(1, COUNTED_PIXELS // w)
        for top in range(y, y + h, step):
            band = self.read(top, x, min(step, y + h - top), w)
            # Whole numbers up to 2^24 are exact in the histogram's float32.
            counts += cv2.calcHist([band], [0], None, [INDICES], [0, INDICES]).ravel().astype(np.int64)
        return counts


def painted_once(
    read: Callable[[int, int, int, int], np.ndarray],
    height: int,
    width: int,
    unused: dict[Path, int] | None = None,
    planes: int = 1,
) -> Label:
    """The label of `read`. For small images, `read` is called once, for the whole image.

    `planes`: how many such labels of the image are held together.
    """
    if height * width > PAINTED_ONCE_PIXELS or height * width * planes > PLANES_AT_ONCE_PIXELS:
        return Label(read, unused=unused)
    indices = read(0, 0, height, width)
    return Label(lambda y, x, h, w: indices[y : y + h, x : x + w], unused=unused)


def label_of_runs(
    runs: list[tuple[int, np.ndarray, np.ndarray]], height: int, width: int, order: str, background: bool
) -> Label:
    """The label of an image (height, width) painted from (label index, starts, lengths); later ones win.

    A pixel without run is background, or, where there is none, `IGNORE`.
    """

    def read(y: int, x: int, h: int, w: int) -> np.ndarray:
        out = np.full((h, w), 0 if background else IGNORE, np.uint8)
        first, last = (y * width, (y + h) * width) if order == "row" else (x * height, (x + w) * height)
        for index, starts, lengths in runs:
            if not len(starts) or starts[0] >= last or starts[-1] + lengths[-1] <= first:
                continue
            out[rle.window_of_runs(starts, lengths, (height, width), order, (y, x, h, w)) > 0] = index
        return out

    def count(y: int, x: int, h: int, w: int) -> np.ndarray:
        counts = np.zeros(INDICES, np.int64)
        ((index, starts, lengths),) = runs
        counts[index] = rle.pixels_in_window(starts, lengths, (height, width), order, (y, x, h, w))
        counts[0 if background else IGNORE] += h * w - counts[index]
        return counts

    return Label(read, count if len(runs) == 1 else None)  # several may overlap
