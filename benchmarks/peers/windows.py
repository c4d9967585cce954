"""Sliding windows as MONAI's and pytorch-toolbelt's users write them: the whole image in memory, gaussian blending.

Both take a network of (B, 3, h, w) float32 to probabilities (B, K, h, w) and return the map (K, H, W) float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from pytorch_toolbelt.inference.tiles import ImageSlicer, TileMerger

Network = Callable[[torch.Tensor], torch.Tensor]


@torch.inference_mode()
def monai_map(network: Network, image: np.ndarray, window: int, overlap: float, batch: int) -> np.ndarray:
    """`image` (H, W, 3) uint8."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    return sliding_window_inference(tensor, window, batch, network, overlap, mode="gaussian")[0].numpy()


@torch.inference_mode()
def toolbelt_map(network: Network, image: np.ndarray, weights: np.ndarray, overlap: float, batch: int) -> np.ndarray:
    """`image` (H, W, 3) uint8; `weights` (window, window) of the blending."""
    window = len(weights)
    slicer = ImageSlicer(image.shape[:2], window, round(window * (1 - overlap)), weight=weights)
    merger = None
    tiles, places = [], []

    def flush() -> None:
        nonlocal merger
        images = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float()
        probs = network(images)
        if merger is None:
            merger = TileMerger(slicer.target_shape, probs.shape[1], slicer.weight)
        merger.integrate_batch(probs, places)
        tiles.clear()
        places.clear()

    for tile, place in slicer.iter_split(image):
        tiles.append(tile)
        places.append(place)
        if len(tiles) == batch:
            flush()
    if tiles:
        flush()
    height, width = image.shape[:2]
    top, left = slicer.margin_top, slicer.margin_left
    return merger.merge_()[:, top : top + height, left : left + width].numpy()
