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

    def by_class(self) -> list[Outputs]:
        """The outputs of each class alone, K = 1."""
        masks = self.mask.split(1, 1)
        presence = [None] * len(masks) if self.presence is None else self.presence.split(1, 1)
        deep = zip(*(logits.split(1, 1) for logits in self.deep), strict=True) if self.deep else [()] * len(masks)
        return [Outputs(*one) for one in zip(masks, presence, deep, strict=True)]


def probabilities(logits: torch.Tensor, multilabel: bool = False) -> torch.Tensor:
    """Logits (B, K, h, w) to probabilities, at least in float32.

    `multilabel`: the classes overlap, so that each has a sigmoid of its own, like a single class. Otherwise they
    exclude one another, and their probabilities are a softmax.

    >>> probabilities(torch.zeros(1, 4, 1, 1)).flatten().tolist()
    [0.25, 0.25, 0.25, 0.25]
    >>> probabilities(torch.zeros(1, 4, 1, 1), multilabel=True).flatten().tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.sigmoid() if multilabel or logits.shape[1] == 1 else logits.softmax(1)
