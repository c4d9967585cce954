"""Losses on the mask. Each takes logits and soft targets, so that smoothing and soft labels need no twin.

    loss(logits (B, K, H, W), target (B, K, H, W) in 0..1, valid (B, 1, H, W) in {0, 1}, weight (B,)) -> scalar

K = 1 is one class under a sigmoid; otherwise the channels are exclusive, under a softmax. `valid` is 0 on
ignored pixels. `weight` weighs whole samples (pseudo-labels).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from lib.config.training import Loss
from lib.errors import UserError
from lib.plugins import find, register


def build_loss(config: Loss, channels: int) -> Callable:
    """The weighted sum of `train.loss.terms`, with label smoothing. Computed in float32."""
    terms = [(find("loss", name, "train.loss.terms"), w) for name, w in config.terms.items() if w > 0]
    class_weights = torch.tensor(config.class_weights) if config.class_weights else None
    if class_weights is not None and len(class_weights) != max(2, channels):
        raise UserError(
            f"train.loss.class_weights has {len(class_weights)} weights, expected {max(2, channels)}: one per class, "
            "background first when there is one"
        )

    def loss(logits, target, valid, weight):
        logits = logits.float()
        if config.label_smoothing:
            target = smooth(target, config.label_smoothing)
        if class_weights is not None:
            shares = target if channels > 1 else torch.cat([1 - target, target], 1)
            valid = valid * (shares * class_weights.to(target).view(1, -1, 1, 1)).sum(1, keepdim=True)
        return sum(w * term(logits, target, valid, weight) for term, w in terms)

    return loss


def smooth(target: torch.Tensor, amount: float) -> torch.Tensor:
    """Label smoothing (Szegedy et al. 2016): targets move towards the uniform distribution.

    >>> smooth(torch.tensor([[[[0.0, 1.0]]]]), 0.1).flatten().tolist()
    [0.05000000074505806, 0.949999988079071]
    """
    classes = max(2, target.shape[1])
    return target * (1 - amount) + amount / classes


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Sigmoid for one channel, else softmax over the channels."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


def _mean(per_pixel: torch.Tensor, valid: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    share = valid * weight.view(-1, 1, 1, 1)
    return (per_pixel * share).sum() / share.sum().clamp_min(1)


@register("loss", "ce")
@register("loss", "bce")
def cross_entropy(logits, target, valid, weight):
    """Cross-entropy against soft targets; binary for one channel."""
    if logits.shape[1] == 1:
        return _mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), valid, weight)
    return _mean(-(target * logits.log_softmax(1)).sum(1, keepdim=True), valid, weight)


@register("loss", "focal")
def focal(logits, target, valid, weight, gamma: float = 2.0):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002): easy pixels count less."""
    p = probabilities(logits)
    if logits.shape[1] == 1:
        ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        miss = (p - target).abs()
    else:
        ce = -(target * logits.log_softmax(1)).sum(1, keepdim=True)
        miss = 1 - (p * target).sum(1, keepdim=True)
    return _mean(miss.pow(gamma) * ce, valid, weight)


@register("loss", "tversky")
def tversky(logits, target, valid, weight, alpha: float = 0.3, beta: float = 0.7):
    """Tversky loss (Salehi et al. 2017, arXiv:1706.05721) over the whole batch; beta weighs what is missed."""
    p, share = probabilities(logits), valid * weight.view(-1, 1, 1, 1)
    axes = (0, 2, 3)
    hit = (p * target * share).sum(axes)
    wrong, missed = (p * (1 - target) * share).sum(axes), ((1 - p) * target * share).sum(axes)
    score = (hit + 1) / (hit + alpha * wrong + beta * missed + 1)
    present = (target * share).sum(axes) > 0  # a class the batch lacks has nothing to overlap with
    return ((1 - score) * present).sum() / present.sum().clamp_min(1)


@register("loss", "dice")
def dice(logits, target, valid, weight):
    """Soft Dice over the whole batch, mean over the classes present (Milletari et al. 2016)."""
    return tversky(logits, target, valid, weight, alpha=0.5, beta=0.5)


@register("loss", "lovasz")
def lovasz(logits, target, valid, weight):
    """Lovász extension of the Jaccard loss (Berman et al. 2018, arXiv:1705.08790); targets are rounded."""
    p = probabilities(logits).movedim(1, -1)
    keep = (valid[:, 0] * weight.view(-1, 1, 1)) > 0
    p, hard = p[keep], (target.movedim(1, -1)[keep] > 0.5).float()
    losses = [_lovasz_one(p[:, c], hard[:, c]) for c in range(p.shape[1]) if hard[:, c].any()]
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def _lovasz_one(p: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    errors, order = torch.sort((truth - p).abs(), descending=True)
    truth = truth[order]
    total = truth.sum()
    jaccard = 1 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    jaccard = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return errors @ jaccard
