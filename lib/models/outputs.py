"""What a network gives while it is trained, where it has more than one head."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Outputs(NamedTuple):
    """What a network with more than one head gives while it is trained."""

    mask: torch.Tensor
    """(B, K, H, W) logits"""
    presence: torch.Tensor | None = None
    """(B, K) logits: is the class there at all"""
    deep: tuple[torch.Tensor, ...] = ()
    """(B, K, h, w) logits of the decoder's inner blocks, smaller"""
