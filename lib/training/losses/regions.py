"""Losses of regions: how well a predicted region and the true one overlap, for each class over the whole batch."""

from __future__ import annotations

import torch

from lib.models.outputs import probabilities
from lib.plugins import register
from lib.training.distributed import gathered, summed


def overlap_loss(logits, target, share, present, alpha: float, beta: float):
    """1 - the Tversky index over the whole batch, mean over the classes present.

    `share` (B, 1, H, W): how much each pixel counts. `alpha`, `beta`: weights of pixels wrongly found and of those
    missed. The smallest loss is at a prediction that equals the target, also where that is neither 0 nor 1; see
    `soft_counts`.
    """
    hit, wrong, missed = soft_counts(probabilities(logits), target, share)
    score = (hit + 1) / (hit + alpha * wrong + beta * missed + 1)
    return ((1 - score) * present).sum() / present.sum().clamp_min(1)


def soft_counts(
    p: torch.Tensor, target: torch.Tensor, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Soft numbers (K,) of true positives, false positives and false negatives over the batch.

    `p`, `target`: (B, K, H, W) in 0..1. `share` (B, 1, H, W): how much each pixel counts. They are the parts that `p`
    and `target` have in common, and that one has more than the other. The usual products p * target give the same for
    targets of 0 and 1. For a target of one half, however, they score a prediction of 1 higher than one of one half.
    Source: the L1 form of Wang et al. 2023, "Jaccard metric losses", arXiv:2302.05666.
    """
    parts = torch.minimum(p, target), (p - target).relu(), (target - p).relu()
    return tuple(summed((part * share).sum((0, 2, 3))) for part in parts)


@register("loss", "tversky")
def tversky(logits, target, valid, weight, present):
    """Tversky loss (Salehi et al. 2017, arXiv:1706.05721); a missed pixel weighs more than one wrongly found."""
    return overlap_loss(logits, target, valid * weight.view(-1, 1, 1, 1), present, alpha=0.3, beta=0.7)


@register("loss", "dice")
def soft_dice(logits, target, valid, weight, present):
    """Soft Dice (Milletari et al. 2016)."""
    return overlap_loss(logits, target, valid * weight.view(-1, 1, 1, 1), present, alpha=0.5, beta=0.5)


@register("loss", "jaccard")
def soft_jaccard(logits, target, valid, weight, present):
    """Soft Jaccard index, or IoU (Rahman and Wang 2016)."""
    return overlap_loss(logits, target, valid * weight.view(-1, 1, 1, 1), present, alpha=1.0, beta=1.0)


@register("loss", "lovasz")
def lovasz(logits, target, valid, weight, present):
    """Lovász extension of the Jaccard loss (Berman et al. 2018, arXiv:1705.08790), mean over the classes present.

    Targets are rounded. A class is left out where soft edges leave none of its pixels above one half.
    """
    p = probabilities(logits).movedim(1, -1)
    keep = (valid[:, 0] * weight.view(-1, 1, 1)) > 0
    p, hard = gathered(p[keep]), gathered((target.movedim(1, -1)[keep] > 0.5).to(p.dtype))
    losses = [_lovasz_one(p[:, c], hard[:, c]) for c in range(p.shape[1]) if present[c] and hard[:, c].any()]
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def _lovasz_one(p: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    errors, order = torch.sort((truth - p).abs(), descending=True)
    truth = truth[order]
    total = truth.sum()
    jaccard = 1 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    jaccard = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return errors @ jaccard
