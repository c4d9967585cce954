"""Answers within a time limit: every window gets a first pass, and then as many images as possible get more passes.

The answers of the first pass wait in a compressed file until their image has a better answer or the time is over.
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

CONSTANT_BAND_PIXELS = 2**22  # of a band of an image that has one label everywhere


def answer_in_two_passes(
    sources: list[Source],
    answers_of: Callable[[list[Source], list[ScaleGroup], Limits, str], Iterator[Answer]],
    planner: Planner,
    limits: Limits,
) -> Iterator[Answer]:
    """The answer of every image, in the order of `sources`.

    `answers_of`: predicts some images with some groups. An image that was not begun before the end of the time has one
    label everywhere (`planner.label`).
    """
    limits = replace(limits, over=planner.first.forward.over)
    sizes = list(planner.images[["height", "width"]].itertuples(index=False, name=None))
    store = LabelStore(tempfile.TemporaryFile(dir=limits.folder))  # noqa: SIM115 (open while the generator lives)
    for image_id, _, _, bands in answers_of(sources, [planner.first], limits, "05 test images"):
        store.put(image_id, bands)
    planner.note_not_begun([i for i, source in enumerate(sources) if source.image_id not in store])
    count, groups = planner.refine()
    better = answers_of(sources[:count], groups, limits, "05 more passes") if count else iter(())
    for source, size in zip(sources, sizes, strict=True):
        try:
            if answer := next(better, None):
                store.put(source.image_id, answer[3])
        except TimeOver:
            better = iter(())
        begun = source.image_id in store
        yield source.image_id, *size, store.get(source.image_id) if begun else _not_begun(planner, *size)


class LabelStore:
    """Compressed label planes of images in an open binary file. `places`: image id -> where its bands are."""

    def __init__(self, file: BinaryIO, places: dict[str, list] | None = None):
        self._file, self.places = file, places if places is not None else {}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.places

    def put(self, image_id: str, bands: Iterable[np.ndarray]) -> None:
        """Write an image's bands (T, h, W) uint8. Its earlier bands stay valid until the last one is written."""
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


def _not_begun(planner: Planner, height: int, width: int) -> Iterator[np.ndarray]:
    """Bands of an image for which there was no time: one label everywhere, or none where classes overlap."""
    settings = planner.config.competition
    label = 0 if settings.multilabel else planner.label
    step = max(1, CONSTANT_BAND_PIXELS // (width * settings.planes))
    for y in range(0, height, step):
        yield np.full((settings.planes, min(step, height - y), width), label, np.uint8)
