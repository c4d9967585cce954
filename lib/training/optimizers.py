"""Optimizers, and learning-rate schedules as pure functions of the training's progress."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import torch
from torch import nn

from lib.config.training import Train
from lib.plugins import find, register


def build_optimizer(config: Train, network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of `train.optimizer`. Encoder stages may have lower learning rates (`train.encoder_lr`,
    `train.layer_decay`). Norms and biases have no weight decay."""
    groups: dict[tuple[float, float], list] = {}
    stages = encoder_stages(name for name, _ in network.named_parameters())
    depth = len(set(stages.values()))
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        share = 1.0
        if name in stages:
            share = config.encoder_lr * config.layer_decay ** (depth - 1 - stages[name])
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((share, decay), []).append(parameter)
    parameters = [
        {"params": group, "lr": config.lr * share, "share": share, "weight_decay": decay}
        for (share, decay), group in groups.items()
    ]
    return find("optimizer", config.optimizer, "train.optimizer")(parameters, config)


def encoder_stages(parameters: Iterable[str]) -> dict[str, int]:
    """Parameter of the encoder → number of its stage; 0 is the stage next to the image.

    >>> encoder_stages(["body.encoder.model.conv_stem.weight", "body.encoder.model.blocks.0.0.conv.weight",
    ...                 "body.encoder.model.blocks.1.0.conv.weight", "body.decoder.conv.weight"]).values()
    dict_values([0, 1, 2])

    A parameter of the encoder itself, such as a ViT's position table, belongs to stage 0.

    >>> encoder_stages(["encoder.model.pos_embed", "encoder.model.patch_embed.proj.weight"]).values()
    dict_values([0, 0])
    """
    order: dict[str, int] = {}
    stages = {}
    for name in parameters:
        _, found, inside = f".{name}".partition(".encoder.")
        if found:
            stage = re.match(r"\w+?(?:\.\d+|(?=\.))", inside.removeprefix("model."))
            stages[name] = order.setdefault(stage[0], len(order)) if stage else 0
    return stages


@register("optimizer", "adamw")
def adamw(parameters: list, config: Train) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=config.lr)


@register("optimizer", "sgd")
def sgd(parameters: list, config: Train) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=config.lr, momentum=0.9, nesterov=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate; each parameter group gets its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]


def learning_rate(config: Train, progress: float, epoch_length: float, plateaus: int = 0) -> float:
    """Learning rate at `progress` (0 to 1) of the training. `epoch_length`: one epoch as a share of the training.

    First warm-up, then `train.schedule`, then `swa.schedule` from `swa.start` on. `plateaus`: number of evaluations
    without a better score.

    >>> learning_rate(Train(lr=0.1, warmup=0.0, schedule="constant"), progress=0.5, epoch_length=0.01)
    0.1
    """
    swa = config.swa
    if progress >= swa.start and swa.start < 1 and swa.schedule != "anneal":
        top = config.lr * swa.lr
        if swa.schedule == "constant":
            return top
        cycle = swa.every * epoch_length
        phase = ((progress - swa.start) % cycle) / cycle
        return top * (1 - phase * (1 - config.min_lr))  # a saw-tooth with its minimum at the end of each cycle
    # Where SWA has a constant or cyclic rate, the schedule ends at its start.
    end = 1.0 if swa.start >= 1 or swa.schedule == "anneal" else swa.start
    low = config.min_lr if end == 1.0 else swa.lr
    phase = min(1.0, max(0.0, progress - config.warmup) / max(1e-9, end - config.warmup))
    level = find("schedule", config.schedule, "train.schedule")(phase, plateaus)
    rising = min(1.0, (progress + 1e-3) / config.warmup) if config.warmup and progress < config.warmup else 1.0
    return config.lr * rising * (low + (1 - low) * level)


# A schedule is `level(phase, plateaus)`, from 1 (highest rate) to 0 (lowest). `phase`: 0 after warm-up, 1 at the end.


@register("schedule", "cosine")
def cosine(phase: float, plateaus: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * phase))


@register("schedule", "restarts")
def restarts(phase: float, plateaus: int) -> float:
    """Three cosines, one after another (SGDR, Loshchilov and Hutter 2017, arXiv:1608.03983)."""
    return cosine((3 * phase) % 1 if phase < 1 else 1.0, plateaus)


@register("schedule", "onecycle")
def onecycle(phase: float, plateaus: int) -> float:
    """A rise over the first 30 %, then a fall, both by a cosine (Smith and Topin 2018, arXiv:1708.07120)."""
    return cosine(1 - phase / 0.3 if phase < 0.3 else (phase - 0.3) / 0.7, plateaus)


@register("schedule", "poly")
def poly(phase: float, plateaus: int) -> float:
    """(1 - phase)^0.9, as in DeepLab (Chen et al. 2017, arXiv:1606.00915)."""
    return (1 - phase) ** 0.9


@register("schedule", "constant")
def constant(phase: float, plateaus: int) -> float:
    return 1.0


@register("schedule", "plateau")
def plateau(phase: float, plateaus: int) -> float:
    return 0.5**plateaus
