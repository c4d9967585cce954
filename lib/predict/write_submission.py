"""Writes the submission file from test images, block by block."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.dataset import Competition
from lib.competition.scoring import open_codec
from lib.decision.decision import Decision
from lib.errors import UserError
from lib.inference.multi_scale import predict_multi_scale
from lib.inference.networks import ScaleGroup
from lib.inference.sliding_window import full_rows
from lib.inference.sources import limits_of, source_of
from lib.inference.windows import Limits, Source
from lib.oof.codes import from_planes
from lib.oof.evaluate import outside_values
from lib.predict.answer_parts import Answer, AnswerParts, in_parts
from lib.predict.time_plan import Planner
from lib.predict.two_passes import answer_in_two_passes
from lib.session import Session
from lib.workspace import replacing


@dataclass(frozen=True)
class AnswerWriter:
    """Answers images: `groups` of networks predict maps, and `decision` turns the maps into labels.

    `planner`: keeps the groups to a time limit. `parts`: without a planner, finished answers wait in this folder until
    the file is complete; a later call does not predict them again. Maps and masks are never held whole.
    """

    session: Session
    groups: list[ScaleGroup]
    decision: Decision
    planner: Planner | None = None
    parts: Path | None = None

    def write(self, path: Path, images: pd.DataFrame) -> None:
        """Write the submission for images (rows with image_id, path, height, width), and read it back.

        Raises UserError where the file is not what the organiser asks for.
        """
        write_encoded(path, images, self.answers(images), self.session.competition)

    def answers(self, images: pd.DataFrame) -> Iterator[Answer]:
        """The answers to images (rows with image_id, path, height, width), in their order."""
        config, limits = self.session.config, limits_of(self.session.config)
        sources = self._sources(images)
        if self.planner:
            yield from answer_in_two_passes(sources, self._decided, self.planner, limits)
            return
        parts = list(in_parts(sources, self.groups[0].windows))
        saved = AnswerParts(self.parts, config.competition.planes)
        for number, part in enumerate(parts):
            if saved.has(number, part):
                yield from saved.read(number)
                continue
            description = "05 test images" + (f", part {number + 1} of {len(parts)}" if len(parts) > 1 else "")
            with saved.writing(number) as save:
                yield from map(save, self._decided(part, self.groups, limits, description))

    def make_part(self, images: pd.DataFrame, number: int) -> None:
        """Predict and save one part of the answers to `images`, without the file of answers."""
        part = list(in_parts(self._sources(images), self.groups[0].windows))[number]
        saved, limits = AnswerParts(self.parts, self.session.config.competition.planes), limits_of(self.session.config)
        with saved.writing(number) as save:
            for *_, bands in map(save, self._decided(part, self.groups, limits, "")):
                deque(bands, maxlen=0)

    def missing_parts(self, images: pd.DataFrame) -> list[int]:
        """Which parts of the answers to `images` are not saved yet."""
        saved = AnswerParts(self.parts, self.session.config.competition.planes)
        parts = in_parts(self._sources(images), self.groups[0].windows)
        return [number for number, part in enumerate(parts) if not saved.has(number, part)]

    def _sources(self, images: pd.DataFrame) -> list[Source]:
        config = self.session.config
        return [
            replace(source_of(config, image.image_id, image.path), size=(image.height, image.width))
            for image in images.itertuples()
        ]

    def _decided(
        self, sources: list[Source], groups: list[ScaleGroup], limits: Limits, description: str
    ) -> Iterator[Answer]:
        outside = outside_values(self.session.config.competition, self.decision.gates is not None)
        blocks = predict_multi_scale(sources, groups, outside, limits, description)
        for _, rows in groupby(full_rows(blocks, self.decision.to_codes), key=lambda row: row[0].image_id):
            block, _, first = next(rows)
            codes = chain([first], map(itemgetter(2), rows))  # noqa: B031 (goes on after the first)
            yield block.image_id, block.height, block.width, self.decision.bands(codes, limits.folder)


def write_encoded(path: Path, images: pd.DataFrame, answers: Iterable[Answer], competition: Competition) -> None:
    """Write the submission of the answers to some images (rows with image_id, height, width), and read it back."""
    if images.empty:
        print(
            "warning: there is no test image, so the answer is a copy of the sample submission; where test images are "
            "hidden, `python -m lib package` makes a notebook that answers them"
        )
    codec = open_codec(competition)
    for image_id, height, width, labels in answers:
        codec.add(image_id, height, width, _with_y(labels, competition.settings.multilabel))
    sizes = {image.image_id: (image.height, image.width) for image in images.itertuples()}
    with replacing(path) as temporary:
        codec.write(temporary)
        check_answers(temporary, codec, sizes, competition)


def check_answers(path: Path, codec, sizes: dict[str, tuple[int, int]], competition: Competition) -> None:
    """Read an answer back. Raises UserError where it is not what the sample submission asks for."""
    codec.check(path, sizes)
    complete = bool(sizes) and set(sizes) == set(competition.ids("test"))  # a rehearsal answers only some images
    unanswered = getattr(codec, "unanswered", list)() if complete else []  # a plugin's codec may lack the method
    if unanswered:
        settings = competition.settings.submission
        raise UserError(
            f"the sample submission {settings.sample} asks for {unanswered[0]!r} ({len(unanswered)} such rows), which "
            f"no test image answers; see competition.submission.id_template ({settings.id_template})"
        )


def _with_y(bands: Iterable[np.ndarray], multilabel: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Bands of label planes (T, h, W) -> (y, labels (h, W) or (K, h, W)) from the top down, as codecs take them."""
    y = 0
    for band in bands:
        yield y, from_planes(band, multilabel)
        y += band.shape[1]
