"""Labels whose classes may overlap (`competition.multilabel`): a plane of 0 and 1 for each class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from lib.competition.labels.common import COUNTED_PIXELS, INDICES, Label, label_of_runs
from lib.config.competition import CompetitionSettings
from lib.tables import IGNORE

CLASSLESS = 254  # where `Planes.counts` counts the pixels that are of no class

Painted = TypeVar("Painted")


def counted_names(label_names: list[str]) -> dict[str, int]:
    """Where `Label.counts` counts each class, background and what is ignored: by name, in the order of tables.

    >>> counted_names(["artery", "vein"])
    {'background': 254, 'artery': 0, 'vein': 1, 'ignore': 255}
    """
    return {"background": CLASSLESS} | {name: i for i, name in enumerate(label_names)} | {"ignore": IGNORE}


class Planes(Label):
    """One image's label of K classes that may overlap: K labels of one class each, read together.

    `read` gives (K, h, w) uint8: 1 where a plane's class is, 0 elsewhere, and `IGNORE` where that class is not scored.

    >>> cell, edge = np.array([[0, 1, 1]], np.uint8), np.array([[0, 0, 1]], np.uint8)
    >>> label = Planes([Label(lambda y, x, h, w, p=p: p[y : y + h, x : x + w]) for p in (cell, edge)])
    >>> label.read(0, 1, 1, 2).tolist(), label.counts(0, 0, 1, 3)[[0, 1, CLASSLESS, IGNORE]].tolist()
    ([[[1, 1]], [[0, 1]]], [2, 1, 1, 0])
    """

    def __init__(self, planes: Sequence[Label], read: Callable[[int, int, int, int], np.ndarray] | None = None):
        """`planes`: of each class, in order. `read`: gives all of them at once, where that is faster."""
        self._planes = list(planes)
        unused = {path: count for plane in planes for path, count in plane.unused.items()}
        super().__init__(read or (lambda *box: np.stack([plane.read(*box) for plane in self._planes])), unused=unused)

    @property
    def planes(self) -> list[Label]:
        return self._planes

    def mask(self, index: int, y: int, x: int, h: int, w: int) -> np.ndarray:
        """As of `Label`; only the plane of the class is read."""
        return self._planes[index].read(y, x, h, w) == 1

    def counts(self, y: int, x: int, h: int, w: int) -> np.ndarray:
        """Pixels in a window, (256,) int64: of each class, of none (`CLASSLESS`), and not scored for any (`IGNORE`).

        A pixel counts for each class that it has.
        """
        counts = np.zeros(INDICES, np.int64)
        step = max(1, COUNTED_PIXELS // (w * len(self._planes)))
        for top in range(y, y + h, step):
            band = self.read(top, x, min(step, y + h - top), w)
            ignored = (band == IGNORE).all(0)
            of_class = band == 1
            counts[: len(band)] += np.count_nonzero(of_class, axis=(1, 2))
            counts[IGNORE] += np.count_nonzero(ignored)
            counts[CLASSLESS] += ignored.size - np.count_nonzero(of_class.any(0) | ignored)
        return counts


def label_of_objects(
    objects: Sequence[tuple[int, Painted]],
    paint: Callable[[list[tuple[int, Painted]], int], Label],
    config: CompetitionSettings,
) -> Label:
    """The label of objects, each with the index that it is painted with: 0 background, 1 … the classes, or `IGNORE`.

    `paint(objects, maps)` makes one map of some of them, in which later ones lie on top; `maps`: how many are made.
    With `multilabel` each class has a map of its own, made of its objects and of what is background, or ignored, for
    all.
    """
    count = len(config.classes)

    def planes() -> Planes:
        shared = {0: 0, IGNORE: IGNORE}
        meanings = [{**shared, place: 1} for place in range(1, count + 1)]
        return Planes([paint([(of[index], one) for index, one in objects if index in of], count) for of in meanings])

    if config.multilabel:
        return planes()
    label = paint(list(objects), 1)
    if config.background and len({index for index, _ in objects} - {0, IGNORE}) > 1:
        label.by_class = planes
    return label


def label_of_class_runs(
    runs: Sequence[tuple[int, np.ndarray, np.ndarray]], size: tuple[int, int], order: str, config: CompetitionSettings
) -> Label:
    """The label of an image of `size` (height, width) from runs (index as of `label_of_objects`, starts, lengths)."""

    def paint(some: list[tuple[int, tuple[np.ndarray, np.ndarray]]], _: int) -> Label:
        return label_of_runs([(index, *ends) for index, ends in some], *size, order, config.background)

    return label_of_objects([(index, (starts, lengths)) for index, starts, lengths in runs], paint, config)


def label_of_array(labels: np.ndarray) -> Label:
    """A label from all its indices (h, w) uint8, or planes (K, h, w), in memory or in a mapped file."""

    def read(y: int, x: int, h: int, w: int) -> np.ndarray:
        return labels[..., y : y + h, x : x + w]

    return Label(read) if labels.ndim == 2 else Planes([label_of_array(plane) for plane in labels], read)


def planes_of_indices(label: Label, classes: int) -> Planes:
    """The planes of a label of indices (0 background, 1 … the classes), which overlap nowhere."""
    tables = np.zeros((classes, INDICES), np.uint8)
    tables[range(classes), range(1, classes + 1)] = 1
    tables[:, IGNORE] = IGNORE

    def plane(table: np.ndarray) -> Label:
        return Label(lambda *box: table[label.read(*box)], unused=label.unused)

    return Planes([plane(table) for table in tables], lambda *box: tables[:, label.read(*box)])


def class_mask(labels: np.ndarray, index: int) -> np.ndarray:
    """Where a class is in a map of label indices (h, w), or in planes (K, h, w): (h, w) bool."""
    return labels[index] == 1 if labels.ndim == 3 else labels == index


def class_masks(labels: np.ndarray, first: int) -> Iterator[tuple[int, np.ndarray]]:
    """(label index, mask (h, w) bool) of each class in a map of label indices (h, w), or in planes (K, h, w).

    `first`: label index of the first class; `first_class` of the competition's section.

    >>> [(index, mask.tolist()) for index, mask in class_masks(np.array([[0, 2, IGNORE]]), 1)]
    [(2, [[False, True, False]])]
    """
    if labels.ndim == 3:
        masks = ((index, plane == 1) for index, plane in enumerate(labels))
        yield from ((index, mask) for index, mask in masks if mask.any())
        return
    for index in np.unique(labels[(labels != IGNORE) & (labels >= first)]).tolist():
        yield index, labels == index
