"""From a batch of windows to probabilities: members, test-time augmentation, precision."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lib.inference.tta import views
from lib.precision import autocast, fastest


class Ensemble:
    """Windows (B, h, w, 3) uint8 → probabilities (B, S, K, h, w) float32.

    Probabilities, not logits, are averaged over views and members. `groups` are lists of positions in
    `nets`; each group's mean is one system. By default one group holds all members; `each=True` puts
    every single member before it.
    """

    def __init__(
        self,
        nets: list[nn.Module],
        device: torch.device,
        *,
        tta: str = "none",
        precision: str = "fp32",
        groups: list[list[int]] | None = None,
        each: bool = False,
    ):
        self.nets, self.device, self.precision, self.views = nets, device, precision, list(views(tta))
        everyone = list(range(len(nets)))
        self.groups = groups or ([[i] for i in everyone] if each else []) + [everyone]

    @property
    def systems(self) -> int:
        return len(self.groups)

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(windows).to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        images = images.float().contiguous(memory_format=torch.channels_last)
        maps = [self._member(net, images) for net in self.nets]
        systems = [maps[g[0]] if len(g) == 1 else torch.stack([maps[i] for i in g]).mean(0) for g in self.groups]
        return torch.stack(systems, dim=1).cpu().numpy()

    def _member(self, net: nn.Module, images: torch.Tensor) -> torch.Tensor:
        total = None
        for view in self.views:
            with autocast(self.device, self.precision):
                logits = net(view.augment_image(images))
            logits = view.deaugment_mask(logits).float()
            probs = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
            total = probs if total is None else total + probs
        return total / len(self.views)


def fastest_precision(net: nn.Module, device: torch.device, window: int, batch_size: int) -> str:
    """The fastest precision whose probabilities agree with float32's, on windows of the real size."""
    images = np.random.default_rng(0).integers(0, 255, (batch_size, window, window, 3), np.uint8)
    return fastest(
        device,
        lambda precision: Ensemble([net], device, precision=precision)(images),
        lambda maps, exact: np.abs(maps - exact).mean() < 0.01,
    )
