"""From test images to the submission file, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.competition.dataset import Competition
from lib.competition.scoring import open_codec
from lib.config import Config
from lib.decision.decision import Decision
from lib.errors import UserError
from lib.inference.multi_scale import ScaleGroup, predict_multi_scale
from lib.inference.sliding_window import Block, Limits, Source, full_rows
from lib.inference.sources import limits_of, source_of
from lib.oof.evaluate import background_fill
from lib.predict.answer_parts import KeptAnswers, in_parts
from lib.predict.time_plan import Planner
from lib.predict.two_passes import Answer, in_two_rounds
from lib.workspace import replacing


def write_answers(
    path: Path, images: pd.DataFrame, groups: list[ScaleGroup], decision: Decision, config: Config,
    competition: Competition, planner: Planner | None = None, kept: Path | None = None,
) -> None:  # fmt: skip
    """Predict images (rows with image_id, path, height, width), write the submission, and read it back.

    Neither maps nor masks are ever held whole. `planner` keeps `groups` to a time limit. Answers wait in the folder
    `kept` until the file is complete; what a killed call left there is not predicted again. Raises UserError where the
    file is not what the organiser asks for.
    """
    write_encoded(path, images, answers_to(images, groups, decision, config, competition, planner, kept), competition)


def write_encoded(path: Path, images: pd.DataFrame, answers: Iterable[Answer], competition: Competition) -> None:
    """Write the submission of the answers to some images (rows with image_id, height, width), and read it back."""
    if images.empty:
        print(
            "warning: there is no test image here, so the answer is the sample submission as it stands; where test "
            "images are hidden, python -m lib package makes a notebook that answers them"
        )
    codec = open_codec(competition)
    for image_id, height, width, labels in answers:
        codec.add(image_id, height, width, _placed(labels))
    sizes = {image.image_id: (image.height, image.width) for image in images.itertuples()}
    with replacing(path) as temporary:
        codec.write(temporary)
        check_answers(temporary, codec, sizes, competition)


def check_answers(path: Path, codec, sizes: dict[str, tuple[int, int]], competition: Competition) -> None:
    """Read an answer back. Raises UserError where it is not what the sample submission asks for."""
    codec.check(path, sizes)
    whole = bool(sizes) and set(sizes) == set(competition.ids("test"))  # a sliver answers a part
    left = getattr(codec, "unanswered", list)() if whole else []  # a plugin's may not know
    if left:
        settings = competition.settings.submission
        raise UserError(
            f"the sample submission {settings.sample} asks for {left[0]!r} ({len(left)} such rows), which no test "
            f"image answers; see competition.submission.id_template ({settings.id_template})"
        )


def answers_to(
    images: pd.DataFrame, groups: list[ScaleGroup], decision: Decision, config: Config, competition: Competition,
    planner: Planner | None = None, kept: Path | None = None,
) -> Iterator[Answer]:  # fmt: skip
    """Predict images (rows with image_id, path, height, width) and decide, in their order; those that are `kept` are
    read. Neither maps nor masks are ever held whole. `planner` keeps `groups` to a time limit."""
    sources = [
        replace(source_of(config, image.image_id, image.path), size=(image.height, image.width))
        for image in images.itertuples()
    ]
    kept = KeptAnswers(kept)
    fill = background_fill(competition.channels, len(competition.label_names), decision.gates is not None)
    limits = limits_of(config)

    def decided(sources: list[Source], groups: list[ScaleGroup], limits: Limits, description: str) -> Iterator[Answer]:
        blocks = predict_multi_scale(sources, groups, fill, limits, description)
        rows = full_rows(blocks, decision.to_label_codes)
        for block, _, first in rows:
            yield block.image_id, block.height, block.width, decision.bands(_rows(block, first, rows), limits.folder)

    if planner:
        yield from in_two_rounds(sources, decided, planner, limits)
        return
    parts = list(in_parts(sources, groups[0].windows))
    for number, part in enumerate(parts):
        told = "05 test images" + (f", part {number + 1} of {len(parts)}" if len(parts) > 1 else "")
        if kept.has(number):
            yield from kept.read(number)
            continue
        with kept.writing(number) as noted:
            yield from map(noted, decided(part, groups, limits, told))


def _rows(block: Block, first: np.ndarray, rows: Iterator) -> Iterator[np.ndarray]:
    """Rows (h, W) of one image: its first ones, and what `rows` holds of it."""
    yield first
    while not block.last:
        block, _, more = next(rows)
        yield more


def _placed(bands: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """(y, label indices (h, W)) from the top down."""
    y = 0
    for band in bands:
        yield y, band
        y += len(band)
