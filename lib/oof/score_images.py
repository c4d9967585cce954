"""The score of a member on its fold's whole images, and the fixed order in which images are tried."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from torch import nn

from lib.competition import metrics
from lib.inference.backends.engines import Engine
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.sources import limits_of, source_of, windows_of
from lib.oof.codes import HALF, from_planes
from lib.oof.evaluate import CountCollector, TrueLabels, evaluate
from lib.oof.previews import Preview, PreviewCollector
from lib.session import Session


@dataclasses.dataclass(frozen=True)
class Scored:
    """The metric of all images together (`score`) and of each (`images`).

    `worst`: of the images with the lowest scores, in that order, a small map of labels uint8: (h, w), or (K, h, w) of
    classes that overlap.
    """

    score: float
    images: dict[str, float]
    worst: dict[str, np.ndarray]


def in_turns(folds: pd.DataFrame) -> pd.DataFrame:
    """Rows of folds.csv in a seeded order, one of each fold after another. The column `turn` is added."""
    shuffled = folds.sample(frac=1, random_state=0)
    shuffled = shuffled.assign(turn=shuffled.groupby("fold").cumcount())
    return shuffled.sort_values(["turn", "fold"], kind="stable", ignore_index=True)


def images_of_fold(session: Session, fold: int) -> list[tuple[str, str]]:
    """(image id, path) of a fold's validation images; none for a member that is trained on all images."""
    images, folds = session.images.set_index("image_id"), session.folds
    return [(i, images.loc[i, "path"]) for i in folds.loc[folds["fold"] == fold, "image_id"]]


def score_images(
    session: Session, networks: list[nn.Module], validation: list[tuple[str, str]], precision: str, quick: bool = False
) -> Scored:
    """The competition's metric on stitched whole images, predicted by the mean of the networks.

    Windows are 05's, without TTA. The threshold is 0.5, so nothing is fitted. `validation`: (image id, path).
    `precision`: `fp32`, `bf16` or `fp16`. `quick`: windows do not overlap. With a tracker, the maps of the
    `report.pictures` worst images are kept.
    """
    config, windows = session.config, windows_of(session.config)
    if quick:
        windows = dataclasses.replace(windows, overlap=0.0, blend="constant")
    groups = [ScaleGroup(windows, Ensemble(networks, session.device, engine=Engine(precision)))]
    labels = TrueLabels.of(session.competition)
    counts = CountCollector([image_id for image_id, _ in validation], labels, 1)
    worst: list[tuple[float, str, np.ndarray]] = []

    def keep_worst(image_id: str, preview: Preview) -> None:
        image_counts = counts.evaluation_of(image_id).class_counts(0)
        planes = (preview.map >= HALF).astype(np.uint8) if config.competition.binary else preview.map
        small = from_planes(planes, config.competition.multilabel)
        worst.append((metrics.image_scores(config.competition, image_counts)[0], image_id, small))
        worst.sort(key=lambda entry: entry[0])
        del worst[config.report.pictures :]

    collectors = [counts]
    if config.report.tracker != "none":
        collectors.append(PreviewCollector(config.competition, keep_worst, session.workspace.root))
    sources = [source_of(config, image_id, path) for image_id, path in validation]
    evaluate(sources, groups, labels, limits_of(config), collectors, "03 whole images")
    result = counts.evaluation()
    class_counts = result.class_counts(0)
    scores = metrics.image_scores(config.competition, class_counts)
    images = dict(zip(result.image_ids, scores, strict=True))
    return Scored(metrics.score(config.competition, class_counts), images, {name: map_ for _, name, map_ in worst})
