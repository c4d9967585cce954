"""The parts of one member's training: its tiles, its dataset and sampler, its trainer, its pretraining."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import tables
from lib.artifacts.read import fit_state
from lib.config import Config
from lib.config.training import Train
from lib.data.augment import Augmentation, pipeline_file
from lib.data.cutmix import Mixing
from lib.data.dataset import TileDataset, TileFile
from lib.data.sampler import keep_fraction
from lib.data.targets import Targets
from lib.digests import changed_outputs
from lib.errors import UserError
from lib.models.inputs import inputs_of
from lib.models.network import Network, build_network
from lib.models.weight_files import TRAIN_AGAIN, load_weights, write_description
from lib.plugins import find
from lib.tables import foreground_pixels
from lib.training.distributed import SINGLE_PROCESS, ProcessGroup
from lib.training.loader import TrainingData
from lib.training.losses import build_loss
from lib.training.trainer import Trainer
from lib.workspace import ALL_FOLDS, Member, Workspace, read_json, round_experiment


def member_inputs(workspace: Workspace, config: Config) -> list[Path]:
    """The tables and files that a member's training reads, besides the tiles. A change in one trains it again."""
    inputs = [workspace.tiles, workspace.folds]
    if config.train.round:
        inputs.append(workspace.pseudo_dir(config.train.round) / "tiles.csv")
    if config.clean.use:
        inputs.append(workspace.clean_dir / "tiles.csv")
    pipeline = pipeline_file(config.augment)
    return [*inputs, *([] if pipeline is None else [pipeline]), *difficulty_files(workspace, config)]


def check_tables_and_tiles(workspace: Workspace, config: Config) -> None:
    """Raises UserError where tables or tiles are no longer what the stages before wrote: lost, changed or cut off."""
    made_by = {"01_preprocess": "01_preprocess.py"}
    if config.train.round:
        number = config.train.round
        made_by[f"04_pseudo_label_round{number}"] = f"04_pseudo_label.py --train.round {number}"
    if config.clean.use:
        made_by["04_clean"] = "04_pseudo_label.py --clean"
    for stage, command in made_by.items():
        changed = changed_outputs(workspace.root / "manifests" / f"{stage}.json")
        if changed:
            raise UserError(
                f"{changed[0]} is not what {command} wrote: something is lost or changed; run {command} again"
            )


def difficulty_files(workspace: Workspace, config: Config) -> list[Path]:
    """done.json of every fold member of the experiment that `train.sampling.difficulty` names; none without the option.

    Raises UserError where this experiment has no member, or is the one to be trained.
    """
    experiment = config.train.sampling.difficulty
    if not experiment:
        return []
    if experiment == round_experiment(config.train.experiment, config.train.round):
        raise UserError(
            f"train.sampling.difficulty names {experiment!r}, the very experiment to be trained; name one that is "
            "trained already, or another train.experiment"
        )
    files = [member.path / "done.json" for member in workspace.fold_members(experiment)]
    if not files:
        raise UserError(
            f"train.sampling.difficulty: {workspace.runs / experiment} holds no trained member; run 03_train.py "
            f"--train.experiment {experiment} first"
        )
    return files


def image_difficulty(image_ids: pd.Series, files: list[Path]) -> pd.Series:
    """Difficulty of images, 0 to 1: 1 - the mean out-of-fold score over the members that scored the image.

    An image without a score gets the mean difficulty. `files`: from `difficulty_files`. Raises UserError where they
    hold no score of these images.
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


def training_tiles(workspace: Workspace, folds: pd.DataFrame, fold: int, config: Config) -> pd.DataFrame:
    """Tiles that a member of `fold` trains on: those of other folds, external images, and pseudo-labels for this fold.

    A member of `ALL_FOLDS` gets the tiles and pseudo-labels of all folds. A pseudo-labeled tile is then in the table
    several times, and the mean of its labels is that of the ensemble.

    Added columns: `folder` (to which paths are relative), `group`, `pseudo`, `soft` (label), `weight`, `object`, and
    `difficulty` with `train.sampling.difficulty`. Raises UserError where no tile is left.
    """
    tiles = tables.read(workspace.tiles, tables.TILES, "01_preprocess.py")
    fold_of = dict(zip(folds["image_id"], folds["fold"], strict=True))
    unknown = sorted(set(tiles["image_id"]) - set(fold_of))
    if unknown:
        raise UserError(f"{workspace.folds} lacks image {unknown[0]!r} of {workspace.tiles}; run 02_make_folds.py")
    copies = folds.loc[[str(fold) in text.split() for text in folds["kept_from"]], "image_id"]
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
        pseudo = tables.read(folder / "tiles.csv", tables.PSEUDO_TILES, "04_pseudo_label.py")
        # Columns are added after the selection: with no row left, a column of another length would add rows.
        pseudo = pseudo if fold == ALL_FOLDS else pseudo[pseudo["fold"].isin([fold, tables.ANY_FOLD])]
        pseudo = pseudo.assign(
            folder=str(folder), pseudo=True, soft=True, weight=config.pseudo.weight, group=pseudo["image_id"]
        )
        tiles = pd.concat([tiles, _with_object(pseudo, config)], ignore_index=True)
    files = difficulty_files(workspace, config)
    return tiles.assign(difficulty=image_difficulty(tiles["image_id"], files)) if files else tiles


def cleaned(tiles: pd.DataFrame, table: pd.DataFrame, folder: Path, weight: float) -> pd.DataFrame:
    """`tiles` after label cleaning. `table` (CLEAN_TILES) says of each tile: keep, drop, weigh or relabel.

    `folder`: to which the table's paths are relative. `weight`: of tiles to weigh.
    """
    cleaning = tiles[["tile_id"]].merge(table, "left", "tile_id", validate="one_to_one")
    action = cleaning["action"].fillna("keep").to_numpy()
    new_labels = [str(folder.absolute() / path) for path in cleaning["mask_path"].fillna("")]
    relabeled = action == "relabel"
    return tiles.assign(
        mask_path=np.where(relabeled, new_labels, tiles["mask_path"]),
        soft=tiles["soft"].to_numpy() | relabeled,
        weight=np.where(action == "weigh", weight, tiles["weight"]),
    )[action != "drop"]


def _with_object(tiles: pd.DataFrame, config: Config) -> pd.DataFrame:
    pixels = np.array([foreground_pixels(row) for row in tiles.to_dict("records")])
    return tiles.assign(object=pixels >= config.preprocess.min_object_pixels)


def make_data(tiles: pd.DataFrame, config: Config, channels: int, seed: int, workers: int = 0) -> TrainingData:
    """Dataset and sampler of a member. `channels`: outputs of its network.

    Raises UserError where `augment.mix copypaste` cannot work because there is no background.
    """
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
    augmentation = Augmentation(augment, config.train.crop, config.competition.pixels)
    mixing = Mixing(augment.mix, augment.mix_share)
    targets = Targets(channels, config.competition.multilabel)
    dataset = TileDataset(files, targets, augmentation, seed, mixing, config.train.scale)
    build = find("sampler", config.train.sampling.sampler, "train.sampling.sampler")
    sampler = build(tiles, config.train.sampling, config.pseudo.share, seed)
    return TrainingData(dataset, sampler, workers, config.train.batch_size)


def apply_train_options(network: Network, config: Config) -> None:
    """Freeze modules and switch on activation checkpointing, as `train` says."""
    network.freeze(config.train.frozen)
    if config.train.checkpointing:
        network.checkpoint_encoder()


def make_trainer(
    member: Member, config: Config, channels: int, data: TrainingData, processes: ProcessGroup = SINGLE_PROCESS
) -> Trainer:
    """A new trainer. `config` has no `auto` left. The initial weights depend only on the member's seed.

    Raises UserError where there are more processes than samples in a batch.
    """
    processes.check_batch_size(min(data.batch_size, data.sampler.size))
    data.pinned = processes.device.type == "cuda"
    torch.manual_seed(member.seed)
    inputs = inputs_of(config.competition.pixels)
    network = build_network(config.model, channels, multilabel=config.competition.multilabel, inputs=inputs)
    apply_train_options(network, config)
    if processes.is_main:
        write_description(member.path, config, channels)
    loss = build_loss(config.train.loss, channels, processes, config.competition.multilabel)
    return Trainer(config.train, network, loss, data, member, processes)


@dataclass(frozen=True)
class Pretraining:
    """A training on pseudo-labels only, before the training on the true labels."""

    tiles: pd.DataFrame
    share: float
    """Share of the whole training time, 0 to 1."""
    rest: Config
    """Options of the training on the true labels."""

    def run(self, trainer: Trainer, member: Member, channels: int, remaining: int) -> Trainer:
        """Train a network on the pseudo-labels, and give its weights to `trainer`, which trains on the true labels.

        Files are in the member's folder `pretrain`. After an interruption the training continues. `remaining`: members
        to train, this one included. Returns the trainer of the pseudo-labels.
        """
        samples = self.rest.train.sampling.model_copy(update={"samples_per_epoch": trainer.data.sampler.size})
        off = {"swa": self.rest.train.swa.model_copy(update={"start": 1.0}), "ema": 0.0, "checkpoints": 0}
        length = scaled_length(self.rest.train, self.share / (1 - self.share))
        train = trainer.config.model_copy(
            update={**off, **length, "sampling": samples, "soup": False, "evaluations": 0}
        )
        config = self.rest.model_copy(update={"train": train})
        pretrained = replace(member, path=member.path / "pretrain")
        data = make_data(self.tiles, config, channels, member.seed, trainer.data.workers)
        data.batch_size = trainer.data.batch_size
        first = make_trainer(pretrained, config, channels, data, trainer.processes)
        first.run(None, remaining)
        trainer.processes.barrier()
        weights = pretrained.path / "last_weights.pt"
        fit_state(trainer.network, load_weights(weights), weights, TRAIN_AGAIN)
        return first


def pretraining(tiles: pd.DataFrame, config: Config) -> Pretraining | None:
    """The first training of `pseudo.mode pretrain`; None in another mode, or without pseudo-labels."""
    pseudo = tiles[tiles["pseudo"]]
    if config.pseudo.mode != "pretrain" or not config.pseudo.share or pseudo.empty:
        return None
    train = config.train.model_copy(update=scaled_length(config.train, 1 - config.pseudo.share))
    return Pretraining(pseudo.assign(pseudo=False), config.pseudo.share, config.model_copy(update={"train": train}))


def scaled_length(train: Train, share: float) -> dict[str, float]:
    """The options for a training that is `share` times as long."""
    return {"epochs": train.epochs * share, "member_limit": train.member_limit * share}
