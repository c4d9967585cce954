"""From test images to the submission file, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from lib.competition.dataset import Competition
from lib.config import Config
from lib.inference.decision import Decision
from lib.inference.evaluate import background_fill
from lib.inference.members import limits_of
from lib.inference.predictor import Block, Source, full_rows
from lib.inference.together import Group, predict_together


def add_answers(
    codec, sources: list[Source], groups: list[Group], decision: Decision, config: Config, competition: Competition
) -> None:
    """Predict the test images and hand their labels to the codec; neither maps nor masks are ever held whole."""
    fill, limits = background_fill(competition.channels, len(competition.label_names)), limits_of(config)
    blocks = predict_together(sources, groups, fill, limits, "05 test images")
    rows = full_rows(blocks, decision.quantised)
    for block, _, first in rows:
        labels = decision.bands(_rows(block, first, rows), limits.folder)
        codec.add(block.image_id, block.height, block.width, _placed(labels))


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
