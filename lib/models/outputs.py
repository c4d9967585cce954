"""What a network returns: logits, more outputs while it is trained, and the probabilities of logits."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Outputs(NamedTuple):
    """The outputs of a network with several heads while it is trained."""

    mask: torch.Tensor
    """(B, K, H, W) logits"""
    presence: torch.Tensor | None = None
    """(B, K) logits: whether each class is in the image"""
    deep: tuple[torch.Tensor, ...] = ()
    """(B, K, h, w) logits of the inner decoder blocks, smaller than the mask"""


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Logits (B, K, h, w) to probabilities in float32: sigmoid of one channel, softmax over several.

    >>> probabilities(torch.zeros(1, 2, 1, 1)).flatten().tolist()
    [0.5, 0.5]
    """
    logits = logits.float()
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
