"""Estimates the work of a prediction: seconds of each network and view for a window, and windows of each image."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from statistics import mean

import numpy as np
import pandas as pd
import torch

from lib.competition.metadata import zoom_of
from lib.config import Config
from lib.imaging.content import content_map
from lib.imaging.roi import boxes_file, read_boxes
from lib.inference.backends.engines import as_images
from lib.inference.networks import Ensemble, ScaleGroup
from lib.inference.sliding_window import count_windows
from lib.inference.sources import batch_of, roi_of
from lib.inference.windows import Source, Windows
from lib.predict.coarse_to_fine import share_in_boxes
from lib.system.precision import finished

SAMPLED_IMAGES = 16  # so many images give the mean blank share


def measured(forward: Ensemble, windows: np.ndarray, kinds: list[str]) -> list[list[float]]:
    """Seconds for one window of every view of every network, measured on `windows` (B, h, w, C).

    `kinds`: the kind of each network. Only the first network of a kind is timed, on the window itself. Networks of one
    kind take equally long, and a view's time is proportional to its pixels.
    """
    images = as_images(windows, forward.device)

    @torch.inference_mode()
    def once(network: int, view: int) -> float:
        started = time.perf_counter()
        forward.member(network, images, [view])
        finished(images.device)
        return (time.perf_counter() - started) / len(windows)

    sizes = [math.prod(view.augment_image(images).shape) for view in forward.views]
    firsts = {kind: kinds.index(kind) for kind in kinds}
    plain = {kind: mean([once(first, 0) for _ in range(3)][1:]) for kind, first in firsts.items()}
    return [[plain[kind] * size / sizes[0] for size in sizes] for kind in kinds]


@torch.inference_mode()
def warm(forward: Ensemble, windows: np.ndarray) -> None:
    """Call every network once with each shape that the views make of `windows` (B, h, w, C)."""
    images = as_images(windows, forward.device)
    shapes = {view.augment_image(images).shape: i for i, view in enumerate(forward.views)}
    for network in range(len(forward.runs)):
        for view in shapes.values():
            forward.member(network, images, [view])


def expected_windows(images: pd.DataFrame, windows: Windows, config: Config) -> np.ndarray:
    """How many windows of each of N images will be computed, (N,): none on blank areas or outside of boxes.

    The part of an image that is not blank is taken for one square. Windows that touch its edge are computed too.
    """
    boxes, zooms = boxes_file(config.infer.roi), np.array([zoom_of(config, i) for i in images["image_id"]])
    if boxes and read_boxes(boxes[0]):
        share = share_in_boxes(boxes[0], images, windows)
    elif windows.resized or roi_of(config) == "none":
        share = 1.0
    else:
        content, side = np.sqrt(1 - images["blank_share"]), windows.size / (windows.scale * zooms)
        share = ((content + side / images["height"]) * (content + side / images["width"])).clip(upper=1).to_numpy()
    sizes = zip(images["height"], images["width"], zooms, strict=True)
    return np.array([count_windows(h, w, windows.zoomed(zoom)) for h, w, zoom in sizes]) * share


def sampled_blank_share(sources: list[Source]) -> float:
    """The mean blank share of some images, evenly spread over all; 0 where windows are computed everywhere."""
    shares = []
    for place in np.unique(np.linspace(0, len(sources) - 1, min(SAMPLED_IMAGES, len(sources))).round().astype(int)):
        source = sources[place]
        if source.roi not in ("content", "coarse"):
            return 0.0
        with source.open() as reader:
            shares.append(content_map(reader, source.blank_tolerance).share)
    return float(np.mean(shares))


def overlapping(windows: Windows, overlap: float) -> Windows:
    """The same windows with another overlap. Windows that are resized images do not change."""
    return windows if windows.resized else replace(windows, overlap=overlap)


def _ratio(windows: Windows, other: Windows) -> float:
    """How many of `windows` an image has for each of the `other` windows."""
    if windows.resized:
        return 1.0
    return (windows.scale / windows.stride * other.stride / other.scale) ** 2


def enough_images(
    turns: pd.DataFrame, images: pd.DataFrame, groups: list[ScaleGroup], kinds: list[str], config: Config, limit: float
) -> int:
    """How many images one fold's networks can predict in `limit` seconds; at least one image of each fold.

    `turns`: the images in the order of prediction (`in_turns`). `images`: rows of images.csv. `groups`: the fold's
    networks. `kinds`: the kind of each network.
    """
    rows, windows, per_window = images.set_index("image_id", drop=False), groups[0].windows, 0.0
    remaining = iter(kinds)
    for group in groups:
        kinds_of_group = [next(remaining) for _ in group.forward.runs]
        pixels = config.competition.pixels
        shape = batch_of(config), *[group.windows.size] * 2, pixels.count
        batch = np.random.default_rng(0).integers(0, 255, shape).astype(pixels.dtype)
        seconds = measured(group.forward, batch, kinds_of_group)
        per_window += sum(map(sum, seconds)) * _ratio(group.windows, windows)
    cost = expected_windows(rows.loc[turns["image_id"]], windows, config) * per_window
    return max(int((np.cumsum(cost) <= limit).sum()), int((turns["turn"] == 0).sum()))
