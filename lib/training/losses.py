"""Losses on the mask. Each takes logits and soft targets, so it also works with label smoothing and soft labels.

    loss(logits (B, K, H, W), target (B, K, H, W) in 0..1, valid (B, 1, H, W) in {0, 1}, weight (B,)) -> scalar

K = 1: one class, sigmoid. K > 1: exclusive classes, softmax. `valid` is 0 on ignored pixels. `weight` is the weight of
each sample (pseudo-labels have a lower one).

Several processes may share a batch. Every sum over its samples must go through `summed` of lib/training/distributed.py
(`gathered` for sorted pixels), so that each process computes the loss of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from lib.config.training import Loss
from lib.errors import UserError
from lib.models.outputs import Outputs, probabilities
from lib.plugins import find, register
from lib.training.distributed import SINGLE_PROCESS, ProcessGroup, gathered, summed


def build_loss(config: Loss, channels: int, processes: ProcessGroup = SINGLE_PROCESS) -> Callable:
    """The loss `loss(outputs, target, valid, weight, progress) -> scalar` that `train.loss` describes, in float32.

    `outputs`: logits, or `Outputs` of a network with several heads, whose losses are added. `progress`: finished share
    of the training, 0 to 1. `channels`: outputs of the network. `processes`: those that share a batch; each of them
    gets the loss of the whole batch. Raises UserError on an unknown term or a wrong number of class weights.

    >>> logits, target = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    >>> loss = build_loss(Loss(terms={"bce": 1.0}), channels=1)
    >>> round(loss(logits, target, torch.ones(1, 1, 4, 4), torch.ones(1)).item(), 4)  # log(2)
    0.6931
    """
    stages = [(0.0, config.terms), *sorted(config.then.items())]
    stages = [(start, [(find("loss", name, "train.loss.terms"), w) for name, w in terms.items() if w > 0])
              for start, terms in stages]  # fmt: skip
    class_weights = _class_weights(config, channels)

    def mask_loss(logits, target, valid, weight, terms):
        return sum(w * term(logits.float(), target, valid, weight) for term, w in terms)

    def loss(outputs, target, valid, weight, progress: float = 0.0):
        with processes.one_batch():
            return whole_loss(outputs, target, valid, weight, progress)

    def whole_loss(outputs, target, valid, weight, progress):
        outputs = outputs if isinstance(outputs, Outputs) else Outputs(outputs)
        terms = [terms for start, terms in stages if progress >= start][-1]
        present = (target * valid > 0.5).amax((2, 3)).float()
        if config.ignore_border:
            valid = valid * far_from_borders(target, config.ignore_border, valid)
        if config.soft_edges:
            target = blurred(target, config.soft_edges, valid)
        if config.label_smoothing:
            target = smooth(target, config.label_smoothing)
        if class_weights is not None:
            shares = target if channels > 1 else torch.cat([1 - target, target], 1)
            valid = valid * (shares * class_weights.to(target).view(1, -1, 1, 1)).sum(1, keepdim=True)
        total = mask_loss(outputs.mask, target, valid, weight, terms)
        if outputs.presence is not None:
            total = total + config.presence * _presence_loss(outputs.presence, present, weight)
        for logits in outputs.deep:
            logits = F.interpolate(logits.float(), target.shape[2:], mode="bilinear", align_corners=False)
            share = config.deep / len(outputs.deep)
            total = total + share * mask_loss(logits, target, valid, weight, terms)
        return total

    return loss


def _class_weights(config: Loss, channels: int) -> torch.Tensor | None:
    if not config.class_weights:
        return None
    if len(config.class_weights) != max(2, channels):
        raise UserError(
            f"train.loss.class_weights has {len(config.class_weights)} weights, expected {max(2, channels)}: one per "
            "class, background first when there is one"
        )
    return torch.tensor(config.class_weights)


def _presence_loss(logits: torch.Tensor, present: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of each class's presence. `logits` and `present`: (B, K); `weight`: (B,)."""
    per_sample = F.binary_cross_entropy_with_logits(logits.float(), present, reduction="none").mean(1)
    return summed((per_sample * weight).sum()) / summed(weight.sum()).clamp_min(1e-6)


def far_from_borders(target: torch.Tensor, pixels: int, valid: torch.Tensor | None = None) -> torch.Tensor:
    """(B, K, H, W) → (B, 1, H, W): 0 where another class is at most `pixels` away, else 1.

    Pixels that are not `valid` (B, 1, H, W) are of no class; None: all are valid.
    """
    hard, ignored = (target > 0.5).float(), torch.zeros_like(target[:, :1]) > 0 if valid is None else valid == 0
    side = 2 * pixels + 1
    largest = F.max_pool2d(hard.masked_fill(ignored, 0), side, 1, pixels)
    smallest = -F.max_pool2d(-hard.masked_fill(ignored, 1), side, 1, pixels)
    return (largest <= smallest).all(1, keepdim=True).float()


def blurred(target: torch.Tensor, sigma: float, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Targets (B, K, H, W) blurred by a Gaussian of `sigma` pixels over `valid` pixels (B, 1, H, W); None: all.

    A normalised convolution: ignored pixels do not affect their neighbours. The sum over channels does not change. A
    pixel without a valid pixel near it does not change.
    """
    if valid is None:
        return _gaussian(target, sigma)
    known = (valid > 0).to(target.dtype)
    share = _gaussian(known, sigma)
    return torch.where(share > 1e-6, _gaussian(target * known, sigma) / share.clamp_min(1e-6), target)


def _gaussian(planes: torch.Tensor, sigma: float) -> torch.Tensor:
    """(B, K, H, W) convolved with a Gaussian; border pixels are repeated."""
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=planes.device, dtype=planes.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    flat = planes.reshape(-1, 1, *planes.shape[2:])
    for weights, pad in ((kernel, (0, 0, radius, radius)), (kernel.mT, (radius, radius, 0, 0))):
        flat = F.conv2d(F.pad(flat, pad, mode="replicate"), weights)
    return flat.view_as(planes)


def smooth(target: torch.Tensor, amount: float) -> torch.Tensor:
    """Label smoothing (Szegedy et al. 2016): targets move towards the uniform distribution.

    >>> smooth(torch.tensor([[[[0.0, 1.0]]]]), 0.1).flatten().tolist()
    [0.05000000074505806, 0.949999988079071]
    """
    classes = max(2, target.shape[1])
    return target * (1 - amount) + amount / classes


def _mean(per_pixel: torch.Tensor, valid: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    share = valid * weight.view(-1, 1, 1, 1)
    return summed((per_pixel * share).sum()) / summed(share.sum()).clamp_min(1)


@register("loss", "ce")
@register("loss", "bce")
def cross_entropy(logits, target, valid, weight):
    """Cross-entropy against soft targets; binary for one channel."""
    if logits.shape[1] == 1:
        return _mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), valid, weight)
    return _mean(-(target * logits.log_softmax(1)).sum(1, keepdim=True), valid, weight)


@register("loss", "ohem")
def hard_pixels(logits, target, valid, weight, share: float = 0.25):
    """Online hard example mining (Shrivastava et al. 2016, arXiv:1604.03540): cross-entropy of the hardest pixels."""
    if logits.shape[1] == 1:
        wrong = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    else:
        wrong = -(target * logits.log_softmax(1)).sum(1, keepdim=True)
    counted = valid * weight.view(-1, 1, 1, 1)
    wrong = gathered((wrong * counted)[counted > 0])
    if not len(wrong):
        return logits.sum() * 0
    return wrong.topk(max(1, round(len(wrong) * share))).values.mean()


@register("loss", "boundary")
def boundary(logits, target, valid, weight):
    """Boundary loss (Kervadec et al. 2019, arXiv:1812.07032): mistakes are weighted by the distance to the border.

    Distances are relative to the image's longer side, between valid pixels. A class that is absent from the image, or
    fills it, has no border.
    """
    known = (valid > 0).expand_as(target)
    inside, outside = ((side & known).cpu().numpy() for side in (target > 0.5, target <= 0.5))
    distance = np.zeros(inside.shape, np.float32)
    for b, k in np.ndindex(inside.shape[:2]):
        if inside[b, k].any() and outside[b, k].any():
            out, into = (
                cv2.distanceTransform((~plane).astype(np.uint8), cv2.DIST_L2, 5)
                for plane in (inside[b, k], outside[b, k])
            )
            distance[b, k] = np.where(inside[b, k], -into, out) / max(inside.shape[2:])
    per_pixel = (probabilities(logits) * torch.from_numpy(distance).to(logits.device)).sum(1, keepdim=True)
    return _mean(per_pixel, valid, weight)


@register("loss", "focal")
def focal(logits, target, valid, weight, gamma: float = 2.0):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002): easy pixels have a lower weight."""
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
    """Tversky loss (Salehi et al. 2017, arXiv:1706.05721) over the whole batch. `beta`: weight of missed pixels."""
    p, share = probabilities(logits), valid * weight.view(-1, 1, 1, 1)
    axes = (0, 2, 3)
    hit = summed((p * target * share).sum(axes))
    wrong, missed = summed((p * (1 - target) * share).sum(axes)), summed(((1 - p) * target * share).sum(axes))
    score = (hit + 1) / (hit + alpha * wrong + beta * missed + 1)
    present = summed((target * share).sum(axes)) > 0  # a class that is absent from the batch has no overlap
    return ((1 - score) * present).sum() / present.sum().clamp_min(1)


@register("loss", "dice")
def soft_dice(logits, target, valid, weight):
    """Soft Dice over the whole batch, mean over the classes present (Milletari et al. 2016)."""
    return tversky(logits, target, valid, weight, alpha=0.5, beta=0.5)


@register("loss", "lovasz")
def lovasz(logits, target, valid, weight):
    """Lovász extension of the Jaccard loss (Berman et al. 2018, arXiv:1705.08790); targets are rounded."""
    p = probabilities(logits).movedim(1, -1)
    keep = (valid[:, 0] * weight.view(-1, 1, 1)) > 0
    p, hard = gathered(p[keep]), gathered((target.movedim(1, -1)[keep] > 0.5).float())
    losses = [_lovasz_one(p[:, c], hard[:, c]) for c in range(p.shape[1]) if hard[:, c].any()]
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def _lovasz_one(p: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    errors, order = torch.sort((truth - p).abs(), descending=True)
    truth = truth[order]
    total = truth.sum()
    jaccard = 1 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    jaccard = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return errors @ jaccard
