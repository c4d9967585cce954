"""Losses of single pixels: means of cross-entropy, or of what a pixel's distance to a border makes of its mistake."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from lib.models.outputs import probabilities
from lib.plugins import register
from lib.training.distributed import gathered, summed


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
    """Focal loss (Lin et al. 2017, arXiv:1708.02002): easy pixels have a lower weight.

    A pixel is easy where prediction and target agree (Li et al. 2020, "Generalized focal loss", arXiv:2006.04388).
    """
    p = probabilities(logits)
    if logits.shape[1] == 1:
        ce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        miss = (p - target).abs()
    else:
        ce = -(target * logits.log_softmax(1)).sum(1, keepdim=True)
        miss = (target - p).relu().sum(1, keepdim=True)
    return _mean(miss.pow(gamma) * ce, valid, weight)
