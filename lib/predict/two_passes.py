"""Answers within a time limit: every window gets a first pass, and as many images as there is time for get more.

What the first pass answers waits in a file, compressed, until the same image has a better answer or the time is over.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from lib.inference.networks import ScaleGroup
from lib.inference.windows import Limits, Source
from lib.predict.answer_parts import Answer
from lib.predict.time_pacer import TimeOver
from lib.predict.time_plan import Planner

ONE_LABEL_BAND = 2**22  # pixels of a band of one label


def in_two_rounds(
    sources: list[Source],
    decided: Callable[[list[Source], list[ScaleGroup], Limits, str], Iterator[Answer]],
    planner: Planner,
    limits: Limits,
) -> Iterator[Answer]:
    """The answer of every image, in the order of `sources`; `decided` predicts some with some groups.

    An image that was not begun when the time was over is all of one label.
    """
    limits = replace(limits, over=planner.first.forward.over)
    sizes = list(planner.images[["height", "width"]].itertuples(index=False, name=None))
    kept = LabelStore(tempfile.TemporaryFile(dir=limits.folder))  # noqa: SIM115 (for its life)
    for image_id, _, _, bands in decided(sources, [planner.first], limits, "05 test images"):
        kept.put(image_id, bands)
    planner.leave([i for i, source in enumerate(sources) if source.image_id not in kept])
    count, groups = planner.refine()
    better = decided(sources[:count], groups, limits, "05 more passes") if count else iter(())
    for source, size in zip(sources, sizes, strict=True):
        try:
            if found := next(better, None):
                kept.put(source.image_id, found[3])
        except TimeOver:
            better = iter(())
        begun = source.image_id in kept
        yield source.image_id, *size, kept.get(source.image_id) if begun else _unseen(planner, *size)


class LabelStore:
    """Label planes of images in an open binary file, compressed; `places` tells where each image's bands are."""

    def __init__(self, file: BinaryIO, places: dict[str, list] | None = None):
        self._file, self.places = file, places if places is not None else {}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.places

    def put(self, image_id: str, bands: Iterable[np.ndarray]) -> None:
        """Write an image's bands (T, h, W) uint8; what it had before stays until they are complete."""
        places = []
        for band in bands:
            offset = self._file.seek(0, 2)
            places.append((offset, self._file.write(zlib.compress(np.ascontiguousarray(band), 1)), band.shape))
        self.places[image_id] = places

    def get(self, image_id: str) -> Iterator[np.ndarray]:
        """An image's bands, from the top down."""
        for offset, length, shape in self.places[image_id]:
            self._file.seek(offset)
            yield np.frombuffer(zlib.decompress(self._file.read(length)), np.uint8).reshape(shape)


def _unseen(planner: Planner, height: int, width: int) -> Iterator[np.ndarray]:
    """The bands of an image that no network saw."""
    settings = planner.config.competition
    label, step = 0 if settings.multilabel else planner.label, max(1, ONE_LABEL_BAND // (width * settings.planes))
    for y in range(0, height, step):
        yield np.full((settings.planes, min(step, height - y), width), label, np.uint8)
