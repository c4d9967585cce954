"""The whole loss of a network's outputs: weighted terms, softened targets, class weights, and further heads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from inspect import signature

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from lib.config.training import Loss
from lib.errors import UserError
from lib.models.outputs import Outputs
from lib.plugins import find
from lib.training.distributed import SINGLE_PROCESS, ProcessGroup, summed
from lib.training.losses.targets import blurred, classes_present, far_from_borders, smooth

WeightedTerms = list[tuple[Callable, float]]


def build_loss(
    config: Loss, channels: int, processes: ProcessGroup = SINGLE_PROCESS, multilabel: bool = False
) -> MaskLoss:
    """The loss `loss(outputs, target, valid, weight, progress) -> scalar` that `train.loss` describes, in float32.

    `outputs`: logits, or `Outputs` of a network with several heads, whose losses are added. `progress`: finished share
    of the training, 0 to 1. `channels`: outputs of the network, of classes that overlap where `multilabel`; `valid` may
    then have a plane for each class. `processes`: those that share a batch; each of them gets the loss of the whole
    batch. Raises UserError on an unknown term or a wrong number of class weights.

    >>> logits, target = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    >>> loss = build_loss(Loss(terms={"bce": 1.0}), channels=1)
    >>> round(loss(logits, target, torch.ones(1, 1, 4, 4), torch.ones(1)).item(), 4)  # log(2)
    0.6931
    """
    _check_class_weights(config, channels if multilabel else max(2, channels))
    return (OverlappingLoss if multilabel else MaskLoss)(config, processes)


class MaskLoss:
    """The loss of one class, or of classes that exclude one another; see `build_loss`."""

    def __init__(self, config: Loss, processes: ProcessGroup):
        stages = [(0.0, config.terms), *sorted(config.then.items())]
        self.stages = [(start, [(_term(name), w) for name, w in terms.items() if w > 0]) for start, terms in stages]
        self.config, self.processes = config, processes
        self.class_weights = torch.tensor(config.class_weights) if config.class_weights else None

    def __call__(
        self, outputs: torch.Tensor | Outputs, target: torch.Tensor, valid: torch.Tensor, weight: torch.Tensor,
        progress: float = 0.0,
    ) -> torch.Tensor:  # fmt: skip
        outputs = outputs if isinstance(outputs, Outputs) else Outputs(outputs)
        terms = [terms for start, terms in self.stages if progress >= start][-1]
        with self.processes.one_batch():
            return self.total(outputs, target, valid, weight, terms)

    def total(
        self, outputs: Outputs, target: torch.Tensor, valid: torch.Tensor, weight: torch.Tensor, terms: WeightedTerms
    ) -> torch.Tensor:
        """The sum of the losses of all heads."""
        config, in_image, annotated = self.config, classes_present(target, valid), target
        if config.ignore_border:
            valid = valid * far_from_borders(target, config.ignore_border, valid)
        if config.soft_edges:
            target = blurred(target, config.soft_edges, valid)
        if config.label_smoothing:
            target = smooth(target, config.label_smoothing)
        if self.class_weights is not None:
            shares = target if target.shape[1] > 1 else torch.cat([1 - target, target], 1)
            valid = valid * (shares * self.class_weights.to(target).view(1, -1, 1, 1)).sum(1, keepdim=True)
        counted = classes_present(annotated, valid) & (weight > 0).view(-1, 1)
        present = summed(counted.float().sum(0)) > 0

        def mask_loss(logits: torch.Tensor) -> torch.Tensor:
            return sum(w * term(logits.float(), target, valid, weight, present) for term, w in terms)

        total = mask_loss(outputs.mask)
        if outputs.presence is not None:
            total = total + config.presence * _presence_loss(outputs.presence, in_image.float(), weight)
        for logits in outputs.deep:
            logits = F.interpolate(logits.float(), target.shape[2:], mode="bilinear", align_corners=False)
            total = total + config.deep / len(outputs.deep) * mask_loss(logits)
        return total


class OverlappingLoss(MaskLoss):
    """The loss of classes that overlap: the mean over classes of the loss of each, as if it were the only one.

    A class that is absent from the batch adds nothing to the losses of regions (`dice`, `lovasz`, …) and counts in the
    mean. `train.loss.class_weights` are the weights of this mean.
    """

    def __init__(self, config: Loss, processes: ProcessGroup):
        super().__init__(config.model_copy(update={"class_weights": []}), processes)
        self.weights_of_mean = config.class_weights

    def total(
        self, outputs: Outputs, target: torch.Tensor, valid: torch.Tensor, weight: torch.Tensor, terms: WeightedTerms
    ) -> torch.Tensor:
        classes = zip(outputs.by_class(), target.split(1, 1), valid.expand_as(target).split(1, 1), strict=True)
        # What the backward pass needs of one class is computed again there, so that only one class is held in memory.
        loss_of_one, contexts = super().total, lambda: (nullcontext(), self.processes.one_batch())
        losses = [
            checkpoint(loss_of_one, *one, weight, terms, use_reentrant=False, context_fn=contexts) for one in classes
        ]
        shares = self.weights_of_mean or [1.0] * len(losses)
        return sum(share * loss for share, loss in zip(shares, losses, strict=True)) / max(1e-6, sum(shares))


def _term(name: str) -> Callable:
    """The registered loss `name`, called with `present` in any case."""
    term = find("loss", name, "train.loss.terms")
    if "present" in signature(term).parameters:
        return term
    return lambda logits, target, valid, weight, present: term(logits, target, valid, weight)


def _check_class_weights(config: Loss, expected: int) -> None:
    if config.class_weights and len(config.class_weights) != expected:
        raise UserError(
            f"train.loss.class_weights has {len(config.class_weights)} weights, expected {expected}: one per "
            "class, background first when there is one"
        )


def _presence_loss(logits: torch.Tensor, present: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of each class's presence. `logits` and `present`: (B, K); `weight`: (B,)."""
    per_sample = F.binary_cross_entropy_with_logits(logits.float(), present, reduction="none").mean(1)
    return summed((per_sample * weight).sum()) / summed(weight.sum()).clamp_min(1e-6)
