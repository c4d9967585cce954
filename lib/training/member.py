"""One member's parts, put together: its tiles, its data, its precision, its trainer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import tables
from lib.config import Config
from lib.data.augment import Augmentation, pipeline_file
from lib.data.dataset import TileDataset, TileFile, keep_fraction
from lib.data.tiling import foreground_pixels
from lib.errors import UserError
from lib.plugins import find
from lib.precision import autocast, fastest
from lib.training.checkpoint import write_description
from lib.training.loop import Data, Trainer
from lib.training.losses import build_loss
from lib.training.model import Network, build_network
from lib.workspace import Member, Workspace, read_json, round_experiment


def member_inputs(workspace: Workspace, config: Config) -> list[Path]:
    """The files that a member's training reads, tiles aside: a change of any of them trains it again."""
    inputs = [workspace.tiles, workspace.folds]
    if config.train.round:
        inputs.append(workspace.pseudo_dir(config.train.round) / "tiles.csv")
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
    """Tiles that a member of `fold` trains on: other folds' images, and pseudo-labels meant for it.

    Adds columns `folder` (where paths start), `group`, `pseudo` and `object`, and, where that is asked for,
    `difficulty`. Raises UserError when none is left.
    """
    tiles = tables.read(workspace.tiles, tables.TILES, "01_preprocess.py")
    fold_of = dict(zip(folds["image_id"], folds["fold"], strict=True))
    unknown = sorted(set(tiles["image_id"]) - set(fold_of))
    if unknown:
        raise UserError(f"{workspace.folds} lacks image {unknown[0]!r} of {workspace.tiles}; run 02_make_folds.py")
    tiles = tiles[tiles["image_id"].map(fold_of) != fold]
    if tiles.empty:
        raise UserError(
            f"no tile is left to train fold {fold} on; lower preprocess.background_keep's effect or folds.k"
        )
    tiles = _with_object(tiles, config)
    tiles = keep_fraction(tiles, config.train.sampling.fraction, config.folds.seed)
    group_of = dict(zip(folds["image_id"], folds["group"], strict=True))
    tiles = tiles.assign(folder=str(workspace.root), pseudo=False, group=tiles["image_id"].map(group_of))
    if config.train.round:
        folder = workspace.pseudo_dir(config.train.round)
        extra = tables.read(folder / "tiles.csv", tables.PSEUDO_TILES, "04_pseudo_label.py")
        extra = extra[extra["fold"].isin([fold, -1])].assign(folder=str(folder), pseudo=True, group=extra["image_id"])
        tiles = pd.concat([tiles, _with_object(extra, config)], ignore_index=True)
    files = score_files(workspace, config)
    return tiles.assign(difficulty=difficulty(tiles["image_id"], files)) if files else tiles


def _with_object(tiles: pd.DataFrame, config: Config) -> pd.DataFrame:
    pixels = np.array([foreground_pixels(row) for row in tiles.to_dict("records")])
    return tiles.assign(object=pixels >= config.preprocess.min_object_pixels)


def make_data(tiles: pd.DataFrame, config: Config, channels: int, seed: int) -> Data:
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
            bool(row["pseudo"]),
            config.pseudo.weight if row["pseudo"] else 1.0,
        )
        for row in tiles.to_dict("records")
    ]
    augment = config.augment
    augmentation = Augmentation(augment, config.train.crop)
    dataset = TileDataset(files, channels, augmentation, seed, augment.mix, augment.mix_share, config.train.scale)
    build = find("sampler", config.train.sampling.sampler, "train.sampling.sampler")
    sampler = build(tiles, config.train.sampling, config.pseudo.share, seed)
    return Data(dataset, sampler, config.train.workers, config.train.batch_size)


def measure_precision(workspace: Workspace, config: Config, channels: int, data: Data, device: torch.device) -> str:
    """`train.precision`, with `auto` measured once per workspace, network and device."""
    if config.train.precision != "auto":
        return config.train.precision
    key = f"train.precision {config.model.architecture} {config.model.encoder} {device.type}"
    known = workspace.choice(key)
    if known:
        return str(known)
    keys = data.sampler.keys(0)[: data.batch_size or 8]
    items = [data.dataset[k] for k in keys]
    batch = [torch.stack([torch.as_tensor(item[i]) for item in items]).to(device) for i in range(4)]
    loss_of = build_loss(config.train.loss, channels)

    def one_step(precision: str) -> float:
        with autocast(device, precision):
            outputs = network(batch[0].contiguous(memory_format=torch.channels_last))
        loss = loss_of(outputs, *batch[1:])
        network.zero_grad()
        loss.backward()
        return float(loss.detach())

    network = build_network(config.model, channels).to(device, memory_format=torch.channels_last).train()
    prepare(network, config)
    choice = fastest(device, one_step, lambda loss, exact: abs(loss - exact) <= 0.05 * abs(exact) + 1e-6)
    workspace.choose(key, choice)
    return choice


def measure_batch_size(
    workspace: Workspace, config: Config, channels: int, data: Data, precision: str, device: torch.device
) -> int:
    """`train.batch_size`, with 0 measured once per workspace, network, size and device: the largest that fits.

    Sizes are doubled until the device's memory is not enough or, on a CPU, a sample takes longer than in a smaller
    batch.
    """
    if config.train.batch_size:
        return config.train.batch_size
    image, target, valid, _ = data.dataset[data.sampler.keys(0)[0]]
    key = f"train.batch_size {config.model.architecture} {config.model.encoder} {image.shape[-1]} {precision} {device}"
    if workspace.choice(key) is None:
        network = build_network(config.model, channels, pretrained=False)
        prepare(network, config)
        network.to(device, memory_format=torch.channels_last).train()
        loss_of = build_loss(config.train.loss, channels)

        def step(size: int) -> None:
            images, targets, known = (
                torch.as_tensor(part).expand(size, *part.shape).to(device) for part in (image, target, valid)
            )
            with autocast(device, precision):
                outputs = network(images.contiguous(memory_format=torch.channels_last))
            loss_of(outputs, targets, known, torch.ones(size, device=device)).backward()
            network.zero_grad()

        workspace.choose(key, largest_batch(step, device, data.sampler.size))
    return int(workspace.choice(key))


def largest_batch(step: Callable[[int], None], device: torch.device, most: int) -> int:
    """The largest power of two, at most `most`, that `step(size)` can be called with; see `measure_batch_size`."""
    best, fastest_sample = 1, float("inf")
    for size in (2**i for i in range(1, 11)):
        if size > most:
            break
        try:
            step(size)
            started = time.perf_counter()
            step(size)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return max(1, best // 2)  # room for what the trial does not hold: averages, fragments
        each = (time.perf_counter() - started) / size
        if device.type == "cpu" and each > fastest_sample:
            break
        best, fastest_sample = size, min(each, fastest_sample)
    return best


def prepare(network: Network, config: Config) -> None:
    """What `train` asks of a network before it is trained."""
    network.freeze(config.train.frozen)
    if config.train.checkpointing:
        network.checkpoint_encoder()


def make_trainer(
    member: Member, config: Config, channels: int, data: Data, precision: str, device: torch.device
) -> Trainer:
    """A fresh trainer of a member; the network's first weights depend on the seed alone."""
    torch.manual_seed(member.seed)
    network = build_network(config.model, channels)
    prepare(network, config)
    write_description(member.path, config, channels)
    loss = build_loss(config.train.loss, channels)
    return Trainer(config.train, network, loss, data, member.path, seed=member.seed, precision=precision, device=device)
