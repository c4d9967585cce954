"""The networks of an ensemble: which they are, the windows that each sees, and how they become groups that predict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from torch import nn

from lib import tables
from lib.competition.dataset import Competition
from lib.config import Config
from lib.config.load import workspace_of
from lib.data.folds import ONE_GROUP
from lib.errors import UserError
from lib.imaging.roi import boxes_file
from lib.inference.backends.choose import Candidate, infer_engine
from lib.inference.backends.engines import Engine
from lib.inference.multi_scale import Group
from lib.inference.networks import Ensemble
from lib.inference.sliding_window import Source, Windows
from lib.inference.sources import source_of, windows_of
from lib.models.weight_files import load_network
from lib.plugins import load_plugins
from lib.system.device import pick_device
from lib.training.rounds import chosen_experiment
from lib.workspace import Member, Workspace, file_fingerprint


@dataclass(frozen=True)
class Part:
    """One network of the ensemble: a member with one kind of its weights."""

    member: Member
    weights: str

    @property
    def name(self) -> str:
        return f"{self.member.name} {self.weights}"

    @property
    def stamp(self) -> str:
        """Changes when the network does."""
        return f"{self.name} {file_fingerprint(self.member.trained)}"

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
                raise UserError(f"infer.checkpoints epochs: {member.name} kept no checkpoints; train it with "
                                "train.checkpoints 4, for example")  # fmt: skip
            parts += [Part(member, f"checkpoint{i + 1}") for i in range(kept)] if kept else [Part(member, kind)]
    return parts


def loaded(members: list[Member], nets: list[nn.Module], config: Config) -> list[Candidate]:
    """Networks of some members, with the weights of SWA, that are in memory and see `config`'s windows."""
    stamps = [Part(member, "swa").stamp for member in members]
    return [Candidate(config, lambda net=net: net, stamp) for net, stamp in zip(nets, stamps, strict=True)]


@dataclass(frozen=True)
class Session:
    """Everything a prediction needs: options, competition, workspace and its tables.

    `images`, `folds`: rows of images.csv and folds.csv.
    """

    config: Config
    competition: Competition
    workspace: Workspace
    device: torch.device
    images: pd.DataFrame
    folds: pd.DataFrame

    @classmethod
    def open(cls, config: Config) -> Session:
        """Loads the plugins. Raises UserError where 01 or 02 did not run yet."""
        load_plugins(config.plugins)
        workspace = Workspace(workspace_of(config))
        images = tables.read(workspace.images, tables.IMAGES, "01_preprocess.py")
        return cls(
            config, Competition(config.competition), workspace, pick_device(config.train.device, config.train.threads),
            images, tables.read_folds(workspace.folds, images),
        )  # fmt: skip

    def with_infer(self, **options: object) -> Session:
        """The same with other options of `infer`."""
        infer = self.config.infer.model_copy(update=options)
        return replace(self, config=self.config.model_copy(update={"infer": infer}))

    def load(self, part: Part) -> nn.Module:
        return load_network(part.member.path, part.weights, self.device)

    def windows(self, part: Part) -> Windows:
        """Those that a part sees."""
        return windows_of(trained_with(part.member, self.config))

    def engine(self, parts: list[Part]) -> Engine:
        """What runs the networks of some parts: as options say, or as measured with all of them."""
        candidates = [
            Candidate(trained_with(part.member, self.config), partial(self.load, part), part.stamp) for part in parts
        ]
        return infer_engine(candidates, self.config, self.workspace, self.device, self.images)

    @property
    def unseen(self) -> int:
        """Label index of what no network saw."""
        return unseen_label(self.config, self.images)

    def sources(self, image_ids: Iterable[str]) -> list[Source]:
        """Images of images.csv, to be predicted."""
        paths = self.images.set_index("image_id")["path"]
        return [source_of(self.config, image_id, paths[image_id]) for image_id in image_ids]


def unseen_label(config: Config, images: pd.DataFrame) -> int:
    """Label index of what no network saw: background, or, where there is none, the most frequent class of training.
    `images`: rows of images.csv."""
    if config.competition.background:
        return 0
    rows = images[images["split"] == "train"]
    return int(np.argmax([rows[f"px_{name}"].sum() for name in config.competition.classes]))


def chosen_parts(session: Session) -> tuple[list[Part], list[Part]]:
    """(parts that are judged on out-of-fold maps, parts that predict test images).

    The same ones, but with `infer.folds all`: then members of all images predict, and the folds' members that differ
    from them in nothing else are judged in their place; nobody is where folds.csv validates no image. Raises UserError
    when there are none.
    """
    config, workspace = session.config, session.workspace
    experiments = config.infer.experiments or [chosen_experiment(config, workspace)]
    if (session.folds["fold"] < 0).all():
        if config.infer.folds != "all":
            raise UserError(f"{workspace.folds} has no fold to validate on: {ONE_GROUP}")
        return [], parts_of(workspace.members(experiments, of_all=True), config.infer.checkpoints)
    parts = parts_of(workspace.members(experiments), config.infer.checkpoints)
    if config.infer.folds == "each":
        return parts, parts
    final = parts_of(workspace.members(experiments, of_all=True), config.infer.checkpoints)
    judged = {part.system for part in parts}
    like = [part for part in final if part.system in judged]
    if not like:
        raise UserError(
            f"infer.folds all: {final[0].name} predicts test images, and no fold has a member like it from which "
            f"decision and score could come; train at least one fold's with train.seeds {final[0].member.seed} too"
        )
    for part in final:
        if part not in like:
            print(f"05: {part.name} is left out: no fold has a member like it, from which its score could come")
    return [part for part in parts if part.system in {part.system for part in like}], like


def named_parts(names: list[str], workspace: Workspace) -> list[Part]:
    """The parts whose names these are. Raises UserError when a member is gone."""
    parts = []
    for name in names:
        member, weights = name.rsplit(" ", 1)
        experiment, _, rest = member.rpartition("/")
        found = [m for m in workspace.members([experiment], rest.startswith("all_")) if m.name == member]
        if not found:
            raise UserError(f"{workspace.runs / experiment} no longer holds {rest}; train it, then run 05 again")
        parts.append(Part(found[0], weights))
    return parts


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


def groups_of(parts: list[Part], session: Session, engine: Engine, each: bool = False) -> list[Group]:
    """The networks of an ensemble, neighbours with the same windows together.

    `each`: every system (experiment, seed and weights, the mean of its folds) is one of `Ensemble`'s too.
    """
    groups, infer = [], session.config.infer
    for windows, own in groupby(parts, key=session.windows):
        own = list(own)
        names = [part.system for part in own]
        systems = [[i for i, name in enumerate(names) if name == wanted] for wanted in dict.fromkeys(names)]
        kept = [*(systems if each else []), list(range(len(own)))]
        networks = [session.load(part) for part in own]
        for network in networks:
            network.tells_presence = infer.gated
        options = {"tta": infer.tta, "engine": engine, "presence": infer.gated}
        groups.append(Group(windows, Ensemble(networks, session.device, groups=kept, **options)))
    return groups


def roi_file(config: Config) -> list[Path]:
    """The CSV of boxes, where `infer.roi` names one."""
    return boxes_file(config.infer.roi)


def check_gate(parts: list[Part], config: Config) -> None:
    """Raises UserError when `infer.gate` asks for what no member's network tells."""
    if config.infer.gated and not any(trained_with(part.member, config).model.classifier for part in parts):
        raise UserError(
            f"infer.gate {config.infer.gate}: no member has a classification head, so none tells which classes are "
            "present; train some with model.classifier true, or leave infer.gate at 0"
        )


def check_crops(parts: list[Part], config: Config) -> None:
    """Raises UserError when a network that learned from boxes shrunk whole would see whole images, or the other way."""
    boxed = bool(roi_file(config))
    for part in parts:
        made = trained_with(part.member, config).preprocess
        if made.mode == "resize" and bool(boxes_file(made.roi)) != boxed:
            learned = "whole images" if boxed else f"the boxes of {made.roi}"
            raise UserError(
                f"{part.member.name} learned from {learned}, and infer.roi is {config.infer.roi}; give it "
                + ("content" if boxed else "a CSV of boxes")
            )


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
