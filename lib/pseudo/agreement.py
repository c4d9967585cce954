"""How much members and TTA views agree: one more plane besides their mean probabilities."""

from __future__ import annotations

import numpy as np
import torch

from lib.errors import UserError
from lib.inference.backends.engines import as_images
from lib.inference.networks import Ensemble, marked
from lib.models.outputs import probabilities


class Votes:
    """Windows (B, h, w, C) -> (B, S, K + 1, h, w) float32: K probabilities of each group, then their spread.

    The spread is twice the standard deviation over the votes of a group's members and views, for the class where it is
    largest. It is 0 where all agree, and 1 where one half contradicts the other.
    """

    def __init__(self, ensemble: Ensemble):
        """Raises UserError if a group has a single vote."""
        self.ensemble, self.map_count = ensemble, ensemble.map_count
        if min(len(group) for group in ensemble.groups) * len(ensemble.views) < 2:
            raise UserError(
                "pseudo.confidence agreement compares votes, but a fold has one member and one view of it; train more "
                "seeds (train.seeds 42 43), or set infer.tta to flips or d4"
            )

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        images = as_images(windows, self.ensemble.device)
        groups, sums = [], {}
        for group in self.ensemble.groups:
            count, total, squares = 0, 0.0, 0.0
            for member in group:
                for view in self.ensemble.views:
                    logits = marked(self.ensemble.runs[member](view.augment_image(images)))
                    vote = view.deaugment_mask(probabilities(logits, self.ensemble.multilabel))
                    sums[member] = sums.get(member, 0.0) + vote
                    count, total, squares = count + 1, total + vote, squares + vote**2
            mean = total / count
            spread = 2 * (squares / count - mean**2).clamp(min=0).sqrt().amax(1, keepdim=True)
            groups.append(torch.cat([mean, spread], 1))
        self.ensemble.check(sums)
        return torch.stack(groups, dim=1).cpu().numpy()
