"""What a loss makes of targets: which classes are present, which pixels are near a border, and softer targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def classes_present(target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Whether each class is in each sample, (B, K) bool: it has more than half of a valid pixel.

    The only definition of presence. `target` (B, K, H, W): as annotated, neither smoothed nor blurred, because these
    give every class a share of every pixel. `valid` (B, 1, H, W): above 0 on the pixels that count.

    >>> target = torch.tensor([[[[0.0, 0.4]], [[0.9, 0.2]]]])
    >>> classes_present(target, torch.tensor([[[[1.0, 1.0]]]])).tolist()
    [[False, True]]
    """
    return ((target > 0.5) & (valid > 0)).flatten(2).any(2)


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
