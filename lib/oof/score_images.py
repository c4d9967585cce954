"""What a member is worth on its fold's whole images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import torch
from torch import nn

from lib import tables
from lib.competition import metrics
from lib.competition.dataset import Competition
from lib.config import Config
from lib.inference.backends.engines import Engine
from lib.inference.multi_scale import ScaleGroup
from lib.inference.networks import Ensemble
from lib.inference.sources import limits_of, source_of, windows_of
from lib.oof.evaluate import HALF, Evaluation, evaluate
from lib.oof.previews import Glimpse
from lib.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class Scored:
    """The metric of all images together, and of each alone; of the worst ones, in that order, a small map of label
    indices."""

    score: float
    images: dict[str, float]
    worst: dict[str, np.ndarray]


def in_turns(folds: pd.DataFrame) -> pd.DataFrame:
    """Rows of folds.csv in a seeded order, one of each fold after another; their `turn` is added."""
    shuffled = folds.sample(frac=1, random_state=0)
    shuffled = shuffled.assign(turn=shuffled.groupby("fold").cumcount())
    return shuffled.sort_values(["turn", "fold"], kind="stable", ignore_index=True)


def images_of_fold(workspace: Workspace, folds: pd.DataFrame, fold: int) -> list[tuple[str, str]]:
    """(image id, path) of a fold's validation images; none for a member of all images."""
    images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py").set_index("image_id")
    return [(i, images.loc[i, "path"]) for i in folds.loc[folds["fold"] == fold, "image_id"]]


def score(
    networks: list[nn.Module],
    validation: list[tuple[str, str]],
    config: Config,
    competition: Competition,
    device: torch.device,
    precision: str,
    quick: bool = False,
) -> Scored:
    """The competition's metric on stitched whole images with 05's windows, without TTA, at threshold 0.5: nothing is
    fitted.

    Of several networks the mean. `quick`: windows do not overlap. `report.pictures` of the worst images' maps are kept
    for a tracker.
    """
    windows = windows_of(config)
    if quick:
        windows = dataclasses.replace(windows, overlap=0.0, blend="constant")
    sources = [source_of(config, i, path) for i, path in validation]
    groups = [ScaleGroup(windows, Ensemble(networks, device, engine=Engine(precision)))]
    worst: list[tuple[float, str, np.ndarray]] = []

    def keep(image_id: str, glimpse: Glimpse, counts: np.ndarray) -> None:
        one = Evaluation([image_id], counts[None])
        labels = (glimpse.map >= HALF).astype(np.uint8) if one.binary else glimpse.map
        worst.append((metrics.image_scores(config.competition, one.class_counts(0))[0], image_id, labels))
        worst.sort(key=lambda kept: kept[0])
        del worst[config.report.pictures :]

    result = evaluate(
        sources, groups, competition.labels.open, len(competition.label_names), competition.channels,
        limits_of(config), "03 whole images", keep=keep if config.report.tracker != "none" else None,
    )  # fmt: skip
    counts = result.class_counts(0)
    alone = metrics.image_scores(config.competition, counts)
    images = dict(zip(result.image_ids, alone, strict=True))
    return Scored(metrics.score(config.competition, counts), images, {name: map_ for _, name, map_ in worst})
