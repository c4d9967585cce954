"""One member's parts, put together: its tiles, its data, its precision, its trainer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import tables
from lib.config import Config
from lib.config.training import Train
from lib.data.augment import Augmentation, pipeline_file
from lib.data.cutmix import Mixing
from lib.data.dataset import TileDataset, TileFile
from lib.data.sampler import keep_fraction
from lib.errors import UserError
from lib.models.network import Network, build_network
from lib.models.weight_files import load_weights, write_description
from lib.plugins import find
from lib.tables import foreground_pixels
from lib.training.distributed import SINGLE_PROCESS, ProcessGroup
from lib.training.loader import Data
from lib.training.losses import build_loss
from lib.training.trainer import Trainer
from lib.workspace import ALL_FOLDS, Member, Workspace, read_json, round_experiment


def member_inputs(workspace: Workspace, config: Config) -> list[Path]:
    """The files that a member's training reads, tiles aside: a change of any of them trains it again."""
    inputs = [workspace.tiles, workspace.folds]
    if config.train.round:
        inputs.append(workspace.pseudo_dir(config.train.round) / "tiles.csv")
    if config.clean.use:
        inputs.append(workspace.clean_dir / "tiles.csv")
    pipeline = pipeline_file(config.augment)
    return [*inputs, *([] if pipeline is None else [pipeline]), *score_files(workspace, config)]


def score_files(workspace: Workspace, config: Config) -> list[Path]:
    """done.json of every member of the experiment that `train.sampling.difficulty` names.

    Raises UserError when that has none, or is the experiment that is about to be trained.
    """
    experiment = config.train.sampling.difficulty
    if not experiment:
        return []
    if experiment == round_experiment(config.train.experiment, config.train.round):
        raise UserError(
            f"train.sampling.difficulty names {experiment!r}, the very experiment to be trained; name one that is "
            "trained already, or another train.experiment"
        )
    files = sorted(workspace.runs.glob(f"{experiment}/fold*_seed*/done.json"))
    if not files:
        raise UserError(
            f"train.sampling.difficulty: {workspace.runs / experiment} holds no trained member; run 03_train.py "
            f"--train.experiment {experiment} first"
        )
    return files


def difficulty(image_ids: pd.Series, files: list[Path]) -> pd.Series:
    """1 - an image's out-of-fold score, mean over the members that scored it, 0 to 1; the mean where none did.

    `files`: as `score_files` gives them. Raises UserError where they hold no score of these images.
    """
    scores: dict[str, list[float]] = {}
    for file in files:
        for image_id, score in read_json(file, {}).get("images", {}).items():
            scores.setdefault(image_id, []).append(score)
    images = pd.Series(image_ids.unique())
    known = images.map({image_id: np.clip(1 - np.mean(several), 0, 1) for image_id, several in scores.items()})
    if known.isna().all():
        raise UserError(
            f"{files[0].parent.parent} holds no score of an image that is trained on here; run 03_train.py again for "
            f"all folds of that experiment (--train.experiment {files[0].parent.parent.name})"
        )
    return image_ids.map(dict(zip(images, known.fillna(known.mean()), strict=True)))


def training_tiles(workspace: Workspace, folds: pd.DataFrame, fold: int, config: Config, competition) -> pd.DataFrame:
    """Tiles that a member of `fold` trains on: other folds' and external images, and pseudo-labels meant for it. One of
    `ALL_FOLDS` takes every fold's: of a tile so many labels, whose mean is the ensemble's.

    Adds columns `folder` (where paths start), `group`, `pseudo`, `soft` (label), `weight` and `object`, and, where
    that is asked for, `difficulty`. Raises UserError when none is left.
    """
    tiles = tables.read(workspace.tiles, tables.TILES, "01_preprocess.py")
    fold_of = dict(zip(folds["image_id"], folds["fold"], strict=True))
    unknown = sorted(set(tiles["image_id"]) - set(fold_of))
    if unknown:
        raise UserError(f"{workspace.folds} lacks image {unknown[0]!r} of {workspace.tiles}; run 02_make_folds.py")
    copies = folds.loc[[str(fold) in kept.split() for kept in folds["kept_from"]], "image_id"]
    if fold != ALL_FOLDS:
        tiles = tiles[(tiles["image_id"].map(fold_of) != fold) & ~tiles["image_id"].isin(copies)]
    if tiles.empty:
        raise UserError(
            f"no tile is left to train fold {fold} on: the other folds' images hold no object, and their background "
            "was dropped; raise preprocess.background_keep to 1, or choose other folds (folds.k, folds.group_column)"
        )
    tiles = _with_object(tiles, config)
    tiles = keep_fraction(tiles, config.train.sampling.fraction, config.folds.seed)
    group_of = dict(zip(folds["image_id"], folds["group"], strict=True))
    weights = {source.name: source.weight for source in config.competition.external}
    tiles = tiles.assign(
        folder=str(workspace.root), pseudo=False, soft=False,
        weight=tiles["source"].map(weights).fillna(1.0), group=tiles["image_id"].map(group_of),
    )  # fmt: skip
    if config.clean.use:
        table = tables.read(workspace.clean_dir / "tiles.csv", tables.CLEAN_TILES, "04_pseudo_label.py --clean")
        tiles = cleaned(tiles, table, workspace.clean_dir, config.clean.weight)
        if tiles.empty:
            raise UserError(
                f"{workspace.clean_dir / 'tiles.csv'} drops every tile that fold {fold} trains on; lower "
                "clean.drop_below, or train better members, and run 04_pseudo_label.py --clean again"
            )
    if config.train.round:
        folder = workspace.pseudo_dir(config.train.round)
        extra = tables.read(folder / "tiles.csv", tables.PSEUDO_TILES, "04_pseudo_label.py")
        # None perhaps: then another table's column would add its rows.
        extra = extra if fold == ALL_FOLDS else extra[extra["fold"].isin([fold, tables.ANY_FOLD])]
        extra = extra.assign(
            folder=str(folder), pseudo=True, soft=True, weight=config.pseudo.weight, group=extra["image_id"]
        )
        tiles = pd.concat([tiles, _with_object(extra, config)], ignore_index=True)
    files = score_files(workspace, config)
    return tiles.assign(difficulty=difficulty(tiles["image_id"], files)) if files else tiles


def cleaned(tiles: pd.DataFrame, table: pd.DataFrame, folder: Path, weight: float) -> pd.DataFrame:
    """`tiles` without those that `table` (CLEAN_TILES) drops, and with the bad ones' label or weight changed."""
    about = tiles[["tile_id"]].merge(table, "left", "tile_id", validate="one_to_one")
    action = about["action"].fillna("keep").to_numpy()
    mended = [str(folder.absolute() / path) for path in about["mask_path"].fillna("")]
    relabeled = action == "relabel"
    return tiles.assign(
        mask_path=np.where(relabeled, mended, tiles["mask_path"]),
        soft=tiles["soft"].to_numpy() | relabeled,
        weight=np.where(action == "weigh", weight, tiles["weight"]),
    )[action != "drop"]


def _with_object(tiles: pd.DataFrame, config: Config) -> pd.DataFrame:
    pixels = np.array([foreground_pixels(row) for row in tiles.to_dict("records")])
    return tiles.assign(object=pixels >= config.preprocess.min_object_pixels)


def make_data(tiles: pd.DataFrame, config: Config, channels: int, seed: int, workers: int = 0) -> Data:
    """Dataset and sampler of a member. Raises UserError where objects are to be pasted and every pixel is one."""
    if config.augment.mix == "copypaste" and not config.competition.background:
        raise UserError(
            "augment.mix is copypaste, which pastes objects onto background, but with competition.background false "
            "every pixel belongs to a class; set augment.mix to cutmix or none"
        )
    files = [
        TileFile(
            Path(row["folder"]) / row["image_path"],
            Path(row["folder"]) / row["mask_path"],
            bool(row["soft"]),
            float(row["weight"]),
        )
        for row in tiles.to_dict("records")
    ]
    augment = config.augment
    augmentation = Augmentation(augment, config.train.crop)
    mixing = Mixing(augment.mix, augment.mix_share)
    dataset = TileDataset(files, channels, augmentation, seed, mixing, config.train.scale)
    build = find("sampler", config.train.sampling.sampler, "train.sampling.sampler")
    sampler = build(tiles, config.train.sampling, config.pseudo.share, seed)
    return Data(dataset, sampler, workers, config.train.batch_size)


def prepare(network: Network, config: Config) -> None:
    """What `train` asks of a network before it is trained."""
    network.freeze(config.train.frozen)
    if config.train.checkpointing:
        network.checkpoint_encoder()


def make_trainer(
    member: Member, config: Config, channels: int, data: Data, processes: ProcessGroup = SINGLE_PROCESS
) -> Trainer:
    """A fresh trainer of a member with a settled `config`; the network's first weights depend on the seed alone.

    Raises UserError where the processes cannot get equally many samples of a batch.
    """
    processes.check_batch_size(min(data.batch_size, data.sampler.size))
    data.pinned = processes.device.type == "cuda"
    torch.manual_seed(member.seed)
    network = build_network(config.model, channels)
    prepare(network, config)
    if processes.is_main:
        write_description(member.path, config, channels)
    loss = build_loss(config.train.loss, channels, processes)
    return Trainer(config.train, network, loss, data, member, processes)


@dataclass(frozen=True)
class Pretraining:
    """A training on pseudo-labels alone, before that on the true labels. `rest`: the configuration of the latter."""

    tiles: pd.DataFrame
    share: float
    rest: Config

    def run(self, trainer: Trainer, member: Member, channels: int, left: int) -> Trainer:
        """Train a network on the pseudo-labels, and start `trainer` (of the true labels) from its weights.

        Goes on from where it was killed; its files stand in the member's folder `pretrain`.
        """
        samples = self.rest.train.sampling.model_copy(update={"samples_per_epoch": trainer.data.sampler.size})
        off = {"swa": self.rest.train.swa.model_copy(update={"start": 1.0}), "ema": 0.0, "checkpoints": 0}
        time = share_of(self.rest.train, self.share / (1 - self.share))
        train = trainer.config.model_copy(update={**off, **time, "sampling": samples, "soup": False, "evaluations": 0})
        config = self.rest.model_copy(update={"train": train})
        own = replace(member, path=member.path / "pretrain")
        data = make_data(self.tiles, config, channels, member.seed, trainer.data.workers)
        data.batch_size = trainer.data.batch_size
        first = make_trainer(own, config, channels, data, trainer.processes)
        first.run(None, left)
        trainer.processes.barrier()
        trainer.network.load_state_dict(load_weights(own.path / "last_weights.pt"))
        return first


def pretraining(tiles: pd.DataFrame, config: Config) -> Pretraining | None:
    """What `pseudo.mode pretrain` trains first; None in another mode, or where there are no pseudo-labels."""
    pseudo = tiles[tiles["pseudo"]]
    if config.pseudo.mode != "pretrain" or not config.pseudo.share or pseudo.empty:
        return None
    train = config.train.model_copy(update=share_of(config.train, 1 - config.pseudo.share))
    return Pretraining(pseudo.assign(pseudo=False), config.pseudo.share, config.model_copy(update={"train": train}))


def share_of(train: Train, share: float) -> dict[str, float]:
    """The length of a training that is `share` times as long."""
    return {"epochs": train.epochs * share, "member_limit": train.member_limit * share}
