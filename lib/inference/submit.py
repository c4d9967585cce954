"""From test images to the submission file, block by block."""

from __future__ import annotations

from collections.abc import Iterator

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
    fill = background_fill(competition.channels, len(competition.label_names))
    blocks = predict_together(sources, groups, fill, limits_of(config), "05 test images")
    rows = full_rows(blocks, lambda probs: decision.apply(probs[-1]))
    for block, y, labels in rows:
        codec.add(block.image_id, block.height, block.width, _labels(y, labels, block, rows))


def _labels(y: int, labels: np.ndarray, block: Block, rows: Iterator) -> Iterator[tuple[int, np.ndarray]]:
    """(y, label indices (h, W)) of one image: its first rows, and what `rows` holds of it."""
    yield y, labels
    while not block.last:
        block, y, labels = next(rows)
        yield y, labels
