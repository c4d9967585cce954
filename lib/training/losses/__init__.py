"""Losses on the mask. Each takes logits and soft targets, so it also works with label smoothing and soft labels.

    loss(logits (B, K, H, W), target (B, K, H, W) in 0..1, valid (B, 1, H, W) in {0, 1}, weight (B,)) -> scalar

K = 1: one class, sigmoid. K > 1: exclusive classes, softmax. Classes that overlap come one by one, each with K = 1.
`valid` is 0 on ignored pixels. `weight` is the weight of each sample (pseudo-labels have a lower one). A loss with a
parameter `present` also gets (K,) bool: which classes the batch has (`classes_present` in targets.py).

Several processes may share a batch. Every sum over its samples must go through `summed` of lib/training/distributed.py
(`gathered` for sorted pixels), so that each process computes the loss of the whole batch.
"""

from lib.training.losses import pixels, regions  # noqa: F401  (they register themselves)
from lib.training.losses.build import build_loss

__all__ = ["build_loss"]
