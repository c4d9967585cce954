"""Loads the networks of an ensemble, with their windows and engine, grouped by their windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import pandas as pd
from torch import nn

from lib.config import Config
from lib.errors import UserError
from lib.imaging.roi import boxes_file
from lib.inference.backends.choose import Candidate, infer_engine
from lib.inference.backends.engines import Engine
from lib.inference.checkpoints import Checkpoint, trained_with
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.sources import source_of, windows_of
from lib.inference.windows import Source, Windows
from lib.models.inputs import inputs_of
from lib.models.weight_files import load_network
from lib.session import Session
from lib.workspace import Member

Load = Callable[[Checkpoint], nn.Module]


def load_checkpoint(session: Session, checkpoint: Checkpoint) -> nn.Module:
    settings = session.config.competition
    inputs = inputs_of(settings.pixels)
    return load_network(checkpoint.member.path, checkpoint.weights, session.device, settings.channels, inputs)


def trained_windows(session: Session, checkpoint: Checkpoint) -> Windows:
    """The windows that a checkpoint's network sees."""
    return windows_of(trained_with(checkpoint.member, session.config))


def choose_engine(session: Session, checkpoints: list[Checkpoint], load: Load | None = None) -> Engine:
    """The engine that runs these networks: as the options say, or, for `auto`, the fastest one for all of them."""
    load = load or partial(load_checkpoint, session)
    candidates = [
        Candidate(trained_with(checkpoint.member, session.config), partial(load, checkpoint), checkpoint.stamp)
        for checkpoint in checkpoints
    ]
    return infer_engine(candidates, session.config, session.workspace, session.device, session.images)


def candidates_in_memory(members: list[Member], networks: list[nn.Module], config: Config) -> list[Candidate]:
    """Candidates of networks in memory. They have their members' SWA weights, and `config` decides their windows."""
    stamps = [Checkpoint(member, "swa").stamp for member in members]
    return [
        Candidate(config, lambda network=network: network, stamp)
        for network, stamp in zip(networks, stamps, strict=True)
    ]


def scale_groups(
    session: Session, checkpoints: list[Checkpoint], engine: Engine, per_model: bool = False, load: Load | None = None
) -> list[ScaleGroup[Ensemble]]:
    """Load the networks of an ensemble, and group successive ones that see the same windows.

    `per_model`: a group predicts the mean of each model's folds too, before the mean of all its networks.
    """
    load, groups, infer = load or partial(load_checkpoint, session), [], session.config.infer
    for windows, neighbours in groupby(checkpoints, key=partial(trained_windows, session)):
        neighbours = list(neighbours)
        names = [checkpoint.model for checkpoint in neighbours]
        models = [[i for i, name in enumerate(names) if name == model] for model in dict.fromkeys(names)]
        networks = [load(checkpoint) for checkpoint in neighbours]
        for network in networks:
            network.outputs_presence = infer.gated
        means = [*(models if per_model else []), list(range(len(networks)))]
        ensemble = Ensemble(
            networks, session.device, tta=infer.tta, engine=engine, groups=means, presence=infer.gated
        )  # fmt: skip
        groups.append(ScaleGroup(windows, ensemble))
    return groups


@dataclass(frozen=True)
class LoadedEnsemble:
    """An ensemble in memory: its checkpoints, the engine that runs their networks, and the groups of networks."""

    checkpoints: list[Checkpoint]
    engine: Engine
    groups: list[ScaleGroup[Ensemble]]


def load_ensemble(
    session: Session, checkpoints: list[Checkpoint], engine: Engine, per_model: bool = False
) -> LoadedEnsemble:
    """Load an ensemble. `per_model` as in `scale_groups`."""
    return LoadedEnsemble(checkpoints, engine, scale_groups(session, checkpoints, engine, per_model))


def image_sources(session: Session, image_ids: Iterable[str]) -> list[Source]:
    """Images of images.csv as sources for `predict_windows`."""
    paths = session.images.set_index("image_id")["path"]
    return [source_of(session.config, image_id, paths[image_id]) for image_id in image_ids]


def unseen_label(config: Config, images: pd.DataFrame) -> int:
    """The label index of pixels that no network predicts: background, else the training images' most frequent class.

    `images`: rows of images.csv. Where classes overlap, such pixels have no class, whatever the index is.
    """
    if config.competition.background:
        return 0
    rows = images[images["split"] == "train"]
    return int(np.argmax([rows[f"px_{name}"].sum() for name in config.competition.classes]))


def check_gate(checkpoints: list[Checkpoint], config: Config) -> None:
    """Raises UserError where `infer.gate` is set and no member has a classification head."""
    members = [checkpoint.member for checkpoint in checkpoints]
    if config.infer.gated and not any(trained_with(member, config).model.classifier for member in members):
        raise UserError(
            f"infer.gate {config.infer.gate}: no member has a classification head, so none predicts which classes are "
            "present; train some with model.classifier true, or leave infer.gate at 0"
        )


def check_crops(checkpoints: list[Checkpoint], config: Config) -> None:
    """Raises UserError where a network was trained on resized boxes and would predict whole images, or vice versa."""
    boxed = bool(boxes_file(config.infer.roi))
    for checkpoint in checkpoints:
        preprocess = trained_with(checkpoint.member, config).preprocess
        if preprocess.mode == "resize" and bool(boxes_file(preprocess.roi)) != boxed:
            trained = "whole images" if boxed else f"the boxes of {preprocess.roi}"
            raise UserError(
                f"{checkpoint.member.name} was trained on {trained}, and infer.roi is {config.infer.roi}; set it to "
                f"{'content' if boxed else 'a CSV of boxes'}"
            )
