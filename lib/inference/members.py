"""Out-of-fold counts of an ensemble whose members each know only part of the images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from torch import nn

from lib.competition.dataset import Competition
from lib.config import Config
from lib.config.load import workspace_of
from lib.errors import UserError
from lib.imaging.grid import MAP_SIDE
from lib.inference.backends import Engine, fastest_backend
from lib.inference.evaluate import Evaluation, evaluate
from lib.inference.forward import Ensemble, fastest_precision
from lib.inference.predictor import Limits, Source, Windows, count_windows, first_windows
from lib.inference.together import Group
from lib.inference.tta import views
from lib.workspace import Member, Workspace, file_fingerprint, short_hash

SHOWN = 16  # images of a fold whose maps are kept, to be shown


@dataclass(frozen=True)
class Part:
    """One network of the ensemble: a member with one kind of its weights."""

    member: Member
    weights: str

    @property
    def name(self) -> str:
        return f"{self.member.name} {self.weights}"

    @property
    def system(self) -> str:
        """What is the same over folds: experiment, seed and weights."""
        return f"{self.member.experiment} seed{self.member.seed} {self.weights}"


def parts_of(members: list[Member], weights: list[str]) -> list[Part]:
    """Every member with every kind of weights; `epochs` are all its checkpoints, each a part of its own."""
    parts = []
    for member in members:
        for kind in weights:
            kept = len(list(member.path.glob("checkpoint*_weights.pt"))) if kind == "epochs" else 0
            if kind == "epochs" and not kept:
                raise UserError(f"infer.weights epochs: {member.name} kept no checkpoints; train it with "
                                "train.checkpoints 4, for example")  # fmt: skip
            parts += [Part(member, f"checkpoint{i + 1}") for i in range(kept)] if kept else [Part(member, kind)]
    return parts


def windows_of(config: Config) -> Windows:
    """The inference windows, the same for out-of-fold and test maps."""
    tile = round(config.preprocess.tile_size * config.train.scale)
    if config.preprocess.mode == "resize":
        return Windows(config.infer.window or tile, 0.0, 1.0, "constant", 0.0, config.preprocess.fit)
    size = config.infer.window or config.train.crop or tile
    scale = config.infer.scale or config.preprocess.scale * config.train.scale
    step = 64 if config.model.stem == "down" else 32
    turns = config.infer.tta == "free"
    size = -(-size // step) * step
    return Windows(size, config.infer.overlap, scale, config.infer.blend, config.infer.margin, turns=turns)


def trained_with(member: Member, config: Config) -> Config:
    """`config` with the network, tiles and training that the member was made with: these decide its windows."""
    path = member.path / "resolved.yaml"
    if not path.is_file():
        return config
    made = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config.model_copy(
        update={
            name: type(getattr(config, name)).model_validate(made[name]) for name in ("preprocess", "model", "train")
        }
    )


def groups_of(
    parts: list[Part],
    config: Config,
    load: Callable[[Part], nn.Module],
    device: torch.device,
    engine: Engine,
    each: bool = False,
) -> list[Group]:
    """The networks of an ensemble, neighbours with the same windows together. `each`: as in `Ensemble`."""
    return [
        Group(windows, Ensemble([load(p) for p in own], device, tta=config.infer.tta, engine=engine, each=each))
        for windows, own in groupby(parts, key=lambda part: windows_of(trained_with(part.member, config)))
    ]  # fmt: skip


def roi_file(config: Config) -> list[Path]:
    """The CSV of boxes, where `infer.roi` names one."""
    return [] if config.infer.roi in ("none", "content") else [Path(config.infer.roi)]


def limits_of(config: Config) -> Limits:
    return Limits(config.infer.batch_size, config.infer.max_gib, workspace_of(config))


def source_of(config: Config, image_id: str, path: str) -> Source:
    return Source(image_id, Path(path), config.infer.roi, config.preprocess.blank_tolerance, config.competition.pixels)


def infer_engine(
    config: Config,
    workspace: Workspace,
    network: nn.Module,
    device: torch.device,
    images: pd.DataFrame,
    networks: int = 1,
) -> Engine:
    """`infer.precision` and `infer.backend`; what is `auto` is measured once per workspace, network and device.

    `images`: rows of images.csv that `networks` networks will predict, of which the first gives windows to try.
    """
    windows, batch = windows_of(config), config.infer.batch_size
    about = f"{config.model.architecture} {config.model.encoder} {windows.size} {device.type}"
    about += f" {short_hash(config.model.model_dump())}"

    def chosen(option: str, value: str, key: str, measure: Callable[[], str]) -> str:
        if value != "auto":
            return value
        if workspace.choice(f"{option} {key}") is None:
            workspace.choose(f"{option} {key}", measure())
        return str(workspace.choice(f"{option} {key}"))

    precision = chosen(
        "infer.precision",
        config.infer.precision,
        about,
        lambda: fastest_precision(network, device, windows.size, batch),
    )

    def fastest() -> str:
        sources = [source_of(config, image.image_id, image.path) for image in images.itertuples()]
        count = sum(count_windows(image.height, image.width, windows) for image in images.itertuples())
        batches = -(-count * len(views(config.infer.tta)) // batch)
        return fastest_backend(network, device, precision, first_windows(sources, windows, batch), batches, networks)

    return Engine(precision, chosen("infer.backend", config.infer.backend, f"{about} {precision}", fastest))


def check_same_systems(parts: list[Part]) -> list[str]:
    """Names of the systems; every fold must have all of them, or averages would mean different things."""
    folds = sorted({part.member.fold for part in parts})
    names = list(dict.fromkeys(part.system for part in parts))
    for name in names:
        here = sorted(part.member.fold for part in parts if part.system == name)
        if here != folds:
            raise UserError(
                f"the ensemble is incomplete: {name} has folds {here}, others {folds}; train the missing members, "
                "or choose with infer.experiments"
            )
    return names


def out_of_fold(
    parts: list[Part],
    folds: pd.DataFrame,
    images: pd.DataFrame,
    config: Config,
    competition: Competition,
    workspace: Workspace,
    load: Callable[[Part], nn.Module],
    device: torch.device,
    engine: Engine,
) -> tuple[Evaluation, np.ndarray]:
    """Counts of all systems and, last, their ensemble; and each image's fold.

    Images of a fold meet only that fold's members. Cached by what they are made from.
    """
    evaluations, fold_of = [], []
    paths = images.set_index("image_id")["path"]
    for fold in sorted({part.member.fold for part in parts}):
        here = [part for part in parts if part.member.fold == fold]
        ids = list(folds.loc[folds["fold"] == fold, "image_id"])
        fold_of += [fold] * len(ids)
        made_from = [
            [file_fingerprint(part.member.path / "done.json") for part in here],
            [part.weights for part in here],
            ids,
            [repr(windows_of(trained_with(part.member, config))) for part in here],
            [config.preprocess.blank_tolerance, *(file_fingerprint(path) for path in roi_file(config))],
            [config.infer.roi, config.infer.tta, config.infer.gate, repr(engine), file_fingerprint(workspace.images)],
            [SHOWN, MAP_SIDE],
        ]
        cache = workspace.oof_dir / f"{short_hash(made_from)}.npz"
        if not cache.is_file():
            result = evaluate(
                [source_of(config, i, paths[i]) for i in ids],
                groups_of(here, config, load, device, engine, each=True),
                competition.labels.open,
                len(competition.label_names),
                competition.channels,
                limits_of(config),
                description=f"05 out-of-fold, fold {fold}",
                keep=SHOWN,
            )
            result.save(cache)
        evaluations.append(Evaluation.load(cache))
    return Evaluation.concat(evaluations), np.array(fold_of)
