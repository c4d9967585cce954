"""Optimizers, and the learning rate as a pure function of the training's progress."""

from __future__ import annotations

import math

import torch
from torch import nn

from lib.config.training import Train
from lib.plugins import find, register


def build_optimizer(config: Train, network: nn.Module) -> torch.optim.Optimizer:
    """Two parameter groups or more: encoder and rest, with and without weight decay (norms, biases)."""
    groups: dict[tuple[float, float], list] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        share = config.encoder_lr if ".encoder." in f".{name}" else 1.0
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((share, decay), []).append(parameter)
    parameters = [
        {"params": group, "lr": config.lr * share, "share": share, "weight_decay": decay}
        for (share, decay), group in groups.items()
    ]
    return find("optimizer", config.optimizer, "train.optimizer")(parameters, config)


@register("optimizer", "adamw")
def adamw(parameters: list, config: Train) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=config.lr)


@register("optimizer", "sgd")
def sgd(parameters: list, config: Train) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=config.lr, momentum=0.9, nesterov=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]


def learning_rate(config: Train, progress: float, epoch_length: float) -> float:
    """Learning rate at `progress` (0 to 1) of the training; `epoch_length` is one epoch's share of it.

    Warm-up, then a cosine; from `swa.start` on what `swa.schedule` says.
    """
    swa = config.swa
    if progress >= swa.start and swa.start < 1 and swa.schedule != "anneal":
        top = config.lr * swa.lr
        if swa.schedule == "constant":
            return top
        cycle = swa.every * epoch_length
        phase = ((progress - swa.start) % cycle) / cycle
        return top * (1 - phase * (1 - config.min_lr))  # a saw-tooth: its minimum is each cycle's end
    if progress < config.warmup:
        return config.lr * (progress + 1e-3) / config.warmup
    # With a constant or cyclic end, the cosine comes down to where that starts.
    end = 1.0 if swa.start >= 1 or swa.schedule == "anneal" else swa.start
    low = config.min_lr if end == 1.0 else swa.lr
    phase = min(1.0, (progress - config.warmup) / max(1e-9, end - config.warmup))
    return config.lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * phase)))
