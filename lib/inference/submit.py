"""From test images to the submission file, band by band."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lib.competition.dataset import Competition
from lib.config import Config
from lib.inference.decision import Decision
from lib.inference.evaluate import background_fill
from lib.inference.forward import Ensemble
from lib.inference.members import windows_of
from lib.inference.predictor import Band, Source, predict


def add_answers(
    codec, sources: list[Source], forward: Ensemble, decision: Decision, config: Config, competition: Competition
) -> None:
    """Predict the test images and hand their labels to the codec; neither maps nor masks are ever held whole."""
    fill = background_fill(competition.channels, len(competition.label_names))
    bands = predict(
        sources, forward, windows_of(config), fill, forward.systems, config.infer.batch_size, config.infer.max_gib,
        description="05 test images",
    )  # fmt: skip
    for first in bands:
        codec.add(first.image_id, first.height, first.width, _labels(first, bands, decision))


def _labels(band: Band, bands: Iterator[Band], decision: Decision) -> Iterator[tuple[int, np.ndarray]]:
    """(y0, label indices (h, W)) of one image: its first band, and what `bands` holds of it."""
    while True:
        yield band.y0, decision.apply(band.probs[0])
        if band.last:
            return
        band = next(bands)
